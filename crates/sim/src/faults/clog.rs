//! Links hold back what is sent, and let go of it in random order between links: late, and not lost.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct Clog;

impl Fault for Clog {
    fn name(&self) -> &'static str {
        "clog"
    }

    fn about(&self) -> &'static str {
        "links are clogged: messages are held back, and released link by link in random order"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let share = 10 + dice.below(90) as u32;
        for (from, to) in dice.shuffled_pairs(world) {
            if dice.chance(share) {
                world.link_mut(from, to).clogged += 1;
            }
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let share = 10 + dice.below(90) as u32;
        for (from, to) in dice.shuffled_pairs(world) {
            if dice.chance(share) {
                world.link_mut(from, to).clogged -= 1;
                world.release(from, to);
            }
        }
    }
}
