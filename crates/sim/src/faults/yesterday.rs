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
        world.processes[node].backup = Some(world.processes[node].disk.copy());
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.kill(node, Death::Killed);
        let process = &mut world.processes[node];
        if let Some(backup) = process.backup.take() {
            process.disk.become_copy_of(&backup);
        }
        world.start(node);
    }
}
