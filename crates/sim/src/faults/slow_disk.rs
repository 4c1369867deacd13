//! A disk takes long for each sync.

use super::{Dice, Fault};
use crate::queue::{MILLISECOND, Nanos};
use crate::world::World;

pub(super) struct SlowDisk;

impl Fault for SlowDisk {
    fn name(&self) -> &'static str {
        "slow-disk"
    }

    fn about(&self) -> &'static str {
        "syncs of one disk take up to seconds longer"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].extra_sync += extra(&mut dice);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].extra_sync -= extra(&mut dice);
    }
}

fn extra(dice: &mut Dice) -> Nanos {
    let most = [50, 500, 4000][dice.below(3) as usize];
    dice.below(most) * MILLISECOND
}
