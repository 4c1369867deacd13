//! Many machines lose power at one moment: what was acknowledged is on disks, or was never so.

use super::{Dice, Fault, put_down, put_up};
use crate::world::{Death, World};

pub(super) struct Blackout;

impl Fault for Blackout {
    fn name(&self) -> &'static str {
        "blackout"
    }

    fn about(&self) -> &'static str {
        "several machines, or all of them, lose power at once"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for node in hit(world, &mut dice) {
            put_down(world, node, Death::PowerLoss { kept: 0 });
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        for node in hit(world, &mut dice) {
            put_up(world, node);
        }
    }
}

fn hit(world: &World, dice: &mut Dice) -> Vec<usize> {
    match dice.chance(50) {
        true => (0..world.count()).collect(),
        false => dice.halves(world).0,
    }
}
