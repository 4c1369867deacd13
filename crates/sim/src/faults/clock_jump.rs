//! Somebody sets a wall clock by seconds, both ways: less than the skew that peers accept.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct ClockJump;

impl Fault for ClockJump {
    fn name(&self) -> &'static str {
        "clock-jump"
    }

    fn about(&self) -> &'static str {
        "the wall clock of one node jumps, and is set right later"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].clock.ahead_millis += jump(&mut dice);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let node = dice.node(world);
        world.processes[node].clock.ahead_millis -= jump(&mut dice);
    }
}

/// In milliseconds; two nodes that jump apart stay within `MAX_SKEW`.
fn jump(dice: &mut Dice) -> i64 {
    let most = [500, 5_000, 25_000][dice.below(3) as usize];
    let millis = dice.below(most) as i64;
    if dice.chance(50) { millis } else { -millis }
}
