//! Two groups see each other only through one node that is in both.

use super::{Dice, Fault, between, cut, mend};
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
        let pairs = pairs(world, &mut dice);
        cut(world, pairs);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let pairs = pairs(world, &mut dice);
        mend(world, pairs);
    }
}

fn pairs(world: &World, dice: &mut Dice) -> Vec<(usize, usize)> {
    let nodes = dice.shuffled(world);
    let rest = &nodes[1..];
    let (one, other) = rest.split_at(rest.len() / 2);
    between(one, other)
}
