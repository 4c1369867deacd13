//! Somebody sets a wall clock by hours or years, both ways.

use super::{Dice, Fault, Weakens};
use crate::world::World;

pub(super) struct ClockYears;

impl Fault for ClockYears {
    fn name(&self) -> &'static str {
        "clock-years"
    }

    fn about(&self) -> &'static str {
        "the wall clock of one node jumps by hours or years, and is set right later"
    }

    fn weakens(&self) -> Weakens {
        Weakens::Everything
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

/// In milliseconds.
const HOUR: u64 = 3600 * 1000;

/// In milliseconds.
fn jump(dice: &mut Dice) -> i64 {
    let most = [2, 48, 24 * 3650][dice.below(3) as usize] * HOUR;
    let millis = dice.below(most) as i64;
    if dice.chance(50) { millis } else { -millis }
}
