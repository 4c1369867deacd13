//! A link is slow, sometimes slower than any timeout.

use super::{Dice, Fault};
use crate::queue::{MILLISECOND, Nanos};
use crate::world::World;

pub(super) struct SlowLink;

impl Fault for SlowLink {
    fn name(&self) -> &'static str {
        "slow-link"
    }

    fn about(&self) -> &'static str {
        "links of one node take up to seconds longer"
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        change(world, &mut dice, |delay, extra| delay + extra);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        change(world, &mut dice, |delay, extra| delay - extra);
    }
}

fn change(world: &mut World, dice: &mut Dice, by: fn(Nanos, Nanos) -> Nanos) {
    let node = dice.node(world);
    let most = [20, 400, 3000][dice.below(3) as usize];
    for other in (0..world.count()).filter(|&other| other != node) {
        let extra = dice.below(most) * MILLISECOND;
        let link = world.link_mut(node, other);
        link.extra_delay = by(link.extra_delay, extra);
    }
}
