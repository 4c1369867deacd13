//! After the last fault everything comes to rest by itself: nodes serve, hints are delivered, and all owners of a key hold the same, though
//! nobody reads it from more than one. Then every key can be read from all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use annulus_checker::{Final, Operation, Outcome};
use annulus_client::{Client, Liveness, Options, Quorum, Readiness};

use crate::cluster::name;
use crate::record::Recorder;
use crate::workload::number_of;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// A node that is asked may take so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads all keys, at every node.
#[derive(Clone)]
pub(crate) struct Observer {
    urls: Vec<String>,
    keys: Vec<(&'static str, String)>,
}

/// One owner's values of one key.
struct Seen {
    node: String,
    at_us: u64,
    values: Vec<u64>,
}

impl Observer {
    pub(crate) fn new(urls: Vec<String>, keys: Vec<(&'static str, String)>) -> Observer {
        Observer { urls, keys }
    }

    /// Connections belong to the runtime that makes them, so every user has its own.
    fn nodes(&self) -> Vec<Client> {
        let connect = |url: &String| Client::builder().attempts(1).deadline(PATIENCE).build([url]).ok();
        self.urls.iter().filter_map(connect).collect()
    }

    /// By key, its first owner.
    pub(crate) async fn first_owners(&self) -> Result<Vec<usize>, String> {
        let nodes = self.nodes();
        let mut first = Vec::new();
        for (bucket, key) in &self.keys {
            let location = nodes[0].locate(bucket, key).await.map_err(|error| error.to_string())?;
            let owner = (0..nodes.len()).find(|&index| location.owners.first() == Some(&name(index)));
            first.push(owner.ok_or(format!("{bucket}/{key} has no owner"))?);
        }
        Ok(first)
    }

    /// Waits until all nodes serve; says what is wrong where they do not in time.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), String> {
        let nodes = self.nodes();
        let mut waits_for = String::new();
        until(Instant::now() + limit, async || {
            for (index, node) in nodes.iter().enumerate() {
                let why = match node.ready().await {
                    Ok(Readiness::Ready) => continue,
                    Ok(Readiness::NotReady(problem)) => problem.to_string(),
                    Err(error) => error.to_string(),
                };
                waits_for = format!("{} is not ready {limit:?} after the last fault: {why}", name(index));
                return false;
            }
            true
        })
        .await
        .then_some(())
        .ok_or(waits_for)
    }

    /// Waits until every node takes every other for alive, and no hint waits any more.
    async fn quiet(&self, limit: Duration) -> Result<(), String> {
        let nodes = self.nodes();
        let mut waits_for = String::new();
        until(Instant::now() + limit, async || {
            for (index, node) in nodes.iter().enumerate() {
                let Ok(cluster) = node.cluster().await else {
                    return false;
                };
                if let Some(member) = cluster.nodes.iter().find(|member| member.state != Liveness::Alive) {
                    waits_for = format!(
                        "to {}, {} is {} after {limit:?}",
                        name(index),
                        member.name,
                        member.state
                    );
                    return false;
                }
                let Ok(metrics) = node.metrics().await else {
                    return false;
                };
                let hints = metric(&metrics, "annulus_hints_waiting");
                if hints != Some(0.0) {
                    waits_for = format!("{} still keeps {} hints", name(index), hints.unwrap_or(f64::NAN));
                    return false;
                }
            }
            true
        })
        .await
        .then_some(())
        .ok_or(waits_for)
    }

    /// Reads every key from all its owners, again and again until all have answered, or says which have not.
    async fn read_all(&self, limit: Duration) -> Result<(), String> {
        let nodes = self.nodes();
        let all = options(Quorum::All);
        let mut why = String::new();
        let end = Instant::now() + limit;
        for (place, (bucket, key)) in self.keys.iter().enumerate() {
            let mut turn = place;
            let answered = until(end, async || {
                turn += 1;
                match nodes[turn % nodes.len()].get(bucket, key, &all).await {
                    Ok(_) => true,
                    Err(error) => {
                        why = error.to_string();
                        false
                    }
                }
            });
            if !answered.await {
                return Err(format!(
                    "a read of all owners does not succeed for {limit:?} after the last fault: {why}"
                ));
            }
        }
        Ok(())
    }

    /// Waits until no node doubts what it holds, and no hint waits; whether it came to be.
    pub(crate) async fn refill(&self, limit: Duration) -> bool {
        self.ready(limit).await.is_ok() && self.quiet(limit).await.is_ok()
    }

    /// Waits for rest and keeps what each owner holds then; says what does not come to rest.
    pub(crate) async fn settle(&self, recorder: &Recorder, limit: Duration) -> Vec<String> {
        if let Err(why) = self.ready(limit).await {
            return vec![why];
        }
        let mut problems: Vec<String> = self.quiet(limit).await.err().into_iter().collect();
        self.finals(recorder, limit, &mut problems).await;
        problems.extend(self.read_all(limit).await.err());
        problems
    }

    async fn finals(&self, recorder: &Recorder, limit: Duration, problems: &mut Vec<String>) {
        let nodes = self.nodes();
        let end = Instant::now() + limit;
        for (bucket, key) in &self.keys {
            let mut seen: Result<Vec<Seen>, String> = Ok(Vec::new());
            let alike = until(end, async || {
                seen = self.owners(&nodes, recorder, (bucket, key)).await;
                seen.as_ref().is_ok_and(|seen| are_alike(seen))
            });
            alike.await;
            match seen {
                Err(why) => problems.push(why),
                Ok(seen) => {
                    for Seen { node, at_us, values } in seen {
                        let key = format!("{bucket}/{key}");
                        recorder.last(Final {
                            key,
                            node,
                            at_us,
                            values,
                        });
                    }
                }
            }
        }
    }

    /// What each owner of a key holds, read from it alone.
    async fn owners(
        &self,
        nodes: &[Client],
        recorder: &Recorder,
        (bucket, key): (&str, &str),
    ) -> Result<Vec<Seen>, String> {
        let location = nodes[0].locate(bucket, key).await.map_err(|error| error.to_string())?;
        let one = options(Quorum::One);
        let mut seen = Vec::new();
        for owner in location.owners {
            let index = (0..nodes.len()).find(|&index| name(index) == owner);
            let node = index.map(|index| &nodes[index]).ok_or(format!("{owner} is no node"))?;
            let read = node.get(bucket, key, &one).await.map_err(|error| error.to_string())?;
            let mut values: Vec<u64> = read.values().iter().map(|value| number_of(&value.bytes)).collect();
            values.sort_unstable();
            seen.push(Seen {
                node: owner,
                at_us: recorder.now_us(),
                values,
            });
        }
        Ok(seen)
    }
}

/// Writes that may take effect late have a time limit; after the latest of them, nothing begins any more.
pub(crate) async fn stragglers(recorder: &Recorder) {
    let latest = {
        let kept = recorder.kept();
        let unknown = kept
            .history
            .operations
            .iter()
            .filter(|operation| operation.outcome == Outcome::Unknown);
        unknown
            .map(|operation: &Operation| operation.deadline_us)
            .max()
            .unwrap_or(0)
    };
    let left = latest.saturating_sub(recorder.now_us());
    tokio::time::sleep(Duration::from_micros(left)).await;
}

fn options(r: Quorum) -> Options {
    Options {
        r: Some(r),
        sloppy: Some(false),
        timeout: Some(Duration::from_secs(2)),
        attempts: Some(1),
        ..Options::default()
    }
}

fn are_alike(seen: &[Seen]) -> bool {
    seen.iter().map(|seen| &seen.values).collect::<BTreeSet<_>>().len() <= 1
}

/// Asks until the answer is yes; no, if it is not by then, though it was asked once at least.
pub(crate) async fn until(end: Instant, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    loop {
        if is_so().await {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A metric without labels.
fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP hints x\nhints_waiting_bytes 7\nhints_waiting 3\n";
        assert_eq!(metric(text, "hints_waiting"), Some(3.0));
        assert_eq!(metric(text, "hints"), None);
    }
}
