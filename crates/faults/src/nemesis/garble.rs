//! Bytes between nodes change or vanish on the way: no frame of that kind may be believed.

use rand::RngExt;
use rand::rngs::StdRng;

use super::slow::around;
use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "garble",
    about: "bytes between nodes change or vanish on the way",
    needs: Needs::Proxy,
    draw,
};

struct Garble {
    nodes: Vec<usize>,
    per_mille: u32,
}

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    Box::new(Garble {
        nodes: targets(rng, nodes),
        per_mille: rng.random_range(1..20),
    })
}

impl Garble {
    fn set(&self, world: &mut World, per_mille: u32) -> Result<(), Trouble> {
        let pairs = around(&self.nodes, world.cluster.len());
        world
            .network()?
            .change(&pairs, |path| path.garbles_per_mille = per_mille)
    }
}

impl Fault for Garble {
    fn detail(&self) -> String {
        format!("{}, {}‰ of what is sent", names(&self.nodes), self.per_mille)
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.set(world, self.per_mille)
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.set(world, 0)
    }
}
