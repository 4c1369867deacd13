//! Acknowledged writes that are gone: nodes are killed under writers, started again, and every owner is asked for every key.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use annulus_client::{Client, Options, Put, Quorum};
use rand::RngExt;
use tokio::sync::Notify;

use super::{BUCKET, Mode, NODES, client, value};
use crate::arguments::Modes;
use crate::cluster::{Cluster, name};
use crate::run::await_ready;
use crate::settle::{Observer, until};
use crate::trouble::Trouble;
use crate::workload::join_all;

/// The node that all clients talk to, and that coordinates all keys.
const COORDINATOR: usize = 0;
/// A round has so many keys, each written once.
const KEYS: usize = 1000;
/// The kill comes so long at most after the acknowledgement that sets it off: not always at the same point of a batch.
const JITTER: Duration = Duration::from_millis(5);
/// A read of all owners succeeds within this, as all of them are up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What happens to the nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9 of the coordinator.
    CoordinatorKilled,
    /// kill -9 of all nodes at once.
    AllKilled,
}

/// In the order in which they are measured.
pub(crate) const FAULTS: [Fault; 2] = [Fault::CoordinatorKilled, Fault::AllKilled];

impl Fault {
    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Fault::CoordinatorKilled => "coordinator killed",
            Fault::AllKilled => "all killed",
        }
    }

    fn victims(self) -> Vec<usize> {
        match self {
            Fault::CoordinatorKilled => vec![COORDINATOR],
            Fault::AllKilled => (0..NODES).collect(),
        }
    }
}

/// What all rounds of one fault came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Writes that were answered with success.
    pub(crate) acknowledged: usize,
    /// Those of them that no owner has.
    pub(crate) lost: usize,
}

/// Plays all rounds, and counts.
pub(crate) async fn measure(
    arguments: &Modes,
    mode: &Mode,
    fault: Fault,
    cluster: &mut Cluster,
) -> Result<Loss, Trouble> {
    let mut loss = Loss::default();
    for round in 0..arguments.rounds {
        let nodes = (0..arguments.connections).map(|_| client(&cluster.urls()[COORDINATOR]));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let keys = coordinated(&nodes, &format!("{}-{round}", fault.text())).await?;
        let acknowledged = write(mode, fault, cluster, &nodes, &keys).await?;
        for victim in fault.victims() {
            cluster.start(victim)?;
        }
        await_ready(&Observer::new(cluster.urls(), Vec::new()), cluster).await?;
        loss.acknowledged += acknowledged.len();
        loss.lost += gone(&nodes, &acknowledged).await?;
    }
    Ok(loss)
}

/// Keys that the coordinator is the first owner of: others it would only pass on.
async fn coordinated(nodes: &[Client], prefix: &str) -> Result<Vec<(String, Put)>, Trouble> {
    let (found, next, failed) = (RefCell::new(Vec::new()), Cell::new(0_u64), RefCell::new(None));
    let search = async |node: &Client| {
        while found.borrow().len() < KEYS && failed.borrow().is_none() {
            let key = format!("{prefix}-{}", next.replace(next.get() + 1));
            match node.locate(BUCKET, &key).await {
                Ok(location) if location.owners.first() == Some(&name(COORDINATOR)) => {
                    let value = value(&key);
                    found.borrow_mut().push((key, value));
                }
                Ok(_) => {}
                Err(error) => drop(failed.replace(Some(error.to_string()))),
            }
        }
    };
    join_all(nodes.iter().map(search).collect()).await;
    match failed.into_inner() {
        Some(why) => Err(Trouble::NotReady(why)),
        None => Ok(found.into_inner()),
    }
}

/// Writes until the victims are killed, somewhere in the middle. The keys that were acknowledged, with their values.
async fn write<'k>(
    mode: &Mode,
    fault: Fault,
    cluster: &mut Cluster,
    nodes: &[Client],
    keys: &'k [(String, Put)],
) -> Result<Vec<&'k (String, Put)>, Trouble> {
    let kill_after = rand::rng().random_range(keys.len() / 5..keys.len() / 2);
    let jitter = rand::rng().random_range(Duration::ZERO..JITTER);
    let (acknowledged, next, reached) = (RefCell::new(Vec::new()), Cell::new(0), Notify::new());
    let last_failure = RefCell::new(String::new());
    let writer = async |node: &Client| {
        while let Some(written) = keys.get(next.replace(next.get() + 1)) {
            let (key, value) = written;
            match node.put(BUCKET, key, value.clone(), &mode.options()).await {
                Ok(_) => acknowledged.borrow_mut().push(written),
                Err(error) => {
                    last_failure.replace(error.to_string());
                    return;
                }
            }
            if acknowledged.borrow().len() == kill_after {
                reached.notify_one();
            }
        }
    };
    let writers = async {
        join_all(nodes.iter().map(writer).collect()).await;
        reached.notify_one();
    };
    let killer = async {
        reached.notified().await;
        tokio::time::sleep(jitter).await;
        cluster.kill_at_once(&fault.victims());
    };
    tokio::join!(writers, killer);
    let acknowledged = acknowledged.into_inner();
    match acknowledged.len() < kill_after {
        true => Err(Trouble::NotReady(format!(
            "PUTs failed before anything was killed: {}",
            last_failure.into_inner()
        ))),
        false => Ok(acknowledged),
    }
}

/// How many of these no owner has.
async fn gone(nodes: &[Client], acknowledged: &[&(String, Put)]) -> Result<usize, Trouble> {
    let options = Options {
        r: Some(Quorum::All),
        sloppy: Some(false),
        attempts: Some(1),
        ..Options::default()
    };
    let (next, lost, failed) = (Cell::new(0), Cell::new(0), RefCell::new(None));
    let reader = async |node: &Client| {
        while let Some((key, value)) = acknowledged.get(next.replace(next.get() + 1)) {
            let mut why = String::new();
            let answered = until(Instant::now() + PATIENCE, async || {
                match node.get(BUCKET, key, &options).await {
                    Ok(read) => {
                        let is_there = read.values().iter().any(|found| found.bytes == value.bytes);
                        lost.set(lost.get() + usize::from(!is_there));
                        true
                    }
                    Err(error) => {
                        why = error.to_string();
                        false
                    }
                }
            });
            if !answered.await {
                failed.replace(Some(why));
                return;
            }
        }
    };
    join_all(nodes.iter().map(reader).collect()).await;
    match failed.into_inner() {
        Some(why) => Err(Trouble::NotReady(format!(
            "a read of all owners does not succeed {PATIENCE:?} after they were ready: {why}"
        ))),
        None => Ok(lost.get()),
    }
}
