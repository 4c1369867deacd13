//! The network is cut in two.

use super::{Bursts, Cut, Dice, between};
use crate::world::World;

pub(super) const PARTITION: Cut = Cut {
    name: "partition",
    about: "two groups of nodes do not reach each other",
    bursts: Bursts::Never,
    pairs,
};

fn pairs(world: &World, dice: &mut Dice) -> Vec<(usize, usize)> {
    let (one, other) = dice.halves(world);
    between(&one, &other)
}
