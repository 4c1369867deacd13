//! A nemesis draws faults from a seed; a fault strikes, and is healed: both are safe to repeat, in any order with others.

mod clock;
mod disk_full;
mod garble;
mod kill;
mod partition;
mod pause;
mod reset;
mod restart;
mod slow;
mod wipe;

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::trouble::Trouble;
use crate::world::World;

/// A kind of fault.
pub(crate) struct Nemesis {
    /// As it is given on the command line and counted in tables.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// What it needs.
    pub(crate) needs: Needs,
    /// Draws one fault for a cluster of so many nodes. Of the seed alone.
    pub(crate) draw: fn(&mut StdRng, usize) -> Box<dyn Fault>,
}

/// One fault, drawn but not necessarily there.
pub(crate) trait Fault: Send {
    /// What it hits, for people.
    fn detail(&self) -> String;
    /// Makes it so.
    fn strike(&mut self, world: &mut World) -> Result<(), Trouble>;
    /// Makes it good again.
    fn heal(&mut self, world: &mut World) -> Result<(), Trouble>;
    /// How long it lasts where not as long as the schedule would like.
    fn lasts(&self, wished: Duration) -> Duration {
        wished
    }
}

/// What has to be set up before the nodes start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: signals will do.
    Signals,
    /// A proxy between the nodes, or namespaces instead.
    Cuts,
    /// A proxy between the nodes.
    Proxy,
    /// A file system a node.
    SmallDisks,
    /// A library that is preloaded.
    ClockShim,
}

impl Needs {
    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Needs::Signals => "nothing",
            Needs::Cuts => "/proc, to tell who connects to the proxy, or root or user namespaces",
            Needs::Proxy => "/proc, to tell who connects to the proxy",
            Needs::SmallDisks => "root or user namespaces, for a tmpfs a node",
            Needs::ClockShim => "cc, and a binary that is linked dynamically",
        }
    }

    /// Why it cannot be had here.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Needs::Signals => Ok(()),
            Needs::Cuts => crate::dialler::check().or_else(|_| crate::netns::check()),
            Needs::Proxy => crate::dialler::check(),
            Needs::SmallDisks => crate::space::enter(false).map(drop),
            Needs::ClockShim => crate::shim::check(),
        }
    }
}

/// All there are.
pub(crate) static ALL: [&Nemesis; 10] = [
    &kill::NEMESIS,
    &restart::NEMESIS,
    &pause::NEMESIS,
    &partition::NEMESIS,
    &slow::NEMESIS,
    &reset::NEMESIS,
    &garble::NEMESIS,
    &disk_full::NEMESIS,
    &clock::NEMESIS,
    &wipe::NEMESIS,
];

/// The one of this name.
pub(crate) fn find(name: &str) -> Option<&'static Nemesis> {
    ALL.into_iter().find(|nemesis| nemesis.name == name)
}

/// Nodes to be hit: mostly so few that every preference list keeps a majority, now and then more than half or all.
fn targets(rng: &mut StdRng, nodes: usize) -> Vec<usize> {
    let minority = ((nodes.min(3)) - 1) / 2;
    let count = match rng.random_range(0..10) {
        0..7 => minority.max(1),
        7 => nodes / 2,
        8 => nodes / 2 + 1,
        _ => nodes,
    };
    some(rng, nodes, count)
}

/// So many different nodes, in order.
fn some(rng: &mut StdRng, nodes: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    all.shuffle(rng);
    all.truncate(count.clamp(1, nodes));
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn names_differ_and_are_found() {
        for nemesis in ALL {
            assert!(find(nemesis.name).is_some_and(|found| std::ptr::eq(found, nemesis)));
        }
        assert!(find("flood").is_none());
    }

    #[test]
    fn targets_are_distinct_nodes_of_the_cluster_and_at_least_one() {
        let mut rng = StdRng::seed_from_u64(1);
        for nodes in 1..=9 {
            for _ in 0..100 {
                let targets = targets(&mut rng, nodes);
                assert!(!targets.is_empty() && targets.iter().all(|&target| target < nodes));
                assert!(targets.is_sorted_by(|one, next| one < next));
            }
        }
    }
}
