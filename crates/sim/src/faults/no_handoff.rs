//! Hints do not come through: they wait although their owner is there.

use super::{Bursts, Dice, Fault};
use crate::world::World;

pub(super) struct NoHandoff;

impl Fault for NoHandoff {
    fn name(&self) -> &'static str {
        "no-handoff"
    }

    fn about(&self) -> &'static str {
        "offers of hints, and hints, are lost, between all nodes or one and all others"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn bursts(&self) -> Bursts {
        Bursts::Throughout
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            world.link_mut(from, to).without_handoff += 1;
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            world.link_mut(from, to).without_handoff -= 1;
        }
    }
}
