//! A record is gone, or was written in another's place.

use annulus_storage::engine::Space;

use super::{Dice, Fault, Weakens};
use crate::world::World;

pub(super) struct LostRecord;

impl Fault for LostRecord {
    fn name(&self) -> &'static str {
        "lost-record"
    }

    fn about(&self) -> &'static str {
        "a stored object of one disk vanishes, or lies where another should"
    }

    fn weakens(&self) -> Weakens {
        Weakens::OneRecord
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let (place, other) = (dice.below(u64::MAX), dice.below(u64::MAX));
        match dice.chance(50) {
            true => world.processes[node].disk.lose(Space::Object, place),
            false => world.processes[node].disk.misdirect(Space::Object, place, other),
        }
    }
}
