//! Nodes are cut off one after the other, and come back together: each has missed another part of what happened.

use super::{Bursts, Dice, Fault, between, block, unblock};
use crate::world::World;

pub(super) struct Isolate;

impl Fault for Isolate {
    fn name(&self) -> &'static str {
        "isolate"
    }

    fn about(&self) -> &'static str {
        "nodes are cut off one after the other, and come back together"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn bursts(&self) -> Bursts {
        Bursts::EndTogether
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in pairs(world, &mut dice) {
            block(world, from, to);
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in pairs(world, &mut dice) {
            unblock(world, from, to);
        }
    }
}

fn pairs(world: &World, dice: &mut Dice) -> Vec<(usize, usize)> {
    let node = dice.node(world);
    let others: Vec<usize> = (0..world.count()).filter(|&other| other != node).collect();
    between(&[node], &others)
}
