//! A node's wall clock is off by milliseconds to years, forwards or backwards, and then right again.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, targets};
use crate::cluster::names;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "clock",
    about: "wall clocks jump by milliseconds to years, both ways",
    needs: Needs::ClockShim,
    draw,
};

struct Clock {
    nodes: Vec<usize>,
    seconds: f64,
}

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    let sizes = [0.05, 1.0, 30.0, 3_600.0, 86_400.0, 5.0 * 365.0 * 86_400.0];
    let size = sizes[rng.random_range(0..sizes.len())] * rng.random_range(0.5..1.0);
    Box::new(Clock {
        nodes: targets(rng, nodes),
        seconds: if rng.random_bool(0.5) { size } else { -size },
    })
}

impl Fault for Clock {
    fn detail(&self) -> String {
        let (sign, size) = (if self.seconds < 0.0 { '-' } else { '+' }, self.seconds.abs());
        format!(
            "{} {sign}{:?}",
            names(&self.nodes),
            Duration::from_millis((size * 1e3) as u64)
        )
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        let set = |&node: &usize| world.cluster.set_clock(node, (self.seconds * 1e9) as i64);
        self.nodes.iter().try_for_each(set)
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        self.nodes.iter().try_for_each(|&node| world.cluster.set_clock(node, 0))
    }
}
