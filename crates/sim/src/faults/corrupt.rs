//! A byte changes on its way, past the checksum of TCP.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct Corrupt;

impl Fault for Corrupt {
    fn name(&self) -> &'static str {
        "corrupt"
    }

    fn about(&self) -> &'static str {
        "the next message of some links arrives with a byte changed"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for _ in 0..1 + dice.below(4) {
            let (from, to) = dice.pair(world);
            world.link_mut(from, to).corrupts = true;
        }
    }
}
