//! A write or a sync fails: what the system has dropped since the last sync is not known.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct WriteError;

impl Fault for WriteError {
    fn name(&self) -> &'static str {
        "write-error"
    }

    fn about(&self) -> &'static str {
        "the next batch or sync of one disk fails (EIO)"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].disk.fail_next_write();
    }
}
