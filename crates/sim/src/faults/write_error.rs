//! A write or a sync fails: what the system has dropped since the last sync is not known, and power loss shows it.

use super::{Dice, Fault};
use crate::world::{Death, World};

pub(super) struct WriteError;

impl Fault for WriteError {
    fn name(&self) -> &'static str {
        "write-error"
    }

    fn about(&self) -> &'static str {
        "the next batch or sync of one disk fails (EIO), or all syncs do until power is lost"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let disk = &world.processes[node].disk;
        match dice.chance(50) {
            true => disk.fail_next_write(),
            false => disk.set_sync_error(true),
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        if !dice.chance(50) {
            world.kill(node, Death::PowerLoss { kept: 0 });
            world.processes[node].disk.set_sync_error(false);
            world.start(node);
        }
    }
}
