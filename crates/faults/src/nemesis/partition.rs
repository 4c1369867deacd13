//! Paths between nodes are cut: two halves, one way only, or two halves with a bridge that both reach.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Fault, Needs, Nemesis, some};
use crate::cluster::names;
use crate::network::Path;
use crate::trouble::Trouble;
use crate::world::World;

pub(super) static NEMESIS: Nemesis = Nemesis {
    name: "partition",
    about: "cuts between nodes: halves, one way, with a bridge; what was under way is lost or comes late",
    needs: Needs::Cuts,
    draw,
};

struct Partition {
    detail: String,
    /// Directed: from, to.
    cuts: Vec<(usize, usize)>,
    /// Whether connections have died in the meantime; where not, what they held arrives late.
    lost: bool,
}

fn draw(rng: &mut StdRng, nodes: usize) -> Box<dyn Fault> {
    let size = rng.random_range(1..=(nodes / 2).max(1));
    let here = some(rng, nodes, size);
    let there: Vec<usize> = (0..nodes).filter(|node| !here.contains(node)).collect();
    let pairs = |from: &[usize], to: &[usize]| -> Vec<(usize, usize)> {
        from.iter()
            .flat_map(|&from| to.iter().map(move |&to| (from, to)))
            .collect()
    };
    let (form, mut cuts) = match rng.random_range(0..4) {
        0 | 1 => ("|", [pairs(&here, &there), pairs(&there, &here)].concat()),
        2 => ("-x>", pairs(&here, &there)),
        _ => ("<x-", pairs(&there, &here)),
    };
    let mut detail = format!("{} {form} {}", names(&here), names(&there));
    if form == "|" && there.len() > 1 && rng.random_bool(0.3) {
        let bridge = there[rng.random_range(0..there.len())];
        cuts.retain(|&(from, to)| from != bridge && to != bridge);
        detail = format!("{detail}, {} reaches all", names(&[bridge]));
    }
    let lost = rng.random_bool(0.5);
    detail.push_str(if lost { "" } else { ", late" });
    Box::new(Partition { detail, cuts, lost })
}

impl Fault for Partition {
    fn detail(&self) -> String {
        self.detail.clone()
    }

    fn strike(&mut self, world: &mut World) -> Result<(), Trouble> {
        world.network()?.change(&self.cuts, |path| path.cut = true)
    }

    fn heal(&mut self, world: &mut World) -> Result<(), Trouble> {
        let lost = self.lost;
        world.network()?.change(&self.cuts, |path: &mut Path| {
            path.cut = false;
            path.resets += u64::from(lost);
        })
    }
}
