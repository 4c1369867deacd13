//! A disk cannot be read for a while.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct ReadError;

impl Fault for ReadError {
    fn name(&self) -> &'static str {
        "read-error"
    }

    fn about(&self) -> &'static str {
        "one disk answers reads with EIO"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].disk.set_read_error(true);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].disk.set_read_error(false);
    }
}
