//! The modes of replication side by side: what a PUT takes in each, and how many acknowledged ones are gone after a fault.

mod load;
mod loss;
mod table;

use std::num::NonZeroU8;

use annulus_client::{Client, Durability, Options, Put, Quorum};
use tempfile::TempDir;

use crate::arguments::Modes;
use crate::cluster::Cluster;
use crate::run::{Interrupts, await_ready};
use crate::settle::Observer;
use crate::trouble::Trouble;
use load::Load;
use loss::Loss;
pub(crate) use table::Table;

/// As many as a key has owners.
const NODES: usize = 3;
/// Declared by nobody: the parameters of the request are all that tells the modes apart.
const BUCKET: &str = "modes";
/// Of each value.
const VALUE_BYTES: usize = 1024;

/// When a write is answered.
struct Mode {
    name: &'static str,
    w: Quorum,
    durability: Durability,
}

const MODES: [Mode; 5] = [
    Mode {
        name: "asynchronous, memory",
        w: Quorum::Count(NonZeroU8::MIN),
        durability: Durability::Memory,
    },
    Mode {
        name: "asynchronous, disk",
        w: Quorum::Count(NonZeroU8::MIN),
        durability: Durability::Disk,
    },
    Mode {
        name: "semi-synchronous",
        w: Quorum::Majority,
        durability: Durability::Memory,
    },
    Mode {
        name: "synchronous",
        w: Quorum::Majority,
        durability: Durability::Disk,
    },
    Mode {
        name: "synchronous, all",
        w: Quorum::All,
        durability: Durability::Disk,
    },
];

impl Mode {
    /// What a client says for it.
    fn parameters(&self) -> String {
        format!("w={}&durability={}", self.w, self.durability)
    }

    /// Sent once: whether the one attempt was acknowledged is what is measured.
    fn options(&self) -> Options {
        Options {
            w: Some(self.w),
            durability: Some(self.durability),
            attempts: Some(1),
            ..Options::default()
        }
    }
}

/// What one mode came to.
struct Measured {
    mode: &'static Mode,
    load: Load,
    losses: Vec<Loss>,
}

/// Measures all modes, or nothing where somebody stopped it; everything that was started has ended when it returns.
pub(crate) async fn run(arguments: &Modes) -> Result<Option<Table>, Trouble> {
    let mut interrupts = Interrupts::new()?;
    let mut rows = Vec::new();
    for mode in &MODES {
        // A cluster of its own: no mode pays for what an earlier one has stored.
        let home = TempDir::with_prefix("annulus-modes-")?;
        let mut cluster = Cluster::plain(&arguments.tested.annulus, home.path(), NODES)?;
        eprintln!("{} ({})", mode.name, mode.parameters());
        let row = tokio::select! {
            row = measure(arguments, mode, &mut cluster) => row?,
            () = interrupts.come() => return Ok(None),
        };
        rows.push(row);
    }
    Ok(Some(Table::new(arguments, rows)))
}

async fn measure(arguments: &Modes, mode: &'static Mode, cluster: &mut Cluster) -> Result<Measured, Trouble> {
    cluster.restore()?;
    await_ready(&Observer::new(cluster.urls(), Vec::new()), cluster).await?;
    let load = load::measure(arguments, mode, &cluster.urls()).await?;
    let mut losses = Vec::new();
    for &fault in &loss::FAULTS {
        losses.push(loss::measure(arguments, mode, fault, cluster).await?);
    }
    Ok(Measured { mode, load, losses })
}

/// A client of one node, that asks once.
pub(crate) fn client(url: &String) -> Result<Client, Trouble> {
    let client = Client::builder().attempts(1).build([url]);
    client.map_err(|error| Trouble::NotReady(error.to_string()))
}

/// The value of a key: its name, filled up with what does not compress.
fn value(key: &str) -> Put {
    let mut bytes = key.as_bytes().to_vec();
    bytes.resize_with(VALUE_BYTES, rand::random);
    Put::new(bytes)
}
