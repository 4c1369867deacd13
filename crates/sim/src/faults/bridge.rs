//! Two groups see each other only through one node that is in both.

use super::{Bursts, Cut, Dice, between};
use crate::world::World;

pub(super) const BRIDGE: Cut = Cut {
    name: "bridge",
    about: "two groups of nodes reach each other only through one node",
    bursts: Bursts::Never,
    pairs,
};

fn pairs(world: &World, dice: &mut Dice) -> Vec<(usize, usize)> {
    let nodes = dice.shuffled(world);
    let rest = &nodes[1..];
    let (one, other) = rest.split_at(rest.len() / 2);
    between(one, other)
}
