//! Paths to and from some nodes take their time, and now and then as long as a lost packet costs.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::network::Path;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "slow",
    about: "bytes to and from nodes are delayed by up to 2 s, some by a retransmission more",
    needs: Needs::Proxy,
    draw,
};

struct Slow {
    nodes: Vec<usize>,
    delay: Duration,
    stalls_per_mille: u32,
}

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    let delays = [5, 20, 100, 400, 2000];
    Box::new(Slow {
        nodes: targets(rng, nodes),
        delay: Duration::from_millis(delays[rng.random_range(0..delays.len())]),
        stalls_per_mille: rng.random_range(0..200),
    })
}

impl Slow {
    fn change(&self, world: &mut World, change: impl Fn(&mut Path)) -> Result<(), Trouble> {
        let count = world.cluster.len();
        world.network()?.change(&around(&self.nodes, count), change)
    }
}

/// All directed pairs with one of these nodes in it.
pub(super) fn around(nodes: &[usize], count: usize) -> Vec<(usize, usize)> {
    let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to && (nodes.contains(from) || nodes.contains(to)))
        .collect()
}

impl Fault for Slow {
    fn detail(&self) -> String {
        format!(
            "{} by {:?}, {}‰ stalled",
            names(&self.nodes),
            self.delay,
            self.stalls_per_mille
        )
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.change(world, |path| {
            path.delay = self.delay;
            path.stalls_per_mille = self.stalls_per_mille;
        })
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.change(world, |path| {
            path.delay = Duration::ZERO;
            path.stalls_per_mille = 0;
        })
    }
}
