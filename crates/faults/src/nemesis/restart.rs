//! SIGTERM: a node drains, ends with status 0 in time, and is started again.

use std::time::Duration;

use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::trouble::Trouble;
use crate::world::World;

/// Requests have two seconds at most; a node that drains for longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "restart",
    about: "SIGTERM; started again once it has drained",
    needs: Needs::Signals,
    draw,
};

struct Restart(Vec<usize>);

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    Box::new(Restart(targets(rng, nodes)))
}

impl Fault for Restart {
    fn detail(&self) -> String {
        names(&self.0)
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.0.iter().for_each(|&node| world.cluster.stop(node, PATIENCE));
        Ok(())
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.0.iter().try_for_each(|&node| world.cluster.start(node))
    }

    fn lasts(&self, wished: Duration) -> Duration {
        wished.min(Duration::from_secs(2))
    }
}
