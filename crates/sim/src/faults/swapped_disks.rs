//! After a reboot two nodes have each other's disks: a directory knows whose it is, so neither starts until they are put right.

use super::{Dice, Fault, put_down, put_up};
use crate::world::{Death, World};

pub(super) struct SwappedDisks;

impl Fault for SwappedDisks {
    fn name(&self) -> &'static str {
        "swapped-disks"
    }

    fn about(&self) -> &'static str {
        "two nodes come up with each other's disks, and later with their own"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        swap(world, dice.pair(world));
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        swap(world, dice.pair(world));
    }
}

fn swap(world: &mut World, (one, other): (usize, usize)) {
    put_down(world, one, Death::Killed);
    put_down(world, other, Death::Killed);
    world.swap_disks(one, other);
    put_up(world, one);
    put_up(world, other);
}
