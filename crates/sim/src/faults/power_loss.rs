//! One machine loses power: of what no sync has covered, the disk keeps a prefix.

use super::{Dice, Fault, put_down, put_up};
use crate::world::{Death, World};

pub(super) struct PowerLoss;

impl Fault for PowerLoss {
    fn name(&self) -> &'static str {
        "power-loss"
    }

    fn about(&self) -> &'static str {
        "one machine loses power, and what was not synced is dropped, kept or torn"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let unsynced = world.processes[node].disk.unsynced() as u64;
        let kept = dice.below(unsynced + 1) as usize;
        put_down(world, node, Death::PowerLoss { kept });
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        put_up(world, node);
    }
}
