//! Connections are reset in the middle of what they carry.

use super::{Bursts, Dice, Fault};
use crate::world::World;

pub(super) struct Reset;

impl Fault for Reset {
    fn name(&self) -> &'static str {
        "reset"
    }

    fn about(&self) -> &'static str {
        "connections are reset, some messages half sent"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn bursts(&self) -> Bursts {
        Bursts::InARow
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let share = 5 + dice.below(60) as u32;
        for (from, to) in dice.shuffled_pairs(world) {
            if dice.chance(share) {
                world.break_link(from, to);
            }
        }
    }
}
