//! A node's file system is filled, to the last byte or to where the node refuses writes by itself, and emptied again.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::disk;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "disk-full",
    about: "a small file system is filled, and emptied again; a node that ended of it is started again",
    needs: Needs::SmallDisks,
    draw,
};

struct DiskFull {
    nodes: Vec<usize>,
    leave: u64,
}

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    let leave = [0, 64 << 10, 8 << 20];
    Box::new(DiskFull {
        nodes: targets(rng, nodes),
        leave: leave[rng.random_range(0..leave.len())],
    })
}

impl Fault for DiskFull {
    fn detail(&self) -> String {
        format!("{}, {} KiB left", names(&self.nodes), self.leave >> 10)
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        let fill = |&node: &usize| disk::fill(world.cluster.home(node), self.leave);
        self.nodes.iter().try_for_each(fill)
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        for &node in &self.nodes {
            disk::empty(world.cluster.home(node));
            world.cluster.start(node)?;
        }
        Ok(())
    }
}
