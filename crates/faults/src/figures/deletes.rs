//! Keys are written and deleted in real nodes: what their directories are then, beside those of nodes that held nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::load;
use super::measured::{Measured, Unit};
use super::{SMALL, Stage, VICTIM};
use crate::arguments::Figures;
use crate::trouble::Trouble;

const NAME: &str = "deleted";

pub(super) async fn measure(arguments: &Figures, home: &Path, measured: &mut Measured) -> Result<(), Trouble> {
    let keys = arguments.keys * 3 / 10;
    let mut stage = Stage::new(arguments, &home.join("deletes")).await?;
    let data = stage.cluster.home(VICTIM).join("data");
    let empty = directory_bytes(&data)?;
    eprintln!("loading {keys} keys, which are deleted then");
    load::write(&stage.urls(), NAME, 0..keys, SMALL).await?;
    stage.rest().await?;
    let full = directory_bytes(&data)?;
    load::delete(&stage.urls(), NAME, 0..keys).await?;
    stage.rest().await?;
    let what = |what: &str| format!("{keys} deletes in real nodes: bytes of a directory {what}");
    measured.plain(what("when it was empty"), empty, Unit::Bytes);
    measured.plain(what("with the keys"), full, Unit::Bytes);
    measured.plain(what("after the deletes"), directory_bytes(&data)?, Unit::Bytes);
    stage.cluster.stop(VICTIM, super::PATIENCE);
    Ok(())
}

/// Bytes that the files of a directory take on disk.
fn directory_bytes(directory: &Path) -> Result<f64, Trouble> {
    let failed = |error| Trouble::file(directory, error);
    let mut bytes = 0.0;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A file may go while it is looked at.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += match metadata.is_dir() {
            true => directory_bytes(&entry.path())?,
            false => metadata.blocks() as f64 * 512.0,
        };
    }
    Ok(bytes)
}
