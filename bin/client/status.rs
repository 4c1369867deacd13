//! `annulus status`: what one node thinks of all, beside what each says of itself.

use std::time::Duration;

use annulus_client::{Client, Cluster, Liveness, Member, Readiness, Replication};
use serde::Serialize;

use super::{failure::Failure, output, table::Table, target::Target};

/// A node that does not say within this whether it is ready is shown as not answering.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Status {
    /// End with status 1 unless every member is alive and ready
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Report {
    cluster: String,
    epoch: u64,
    node: String,
    nodes: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    member: Member,
    ready: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How far it and its co-owners are apart; nothing where it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<Replication>,
}

impl Status {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Cluster {
            cluster,
            epoch,
            node,
            nodes,
        } = self.target.client()?.cluster().await?;
        let asked: Vec<_> = nodes.into_iter().map(|member| tokio::spawn(ask(member))).collect();
        let mut nodes = Vec::new();
        for line in asked {
            nodes.push(line.await.map_err(|error| Failure::new(format!("status: {error}")))?);
        }
        let report = Report {
            cluster,
            epoch,
            node,
            nodes,
        };
        if self.target.json {
            output::json(&report)?
        } else {
            report.print()?
        }
        let well = |line: &Line| line.ready && line.member.state == Liveness::Alive;
        if self.check && !report.nodes.iter().all(well) {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }
}

async fn ask(member: Member) -> Line {
    let client = Client::builder()
        .attempts(1)
        .attempt_limit(PATIENCE)
        .build([&member.http]);
    let (reason, replication) = match client {
        Err(_) => (Some("its address is not known".to_owned()), None),
        Ok(client) => match client.ready().await {
            Ok(Readiness::Ready) => (None, client.replication().await.ok()),
            Ok(Readiness::NotReady(problem)) => (
                Some(problem.detail.unwrap_or(problem.title)),
                client.replication().await.ok(),
            ),
            Err(error) => (Some(error.to_string()), None),
        },
    };
    Line {
        member,
        ready: reason.is_none(),
        reason,
        replication,
    }
}

impl Report {
    fn print(&self) -> Result<(), Failure> {
        output::line(format!(
            "cluster {}, epoch {}, as {} sees it\n",
            self.cluster, self.epoch, self.node
        ))?;
        let mut table = Table::new([
            "NAME", "STATE", "READY", "BEHIND", "LOG", "OLDEST", "HTTP", "PEER", "REGION", "ZONE", "CAPACITY",
            "VERSION",
        ]);
        for Line {
            member,
            ready,
            replication,
            ..
        } in &self.nodes
        {
            let say = |say: &dyn Fn(&Replication) -> String| replication.as_ref().map_or("?".to_owned(), say);
            table.row([
                member.name.clone(),
                member.state.to_string(),
                if *ready { "yes" } else { "no" }.to_owned(),
                say(&|said| said.missing().to_string()),
                say(&|said| said.log_entries.to_string()),
                say(&super::repair::oldest),
                member.http.clone(),
                member.peer.clone(),
                member.region.clone(),
                member.zone.clone(),
                member.capacity.to_string(),
                member.version.clone(),
            ]);
        }
        table.print()?;
        for line in &self.nodes {
            if let Some(reason) = &line.reason {
                output::line(format!("\n{} is not ready: {reason}", line.member.name))?;
            }
        }
        Ok(())
    }
}
