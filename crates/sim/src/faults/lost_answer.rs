//! What was asked was done, and the answer never comes.

use super::{Dice, Fault};
use crate::world::World;

pub(super) struct LostAnswer;

const KINDS: [&str; 6] = [
    "Forwarded",
    "WriteDone",
    "ReadDone",
    "HintTaken",
    "Listed",
    "HintsWanted",
];

impl Fault for LostAnswer {
    fn name(&self) -> &'static str {
        "lost-answer"
    }

    fn about(&self) -> &'static str {
        "the next answer to a forward, a write or a read is lost on some links"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        for _ in 0..1 + dice.below(6) {
            let (from, to) = dice.pair(world);
            world.link_mut(from, to).loses = Some(KINDS[dice.below(KINDS.len() as u64) as usize]);
        }
    }
}
