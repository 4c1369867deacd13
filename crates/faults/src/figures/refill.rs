//! An owner loses its directory: how fast it is refilled, beside what its disk and one core allow, and what clients notice.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::load::{self, Foreground};
use super::measured::{Measured, Unit};
use super::probe::{busy_seconds, cpu_seconds};
use super::{LARGE, Stage, VICTIM, store};
use crate::arguments::Figures;
use crate::trouble::Trouble;

const NAME: &str = "object";
/// How long the foreground runs where nothing happens.
const QUIET: Duration = Duration::from_secs(15);

pub(super) async fn measure(arguments: &Figures, home: &Path, measured: &mut Measured) -> Result<(), Trouble> {
    let objects = arguments.keys / 5;
    let mut stage = Stage::new(arguments, &home.join("refill")).await?;
    eprintln!("loading {objects} keys of {LARGE} bytes");
    load::write(&stage.urls(), NAME, 0..objects, LARGE).await?;
    stage.rest().await?;
    let what = |what: &str| format!("an owner of {objects} keys of {LARGE} B wiped: {what}");

    wipe(&mut stage).await?;
    let alone = refill(&stage, objects).await?;
    stage.rest().await?;

    let quiet = Foreground::new(arguments.rate);
    let (urls, length) = (stage.others(), QUIET.min(Duration::from_millis(objects)));
    let stop = async {
        tokio::time::sleep(length).await;
        quiet.stop();
    };
    tokio::join!(quiet.run(&urls, NAME, objects, LARGE), stop).0?;
    stage.rest().await?;
    wipe(&mut stage).await?;
    let busy = Foreground::new(arguments.rate);
    let refilled = async {
        let refilled = refill(&stage, objects).await;
        busy.stop();
        refilled
    };
    let (ran, beside) = tokio::join!(busy.run(&urls, NAME, objects, LARGE), refilled);
    ran?;
    let beside = beside?;
    stage.rest().await?;
    drop(stage);

    let (engine, engine_cpu) = store::refill(arguments, home, objects)?;
    let rate = |seconds: f64| objects as f64 / seconds;
    measured.plain(what("objects a second"), rate(alone.seconds), Unit::Number);
    measured.plain(
        what("objects a second that the engine takes from one thread"),
        rate(engine),
        Unit::Number,
    );
    measured.plain(
        what("CPU seconds for 100,000 objects"),
        alone.cpu / objects as f64 * 1e5,
        Unit::Number,
    );
    measured.plain(
        what("CPU seconds of the engine alone"),
        engine_cpu / objects as f64 * 1e5,
        Unit::Number,
    );
    measured.faster(what("by what the engine takes"), engine / alone.seconds, 0.6);
    let share = what("share of the time in which its thread ran or waited for a core");
    measured.plain(share, alone.busy, Unit::Number);
    measured.plain(what("refilled in"), alone.seconds, Unit::Seconds);
    measured.plain(what("refilled beside a foreground in"), beside.seconds, Unit::Seconds);
    let ((p50, p99, requests, failed), (p50_busy, p99_busy, requests_busy, failed_busy)) =
        (quiet.summary(), busy.summary());
    measured.plain(what("foreground p50 before"), p50, Unit::Milliseconds);
    measured.plain(what("foreground p50 meanwhile"), p50_busy, Unit::Milliseconds);
    measured.plain(what("foreground p99 before"), p99, Unit::Milliseconds);
    measured.plain(what("foreground p99 meanwhile"), p99_busy, Unit::Milliseconds);
    measured.slower(what("foreground p99, by that before"), p99_busy / p99, 2.0);
    eprintln!("{requests} requests before, of which {failed} failed; {requests_busy} meanwhile, {failed_busy} failed");
    measured.count(what("requests that failed"), (failed + failed_busy) as f64, 0.0);
    Ok(())
}

struct Refilled {
    /// From its links until nothing is in doubt.
    seconds: f64,
    /// Processor time of the refilled node in them.
    cpu: f64,
    /// In which part of them its thread ran, or waited for a core that others had: the rest it waited for peers or the disk.
    busy: f64,
}

/// Returns once the wiped node has its links again.
async fn wipe(stage: &mut Stage) -> Result<(), Trouble> {
    stage.cluster.kill(VICTIM);
    let data = stage.cluster.home(VICTIM).join("data");
    fs::remove_dir_all(&data).map_err(|error| Trouble::file(&data, error))?;
    stage.cluster.start(VICTIM)?;
    stage.probe.until_linked().await
}

async fn refill(stage: &Stage, objects: u64) -> Result<Refilled, Trouble> {
    let process = stage.cluster.pids()[VICTIM].load(Ordering::Relaxed);
    let (linked, cpu, busy) = (Instant::now(), cpu_seconds(process), busy_seconds(process));
    stage.probe.until_refilled(objects as f64 * 0.99).await?;
    let seconds = linked.elapsed().as_secs_f64();
    Ok(Refilled {
        seconds,
        cpu: cpu_seconds(process) - cpu,
        busy: (busy_seconds(process) - busy) / seconds,
    })
}
