//! Kill -9: the process is gone, its links are reset, and what it had handed to the operating system stays.

use super::{Dice, Fault, put_down, put_up};
use crate::world::{Death, World};

pub(super) struct Crash;

impl Fault for Crash {
    fn name(&self) -> &'static str {
        "crash"
    }

    fn about(&self) -> &'static str {
        "one process is killed, and starts again later"
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        put_down(world, node, Death::Killed);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        put_up(world, node);
    }
}
