//! A directory is put back as it was some time ago: a few seconds at least, as peers witness a disk once a second.

use super::{Dice, Fault, Weakens};
use crate::queue::{Nanos, SECOND};
use crate::world::{Death, World};

/// A copy that is younger than this may be all that peers have witnessed.
const WITNESSED_WITHIN: Nanos = 3 * SECOND;

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

    fn least(&self) -> Nanos {
        WITNESSED_WITHIN
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let now = world.now;
        let process = &mut world.processes[node];
        process.backup = process.disk.open(process.id).ok().map(|disk| (now, disk.copy()));
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        let now = world.now;
        let process = &mut world.processes[node];
        // The disk may be another's by now, where disks were swapped.
        let backup = process.backup.take().filter(|_| process.disk.open(process.id).is_ok());
        if let Some((_, backup)) = backup.filter(|(at, _)| at + WITNESSED_WITHIN <= now) {
            world.kill(node, Death::Killed);
            world.processes[node].disk.become_copy_of(&backup);
            world.start(node);
        }
    }
}
