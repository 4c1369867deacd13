//! `annulus repair`: owners compare and mend what they hold by themselves; this makes them do it now, and shows how far they are.

use std::time::Duration;

use annulus_client::{Client, Cluster, Error, Member, Replication};
use serde::Serialize;

use super::{failure::Failure, output, table::Table, target::Target};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A node that does not answer within this is shown as not answering.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Repair {
    /// Give up after so many seconds if something is still to be done; nothing is lost by it
    #[arg(long, default_value_t = 3600)]
    within: u64,
    #[command(flatten)]
    target: Target,
}

/// What one node says.
#[derive(Serialize)]
struct Line {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<Replication>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Line {
    /// Nothing is to be done there.
    fn is_done(&self) -> bool {
        let is_equal = |said: &Replication| said.partitions.iter().all(|lag| lag.ahead == 0 && lag.behind == 0);
        let is_done = |said: &Replication| is_equal(said) && said.partitions_in_doubt == 0;
        self.replication.as_ref().is_some_and(is_done)
    }
}

impl Repair {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Cluster { nodes, .. } = self.target.client()?.cluster().await?;
        let mut lines = ask_all(&nodes, true).await;
        let mut shown = String::new();
        for _ in 0..self.within {
            let summary = summary(&lines);
            if !self.target.json && summary != shown {
                output::line(&summary)?;
                shown = summary;
            }
            tokio::time::sleep(INTERVAL).await;
            lines = ask_all(&nodes, false).await;
            if lines.iter().all(Line::is_done) {
                break;
            }
        }
        match self.target.json {
            true => output::json(&lines)?,
            false => print(&lines)?,
        }
        match lines.iter().all(Line::is_done) {
            true => Ok(()),
            false => Err(Failure::new(
                "something is still to be done; the nodes go on with it by themselves. A node that is down holds up those that \
                 share partitions with it.",
            )),
        }
    }
}

async fn ask_all(nodes: &[Member], repair: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    for member in nodes {
        let said = ask(member, repair).await;
        let error = said.as_ref().err().map(ToString::to_string);
        lines.push(Line {
            node: member.name.clone(),
            replication: said.ok(),
            error,
        });
    }
    lines
}

async fn ask(member: &Member, repair: bool) -> Result<Replication, Error> {
    let client = Client::builder()
        .attempts(1)
        .attempt_limit(PATIENCE)
        .build([&member.http])?;
    match repair {
        true => client.repair().await,
        false => client.replication().await,
    }
}

fn summary(lines: &[Line]) -> String {
    let said = || lines.iter().filter_map(|line| line.replication.as_ref());
    let ahead: u64 = said().map(Replication::missing).sum();
    let doubtful: u64 = said().map(|said| said.partitions_in_doubt).sum();
    let silent = lines.iter().filter(|line| line.replication.is_none()).count();
    format!("{ahead} writes are missing somewhere, {doubtful} partitions are in doubt, {silent} nodes do not answer")
}

fn print(lines: &[Line]) -> Result<(), Failure> {
    let mut table = Table::new(["NODE", "MISSING", "IN DOUBT", "LOG ENTRIES", "OLDEST"]);
    for line in lines {
        let row = match &line.replication {
            Some(said) => [
                said.missing().to_string(),
                said.partitions_in_doubt.to_string(),
                said.log_entries.to_string(),
                oldest(said),
            ],
            None => ["?".to_owned(), "?".to_owned(), "?".to_owned(), "?".to_owned()],
        };
        let [missing, doubtful, entries, oldest] = row;
        table.row([line.node.clone(), missing, doubtful, entries, oldest]);
    }
    table.print()?;
    for line in lines {
        if let Some(error) = &line.error {
            output::line(format!("\n{} does not answer: {error}", line.node))?;
        }
    }
    Ok(())
}

/// How long the oldest entry of the log has been needed.
pub(super) fn oldest(said: &Replication) -> String {
    let oldest = said.partitions.iter().map(|lag| lag.log_age_seconds).max();
    oldest.map_or("-".to_owned(), |seconds| format!("{seconds} s"))
}
