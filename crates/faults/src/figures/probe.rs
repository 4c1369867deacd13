//! What the nodes say of themselves: their metrics, and how far they are apart.

use std::fs;
use std::time::{Duration, Instant};

use annulus_client::Client;

use super::{NODES, PATIENCE, VICTIM};
use crate::modes::client;
use crate::trouble::Trouble;

/// Messages by which owners catch up with each other.
pub(super) const CATCH_UP: [&str; 4] = ["ClockHashes", "Clocks", "CatchUp", "CaughtUp"];

/// Asks each node.
pub(super) struct Probe {
    nodes: Vec<Client>,
}

impl Probe {
    pub(super) fn new(urls: &[String]) -> Result<Probe, Trouble> {
        let nodes = urls.iter().map(client).collect::<Result<_, _>>()?;
        Ok(Probe { nodes })
    }

    /// One node's metrics; nothing where it does not answer.
    async fn text(&self, node: usize) -> Option<String> {
        self.nodes[node].metrics().await.ok()
    }

    /// One metric of one node; 0 where it does not answer.
    pub(super) async fn one(&self, node: usize, name: &str) -> f64 {
        self.text(node).await.map_or(0.0, |text| sum(&text, &[name]))
    }

    /// A metric, of all nodes that answer.
    pub(super) async fn all(&self, name: &str) -> f64 {
        let mut total = 0.0;
        for node in 0..NODES {
            total += self.one(node, name).await;
        }
        total
    }

    /// Bytes of all that nodes have sent to each other to catch up, frames included, by kind of message.
    pub(super) async fn catch_up_bytes(&self) -> [f64; CATCH_UP.len()] {
        let names = CATCH_UP.map(|kind| format!("annulus_link_bytes_sent_total{{kind=\"{kind}\"}}"));
        let mut bytes = [0.0; CATCH_UP.len()];
        for node in 0..NODES {
            let text = self.text(node).await.unwrap_or_default();
            for (bytes, name) in bytes.iter_mut().zip(&names) {
                *bytes += sum(&text, &[name]);
            }
        }
        bytes
    }

    /// Waits until the node that was away has links to all others.
    pub(super) async fn until_linked(&self) -> Result<(), Trouble> {
        let others = (NODES - 1) as f64;
        let is_linked = async || self.one(VICTIM, "annulus_links_up").await >= others;
        until("it has no links to the others", Duration::from_millis(5), is_linked).await
    }

    /// Waits until a counter of the node that was away is as high as this.
    pub(super) async fn until_victim_has(&self, name: &str, value: f64, look: Duration) -> Result<(), Trouble> {
        let has = async || self.one(VICTIM, name).await >= value;
        until(&format!("{name} is not {value}"), look, has).await
    }

    /// Waits until every node says that it is equal to all others, that no log is needed and that nothing is in doubt.
    pub(super) async fn until_equal(&self, look: Duration) -> Result<(), Trouble> {
        until("the nodes do not become equal", look, async || {
            for node in &self.nodes {
                let is_equal = node
                    .replication()
                    .await
                    .is_ok_and(|lag| lag.peers.len() == NODES - 1 && lag.log_entries == 0 && lag.partitions.is_empty());
                if !is_equal
                    || !node
                        .ready()
                        .await
                        .is_ok_and(|ready| ready == annulus_client::Readiness::Ready)
                {
                    return false;
                }
            }
            true
        })
        .await
    }

    /// Waits until the node that was wiped has taken part again and doubts nothing.
    pub(super) async fn until_refilled(&self, objects: f64) -> Result<(), Trouble> {
        until("it is not refilled", Duration::from_millis(200), async || {
            let Some(text) = self.text(VICTIM).await else {
                return false;
            };
            sum(&text, &["annulus_catch_up_objects_taken_total"]) >= objects
                && sum(&text, &["annulus_partitions_in_doubt"]) == 0.0
                && sum(&text, &["annulus_ready"]) == 1.0
        })
        .await
    }
}

async fn until(what: &str, look: Duration, mut is_so: impl AsyncFnMut() -> bool) -> Result<(), Trouble> {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        if Instant::now() >= end {
            return Err(Trouble::NotReady(format!("{what} within {PATIENCE:?}")));
        }
        tokio::time::sleep(look).await;
    }
    Ok(())
}

/// The sum of metrics, each named with its labels.
fn sum(text: &str, names: &[&str]) -> f64 {
    let value = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        names.contains(&name).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum()
}

/// Seconds of processor time that a process has used, all its threads together.
pub(super) fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    // Linux counts in hundredths for those who read this.
    ticks.sum::<u64>() as f64 / 100.0
}

/// Seconds in which a process's first thread has run or waited for a core.
pub(super) fn busy_seconds(process: u32) -> f64 {
    let times = fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    let nanoseconds = times
        .split_whitespace()
        .take(2)
        .filter_map(|time| time.parse::<u64>().ok());
    nanoseconds.sum::<u64>() as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_by_their_whole_names_and_labels() {
        let text = "# HELP a x\na 1\na_total 2\nb{kind=\"x\"} 3\nb{kind=\"y\"} 4\n";
        assert_eq!(sum(text, &["a", "b{kind=\"y\"}"]), 5.0);
        assert_eq!(sum(text, &["b"]), 0.0);
    }
}
