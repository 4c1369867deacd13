//! Nodes are cut off one after the other, and come back together: each has missed another part of what happened.

use super::{Bursts, Dice, Fault, between, cut, mend};
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
        let pairs = pairs(world, &mut dice);
        cut(world, pairs);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let pairs = pairs(world, &mut dice);
        mend(world, pairs);
    }
}

fn pairs(world: &World, dice: &mut Dice) -> Vec<(usize, usize)> {
    let node = dice.node(world);
    let others: Vec<usize> = (0..world.count()).filter(|&other| other != node).collect();
    between(&[node], &others)
}
