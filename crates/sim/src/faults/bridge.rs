//! Two groups see each other only through one node that is in both.

use super::{Dice, Fault, between, block, unblock};
use crate::world::World;

pub(super) struct Bridge;

impl Fault for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn about(&self) -> &'static str {
        "two groups of nodes reach each other only through one node"
    }

    fn spares_processes(&self) -> bool {
        true
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
    let nodes = dice.shuffled(world);
    let rest = &nodes[1..];
    let (one, other) = rest.split_at(rest.len() / 2);
    between(one, other)
}
