//! A directory is put back as it was some time ago.

use super::{Dice, Fault, Weakens};
use crate::world::{Death, World};

pub(super) struct Yesterday;

impl Fault for Yesterday {
    fn name(&self) -> &'static str {
        "yesterday"
    }

    fn about(&self) -> &'static str {
        "one node comes back with an old copy of its disk"
    }

    fn weakens(&self) -> Weakens {
        Weakens::OneDisk
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let process = &mut world.processes[node];
        process.backup = process.disk.open(process.id).ok().map(|disk| disk.copy());
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let process = &mut world.processes[node];
        // The disk may be another's by now, where disks were swapped.
        let backup = process.backup.take().filter(|_| process.disk.open(process.id).is_ok());
        if let Some(backup) = backup {
            world.kill(node, Death::Killed);
            world.processes[node].disk.become_copy_of(&backup);
            world.start(node);
        }
    }
}
