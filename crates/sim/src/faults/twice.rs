//! Messages arrive twice, as those do that a sender was not sure of.

use super::{Bursts, Dice, Fault};
use crate::world::World;

pub(super) struct Twice;

impl Fault for Twice {
    fn name(&self) -> &'static str {
        "twice"
    }

    fn about(&self) -> &'static str {
        "half of the messages arrive twice, between all nodes or one and all others"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn bursts(&self) -> Bursts {
        Bursts::Throughout
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            world.link_mut(from, to).doubled += 1;
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            world.link_mut(from, to).doubled -= 1;
        }
    }
}
