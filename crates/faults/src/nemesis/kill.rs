//! SIGKILL, and a start on the data that is left.

use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "kill",
    about: "SIGKILL; started again on its data",
    needs: Needs::Signals,
    draw,
};

struct Kill(Vec<usize>);

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    Box::new(Kill(targets(rng, nodes)))
}

impl Fault for Kill {
    fn detail(&self) -> String {
        names(&self.0)
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.0.iter().for_each(|&node| world.cluster.kill(node));
        Ok(())
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.0.iter().try_for_each(|&node| world.cluster.start(node))
    }
}
