//! A process is frozen, perhaps for longer than every timeout: its links stay, and it hears and says nothing.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct Pause;

impl Fault for Pause {
    fn name(&self) -> &'static str {
        "pause"
    }

    fn about(&self) -> &'static str {
        "one process is frozen (SIGSTOP), and goes on later"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.pause(node);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.resume(node);
    }
}
