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
        for node in dice.halves(world).0 {
            put_down(world, node, Death::PowerLoss { kept: 0 });
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        for node in dice.halves(world).0 {
            put_up(world, node);
        }
    }
}
