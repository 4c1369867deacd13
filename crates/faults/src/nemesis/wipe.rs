//! A node loses its directory, comes back empty, and is refilled before another one may lose its own.

use std::fs;
use std::sync::atomic::Ordering;

use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, some};
use crate::cluster::names;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "wipe",
    about: "SIGKILL, the data directory deleted; started again empty, refilled by its peers",
    needs: Needs::Signals,
    draw,
};

struct Wipe {
    node: usize,
    struck: bool,
}

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    Box::new(Wipe {
        node: some(rng, nodes, 1)[0],
        struck: false,
    })
}

impl Fault for Wipe {
    fn detail(&self) -> String {
        names(&[self.node])
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        if !world.is_whole.swap(false, Ordering::Acquire) {
            let why = "an earlier wiped node is not refilled, and another loss may be the last copy";
            return Err(Trouble::LeftOut(why.to_owned()));
        }
        self.struck = true;
        world.cluster.kill(self.node);
        let data = world.cluster.home(self.node).join("data");
        fs::remove_dir_all(&data).map_err(|error| Trouble::file(&data, error))
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        if !self.struck {
            return Ok(());
        }
        world.cluster.start(self.node)?;
        world.refill()
    }
}
