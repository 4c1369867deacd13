//! The network is cut in two.

use super::{Dice, Fault, between, cut, mend};
use crate::world::World;

pub(super) struct Partition;

impl Fault for Partition {
    fn name(&self) -> &'static str {
        "partition"
    }

    fn about(&self) -> &'static str {
        "two groups of nodes do not reach each other"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let (one, other) = dice.halves(world);
        cut(world, between(&one, &other));
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let (one, other) = dice.halves(world);
        mend(world, between(&one, &other));
    }
}
