//! A stored object changes by a bit: its record is damaged, and answers for nothing.

use annulus_storage::engine::Space;

use super::{Dice, Fault, Weakens};
use crate::world::World;

pub(super) struct BitRot;

impl Fault for BitRot {
    fn name(&self) -> &'static str {
        "bit-rot"
    }

    fn about(&self) -> &'static str {
        "a bit of some stored objects of one disk flips, and of a hint"
    }

    fn weakens(&self) -> Weakens {
        Weakens::OneRecord
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        for _ in 0..1 + dice.below(3) {
            world.processes[node].disk.rot(Space::Object, dice.below(u64::MAX));
        }
        if dice.chance(30) {
            world.processes[node].disk.rot(Space::Hint, dice.below(u64::MAX));
        }
    }
}
