//! Nodes are cut off one after the other, and come back together: each has missed another part of what happened.

use super::{Bursts, Cut, Dice, between};
use crate::world::World;

pub(super) const ISOLATE: Cut = Cut {
    name: "isolate",
    about: "nodes are cut off one after the other, and come back together",
    bursts: Bursts::EndTogether,
    pairs,
};

fn pairs(world: &World, dice: &mut Dice) -> Vec<(usize, usize)> {
    let node = dice.node(world);
    let others: Vec<usize> = (0..world.count()).filter(|&other| other != node).collect();
    between(&[node], &others)
}
