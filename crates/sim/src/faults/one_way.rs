//! One direction of a link is cut: it hears, and is not heard.

use super::{Bursts, Cut, Dice};
use crate::world::World;

pub(super) const ONE_WAY: Cut = Cut {
    name: "one-way",
    about: "what one node sends does not reach one other, or any other",
    bursts: Bursts::Never,
    pairs,
};

fn pairs(world: &World, dice: &mut Dice) -> Vec<(usize, usize)> {
    let (from, to) = dice.pair(world);
    match dice.chance(50) {
        true => vec![(from, to)],
        false => (0..world.count())
            .filter(|&to| to != from)
            .map(|to| (from, to))
            .collect(),
    }
}
