//! `annulus ring`: who owns how much, or who owns one key.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt as _};

use annulus_client as api;

use super::{failure::Failure, output, table::Table, target::Target};

#[derive(clap::Args)]
pub(crate) struct Ring {
    /// The bucket of a key
    #[arg(requires = "key")]
    bucket: Option<String>,
    /// The key whose place is asked for
    key: Option<OsString>,
    #[command(flatten)]
    target: Target,
}

impl Ring {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.target.client()?;
        if let (Some(bucket), Some(key)) = (self.bucket, self.key) {
            let location = client.locate(&bucket, key.into_vec()).await?;
            if self.target.json {
                return output::json(&location);
            }
            return output::line(format!(
                "epoch      {}\npartition  {}\nposition   {}\nowners     {}\nfallbacks  {}",
                location.epoch,
                location.partition,
                location.position,
                names(&location.owners),
                names(&location.fallbacks),
            ));
        }
        let ring = client.ring().await?;
        if self.target.json {
            output::json(&ring)
        } else {
            print(&ring)
        }
    }
}

fn names(nodes: &[String]) -> String {
    if nodes.is_empty() {
        "-".to_owned()
    } else {
        nodes.join(" ")
    }
}

fn print(ring: &api::Ring) -> Result<(), Failure> {
    output::line(format!(
        "epoch {}, {} partitions, {} owners each\n",
        ring.epoch, ring.partitions, ring.n
    ))?;
    // Per node: the partitions that it owns, and those of them that it coordinates while it lives.
    let mut nodes = BTreeMap::<&str, (usize, usize)>::new();
    for owners in &ring.owners {
        for (place, owner) in owners.iter().enumerate() {
            let (owned, first) = nodes.entry(owner).or_default();
            *owned += 1;
            *first += usize::from(place == 0);
        }
    }
    let total: usize = ring.owners.iter().map(Vec::len).sum();
    let mut table = Table::new(["NODE", "PARTITIONS", "AS FIRST", "SHARE"]);
    for (node, (owned, first)) in nodes {
        let share = format!("{:.2} %", 100.0 * owned as f64 / total as f64);
        table.row([node.to_owned(), owned.to_string(), first.to_string(), share]);
    }
    table.print()
}
