//! A process dies while it comes back, several times in a row.

use super::{Dice, Fault, put_down, put_up};
use crate::world::{Death, World};

pub(super) struct CrashInRecovery;

impl Fault for CrashInRecovery {
    fn name(&self) -> &'static str {
        "crash-in-recovery"
    }

    fn about(&self) -> &'static str {
        "one machine loses power again and again just after it has started"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        for _ in 0..1 + dice.below(3) {
            world.kill(node, Death::PowerLoss { kept: 0 });
            world.start(node);
        }
        put_down(world, node, Death::PowerLoss { kept: 0 });
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        put_up(world, node);
        world.kill(node, Death::Killed);
        world.start(node);
    }
}
