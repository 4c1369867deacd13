//! A node is away while others write: what crosses when it is back, and how soon it is equal.

use std::time::{Duration, Instant};

use super::load::{self, key};
use super::measured::{Measured, Unit};
use super::probe::CATCH_UP;
use super::{BUCKET, LARGE, NODES, SMALL, Stage, VICTIM};
use crate::trouble::Trouble;

const TAKEN: &str = "annulus_catch_up_objects_taken_total";
const SENT: &str = "annulus_catch_up_objects_sent_total";
/// Keys that differ between owners that are the same otherwise.
const FEW: u64 = 10;

/// From when the node that was away has its links again.
struct Return {
    /// Until it has all objects, in seconds.
    taken: f64,
    /// Until all nodes know that all are equal, in seconds.
    equal: f64,
    /// Bytes that nodes sent to each other for it, until then.
    bytes: f64,
    /// Objects that were sent.
    sent: f64,
}

/// The victim misses writes and comes back.
async fn away(stage: &mut Stage, name: &str, writes: u64, bytes: usize) -> Result<Return, Trouble> {
    stage.cluster.kill(VICTIM);
    load::write(&stage.others(), name, 0..writes, bytes).await?;
    let (sent, before) = (stage.probe.all(SENT).await, stage.probe.catch_up_bytes().await);
    stage.cluster.start(VICTIM)?;
    stage.probe.until_linked().await?;
    let linked = Instant::now();
    // Who looks costs the node something.
    let look = Duration::from_micros(20 * writes).clamp(Duration::from_millis(5), Duration::from_millis(200));
    stage.probe.until_victim_has(TAKEN, writes as f64, look).await?;
    let taken = linked.elapsed().as_secs_f64();
    stage.probe.until_equal(Duration::from_millis(50)).await?;
    Ok(Return {
        taken,
        equal: linked.elapsed().as_secs_f64(),
        bytes: told(before, stage.probe.catch_up_bytes().await),
        sent: stage.probe.all(SENT).await - sent,
    })
}

/// The sum of what came between two looks, which is told kind by kind to who watches.
fn told(before: [f64; CATCH_UP.len()], after: [f64; CATCH_UP.len()]) -> f64 {
    let each: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let kinds: Vec<String> = CATCH_UP
        .iter()
        .zip(&each)
        .map(|(kind, bytes)| format!("{kind} {bytes}"))
        .collect();
    eprintln!("bytes sent: {}", kinds.join(", "));
    each.iter().sum()
}

pub(super) async fn few(stage: &mut Stage, measured: &mut Measured, keys: u64) -> Result<(), Trouble> {
    let back = away(stage, "few", FEW, SMALL).await?;
    let what = |what: &str| format!("{FEW} of {keys} keys differ: {what}");
    let pairs = (NODES - 1) as f64;
    measured.plain(
        what("bytes on the wire, with all other owners"),
        back.bytes,
        Unit::Bytes,
    );
    measured.bytes(
        what("bytes on the wire, between two owners"),
        back.bytes / pairs,
        10.0 * 1024.0,
    );
    measured.seconds(what("from link to equal"), back.taken, 1.0);
    measured.plain(what("until all nodes know"), back.equal, Unit::Seconds);
    Ok(())
}

pub(super) async fn many(stage: &mut Stage, measured: &mut Measured, writes: u64) -> Result<(), Trouble> {
    let back = away(stage, "many", writes, LARGE).await?;
    let object = BUCKET.len() + key("many", 0).len() + LARGE;
    let what = |what: &str| format!("a node away for {writes} writes of {LARGE} B: {what}");
    measured.count(what("times that an object crosses"), back.sent / writes as f64, 1.0);
    let all = writes as f64 * object as f64;
    // Of few writes the clocks of all partitions are much.
    let limit = if writes >= 100_000 { 1.1 } else { 2.0 };
    measured.count(
        what("bytes, by those of bucket, key and value"),
        back.bytes / all,
        limit,
    );
    measured.plain(what("from link to equal"), back.taken, Unit::Seconds);
    measured.plain(
        what("MiB a second"),
        back.bytes / back.taken / f64::from(1 << 20),
        Unit::Number,
    );
    Ok(())
}
