//! What links do to some messages for a whole run, between all nodes or one and all others.

use super::{Bursts, Dice, Fault};
use crate::link::Link;
use crate::world::World;

pub(super) struct Throughout {
    name: &'static str,
    about: &'static str,
    /// How many such faults a link is under.
    on: fn(&mut Link) -> &mut u32,
}

/// Only requests, hints and repairs bring owners what they lack.
pub(super) const NO_CATCH_UP: Throughout = Throughout {
    name: "no-catch-up",
    about: "what owners tell each other to catch up is lost, between all nodes or one and all others",
    on: |link| &mut link.without_catch_up,
};

/// Hints wait although their owner is there.
pub(super) const NO_HANDOFF: Throughout = Throughout {
    name: "no-handoff",
    about: "offers of hints, and hints, are lost, between all nodes or one and all others",
    on: |link| &mut link.without_handoff,
};

/// As those do that a sender was not sure of.
pub(super) const TWICE: Throughout = Throughout {
    name: "twice",
    about: "half of the messages arrive twice, between all nodes or one and all others",
    on: |link| &mut link.doubled,
};

impl Fault for Throughout {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn bursts(&self) -> Bursts {
        Bursts::Throughout
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            *(self.on)(world.link_mut(from, to)) += 1;
        }
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        for (from, to) in dice.all_or_of_one(world) {
            *(self.on)(world.link_mut(from, to)) -= 1;
        }
    }
}
