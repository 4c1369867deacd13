//! A disk is replaced by an empty one.

use super::{Dice, Fault, Weakens, put_down, put_up};
use crate::world::{Death, World};

pub(super) struct Wipe;

impl Fault for Wipe {
    fn name(&self) -> &'static str {
        "wipe"
    }

    fn about(&self) -> &'static str {
        "one node comes back with an empty disk"
    }

    fn weakens(&self) -> Weakens {
        Weakens::OneDisk
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        put_down(world, node, Death::Killed);
        world.processes[node].disk.wipe();
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        put_up(world, node);
    }
}
