//! Connections between nodes are reset, at once and then again and again in the middle of what they carry.

use rand::RngExt;
use rand::rngs::StdRng;

use super::slow::around;
use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "reset",
    about: "connections between nodes are reset, some with half a frame on the way",
    needs: Needs::Proxy,
    draw,
};

struct Reset {
    nodes: Vec<usize>,
    tears_per_mille: u32,
}

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    Box::new(Reset {
        nodes: targets(rng, nodes),
        tears_per_mille: rng.random_range(1..50),
    })
}

impl Fault for Reset {
    fn detail(&self) -> String {
        format!("{}, then {}‰ torn", names(&self.nodes), self.tears_per_mille)
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        let pairs = around(&self.nodes, world.cluster.len());
        world.network()?.change(&pairs, |path| {
            path.resets += 1;
            path.tears_per_mille = self.tears_per_mille;
        })
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        let pairs = around(&self.nodes, world.cluster.len());
        world.network()?.change(&pairs, |path| path.tears_per_mille = 0)
    }
}
