//! One direction of a link is cut: it hears, and is not heard.

use super::{Dice, Fault, cut, mend};
use crate::world::World;

pub(super) struct OneWay;

impl Fault for OneWay {
    fn name(&self) -> &'static str {
        "one-way"
    }

    fn about(&self) -> &'static str {
        "what one node sends does not reach one other, or any other"
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
    let (from, to) = dice.pair(world);
    match dice.chance(50) {
        true => vec![(from, to)],
        false => (0..world.count())
            .filter(|&to| to != from)
            .map(|to| (from, to))
            .collect(),
    }
}
