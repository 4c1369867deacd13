//! One node comes back from where it was cut off just when another lost its disk: what both lack, the others have, and are not there at once.

use super::{Dice, Fault, Weakens, between, cut, mend};
use crate::queue::{Nanos, SECOND};
use crate::world::{Death, World};

/// Of attempts to connect that failed, so many make the next wait for about a second.
const FAILURES: u32 = 5;

pub(super) struct Crossed;

impl Fault for Crossed {
    fn name(&self) -> &'static str {
        "crossed"
    }

    fn about(&self) -> &'static str {
        "one node is cut off; when it is back, another has an empty disk, and the rest is heard again a second later"
    }

    fn weakens(&self) -> Weakens {
        Weakens::OneDisk
    }

    fn least(&self) -> Nanos {
        2 * SECOND
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let ((late, wiped), rest) = parties(world, &mut dice);
        cut(world, between(&[late], &[&[wiped], &rest[..]].concat()));
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let ((late, wiped), rest) = parties(world, &mut dice);
        mend(world, between(&[late], &[&[wiped], &rest[..]].concat()));
        for (from, to) in between(&rest, &[late, wiped]) {
            world.break_link(from, to);
            world.link_mut(from, to).failures = FAILURES;
        }
        for (from, to) in between(&[late], &[wiped]) {
            world.link_mut(from, to).failures = 0;
        }
        world.kill(wiped, Death::Killed);
        world.processes[wiped].disk.wipe();
        world.start(wiped);
    }
}

/// Who is cut off, whose disk is lost, and the rest.
fn parties(world: &World, dice: &mut Dice) -> ((usize, usize), Vec<usize>) {
    let mut nodes = dice.shuffled(world);
    let rest = nodes.split_off(2);
    ((nodes[0], nodes[1]), rest)
}
