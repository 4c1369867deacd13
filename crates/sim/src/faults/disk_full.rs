//! A disk has no room left, sooner than the node is told, or later.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct DiskFull;

impl Fault for DiskFull {
    fn name(&self) -> &'static str {
        "disk-full"
    }

    fn about(&self) -> &'static str {
        "one disk is full"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let disk = &world.processes[node].disk;
        disk.set_capacity(Some(disk.used_bytes() + dice.below(4096)));
        world.report_free_space(node, 0);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].disk.set_capacity(None);
        world.report_free_space(node, u64::MAX);
    }
}
