//! SIGSTOP: a node that hangs, then goes on with what it had begun, as if no time had passed.

use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "pause",
    about: "SIGSTOP, then SIGCONT, sometimes after every timeout",
    needs: Needs::Signals,
    draw,
};

struct Pause(Vec<usize>);

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    Box::new(Pause(targets(rng, nodes)))
}

impl Fault for Pause {
    fn detail(&self) -> String {
        names(&self.0)
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.0.iter().for_each(|&node| world.cluster.pause(node));
        Ok(())
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.0.iter().for_each(|&node| world.cluster.resume(node));
        Ok(())
    }
}
