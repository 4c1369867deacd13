//! Owners cannot catch up with each other: only requests, hints and repairs bring them what they lack.

use super::{Bursts, Dice, Fault};
use crate::world::World;

pub(super) struct NoCatchUp;

impl Fault for NoCatchUp {
    fn name(&self) -> &'static str {
        "no-catch-up"
    }

    fn about(&self) -> &'static str {
        "what owners tell each other to catch up is lost, between all nodes or one and all others"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn bursts(&self) -> Bursts {
        Bursts::Throughout
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            world.link_mut(from, to).without_catch_up += 1;
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            world.link_mut(from, to).without_catch_up -= 1;
        }
    }
}
