//! What catching up costs: few keys differ, a node was away, an owner was wiped, everything was deleted; counted in real processes.

mod away;
mod deletes;
mod load;
mod measured;
mod probe;
mod refill;
mod store;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::arguments::Figures;
use crate::cluster::Cluster;
use crate::run::{Interrupts, await_ready};
use crate::settle::Observer;
use crate::trouble::Trouble;
pub(crate) use measured::Measured;
use probe::Probe;

/// As many as a key has owners.
const NODES: usize = 3;
/// The node that goes away, and is wiped.
const VICTIM: usize = NODES - 1;
/// Declared by nobody.
const BUCKET: &str = "figures";
/// Of values in the figures that are about bytes, and of those that are about keys.
const LARGE: usize = 1024;
const SMALL: usize = 16;
/// All that is waited for comes within this, or does not come.
const PATIENCE: Duration = Duration::from_secs(900);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Figure {
    /// Ten keys differ between owners of many
    Few,
    /// A node was away while a tenth as many were written
    Away,
    /// An owner of a fifth as many keys of 1 KiB lost its directory
    Refill,
    /// What log and clocks take on disk
    Log,
    /// Many keys are deleted
    Deletes,
}

/// Measures what is asked for, or nothing where somebody stopped it; everything that was started has ended when it returns.
pub(crate) async fn run(arguments: &Figures) -> Result<Option<Measured>, Trouble> {
    let mut interrupts = Interrupts::new()?;
    let home = TempDir::with_prefix_in("annulus-figures-", &arguments.dir)?;
    tokio::select! {
        measured = measure(arguments, home.path()) => measured.map(Some),
        () = interrupts.come() => Ok(None),
    }
}

async fn measure(arguments: &Figures, home: &Path) -> Result<Measured, Trouble> {
    let mut measured = Measured::new(arguments);
    let is_asked = |figure| arguments.only.is_empty() || arguments.only.contains(&figure);
    if is_asked(Figure::Few) || is_asked(Figure::Away) {
        let mut stage = Stage::new(arguments, &home.join("away")).await?;
        eprintln!("loading {} keys", arguments.keys);
        load::write(&stage.urls(), "key", 0..arguments.keys, SMALL).await?;
        stage.rest().await?;
        if is_asked(Figure::Few) {
            away::few(&mut stage, &mut measured, arguments.keys).await?;
        }
        if is_asked(Figure::Away) {
            away::many(&mut stage, &mut measured, arguments.keys / 10).await?;
        }
    }
    if is_asked(Figure::Refill) {
        refill::measure(arguments, home, &mut measured).await?;
    }
    if is_asked(Figure::Log) {
        store::log(arguments, home, &mut measured)?;
    }
    if is_asked(Figure::Deletes) {
        deletes::measure(arguments, home, &mut measured).await?;
        store::deletes(arguments, home, &mut measured)?;
    }
    Ok(measured)
}

/// A cluster that is ready, and what looks at it.
struct Stage {
    cluster: Cluster,
    probe: Probe,
}

impl Stage {
    async fn new(arguments: &Figures, directory: &Path) -> Result<Stage, Trouble> {
        let mut cluster = Cluster::plain(&arguments.tested.annulus, directory, NODES)?;
        cluster.restore()?;
        await_ready(&Observer::new(cluster.urls(), Vec::new()), &mut cluster).await?;
        let probe = Probe::new(&cluster.urls())?;
        Ok(Stage { cluster, probe })
    }

    fn urls(&self) -> Vec<String> {
        self.cluster.urls()
    }

    /// The nodes that stay.
    fn others(&self) -> Vec<String> {
        self.urls()[..VICTIM].to_vec()
    }

    /// All owners have all there is, and have said so to each other.
    async fn rest(&self) -> Result<(), Trouble> {
        self.probe.until_equal(Duration::from_millis(100)).await
    }
}
