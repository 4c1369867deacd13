//! Everything that goes wrong in the field, each as a file: it begins, it ends, and its dice say whom it hits.

mod bit_rot;
mod blackout;
mod bridge;
mod clock_jump;
mod clock_years;
mod clog;
mod corrupt;
mod crash;
mod crash_in_recovery;
mod crossed;
mod disk_full;
mod isolate;
mod lost_answer;
mod lost_record;
mod one_way;
mod partition;
mod pause;
mod power_loss;
mod read_error;
mod reset;
mod slow_disk;
mod slow_link;
mod swapped_disks;
mod throughout;
mod wipe;
mod write_error;
mod yesterday;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::queue::Nanos;
use crate::world::World;

/// What of the promises does not hold after a fault, in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakens {
    /// Nothing: all promises hold.
    Nothing,
    /// A record is damaged or lost: what one owner alone had is gone.
    OneRecord,
    /// A disk's contents are gone or old: what one owner alone had is lost.
    OneDisk,
    /// This version does not withstand it: drawn only on demand.
    Everything,
}

/// How a fault comes several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bursts {
    /// It does not.
    Never,
    /// One soon after the other.
    InARow,
    /// One after the other, and all end at one time.
    EndTogether,
    /// Once in a run, from its beginning until every other fault is over.
    Throughout,
}

/// A kind of fault.
pub(crate) trait Fault: Sync {
    /// Its name, as given to `--faults`.
    fn name(&self) -> &'static str;
    /// What it does, in one line.
    fn about(&self) -> &'static str;
    /// What it weakens.
    fn weakens(&self) -> Weakens {
        Weakens::Nothing
    }
    /// Whether no process ends by it, and no disk refuses or forgets anything.
    fn spares_processes(&self) -> bool {
        false
    }
    /// It says nothing unless it lasts for so long.
    fn least(&self) -> Nanos {
        1
    }
    /// Whether it comes several times in a row.
    fn bursts(&self) -> Bursts {
        Bursts::Never
    }
    /// It begins. The same dice are thrown at its end, so what they hit is the same.
    fn begin(&self, world: &mut World, dice: Dice);
    /// It ends.
    fn end(&self, _world: &mut World, _dice: Dice) {}
}

/// All of them.
pub(crate) const ALL: [&dyn Fault; 29] = [
    &bit_rot::BitRot,
    &blackout::Blackout,
    &bridge::BRIDGE,
    &clock_jump::ClockJump,
    &clock_years::ClockYears,
    &clog::Clog,
    &corrupt::Corrupt,
    &crash::Crash,
    &crash_in_recovery::CrashInRecovery,
    &crossed::Crossed,
    &disk_full::DiskFull,
    &isolate::ISOLATE,
    &lost_answer::LostAnswer,
    &lost_record::LostRecord,
    &throughout::NO_CATCH_UP,
    &throughout::NO_HANDOFF,
    &one_way::ONE_WAY,
    &partition::PARTITION,
    &pause::Pause,
    &power_loss::PowerLoss,
    &read_error::ReadError,
    &reset::Reset,
    &slow_disk::SlowDisk,
    &slow_link::SlowLink,
    &swapped_disks::SwappedDisks,
    &throughout::TWICE,
    &wipe::Wipe,
    &write_error::WriteError,
    &yesterday::Yesterday,
];

/// The draws of one fault.
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn of(seed: u64) -> Dice {
        Dice(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound.max(1))
    }

    pub(crate) fn chance(&mut self, of_100: u32) -> bool {
        self.0.random_ratio(of_100, 100)
    }

    pub(crate) fn node(&mut self, world: &World) -> usize {
        self.0.random_range(0..world.count())
    }

    /// Two different nodes.
    pub(crate) fn pair(&mut self, world: &World) -> (usize, usize) {
        let from = self.node(world);
        let to = (from + self.0.random_range(1..world.count())) % world.count();
        (from, to)
    }

    /// All nodes, in random order.
    pub(crate) fn shuffled(&mut self, world: &World) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..world.count()).collect();
        nodes.shuffle(&mut self.0);
        nodes
    }

    /// All directed pairs, in random order.
    pub(crate) fn shuffled_pairs(&mut self, world: &World) -> Vec<(usize, usize)> {
        let count = world.count();
        let mut pairs: Vec<(usize, usize)> = (0..count)
            .flat_map(|from| (0..count).map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .collect();
        pairs.shuffle(&mut self.0);
        pairs
    }

    /// All directed pairs, or those of one node, both ways.
    pub(crate) fn all_or_of_one(&mut self, world: &World) -> Vec<(usize, usize)> {
        let one = self.node(world);
        let is_all = self.chance(40);
        let mut pairs = self.shuffled_pairs(world);
        pairs.retain(|&(from, to)| is_all || from == one || to == one);
        pairs
    }

    /// The nodes in two groups, neither empty.
    pub(crate) fn halves(&mut self, world: &World) -> (Vec<usize>, Vec<usize>) {
        let mut nodes = self.shuffled(world);
        let rest = nodes.split_off(self.0.random_range(1..world.count()));
        (nodes, rest)
    }
}

/// A fault that cuts pairs of nodes from each other, and is otherwise as every such fault.
pub(crate) struct Cut {
    name: &'static str,
    about: &'static str,
    bursts: Bursts,
    /// Whom it cuts: from, to.
    pairs: fn(&World, &mut Dice) -> Vec<(usize, usize)>,
}

impl Fault for Cut {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn spares_processes(&self) -> bool {
        true
    }

    fn bursts(&self) -> Bursts {
        self.bursts
    }

    fn begin(&self, world: &mut World, mut dice: Dice) {
        let pairs = (self.pairs)(world, &mut dice);
        cut(world, pairs);
    }

    fn end(&self, world: &mut World, mut dice: Dice) {
        let pairs = (self.pairs)(world, &mut dice);
        mend(world, pairs);
    }
}

/// From one to the other of each pair nothing passes any more, and connections cannot be made.
pub(crate) fn cut(world: &mut World, pairs: impl IntoIterator<Item = (usize, usize)>) {
    for (from, to) in pairs {
        world.link_mut(from, to).blocked += 1;
        world.break_link(from, to);
    }
}

/// What [`cut`] did is over.
pub(crate) fn mend(world: &mut World, pairs: impl IntoIterator<Item = (usize, usize)>) {
    for (from, to) in pairs {
        world.link_mut(from, to).blocked -= 1;
    }
}

/// Every directed pair between two groups.
pub(crate) fn between(one: &[usize], other: &[usize]) -> Vec<(usize, usize)> {
    let pairs = one.iter().flat_map(|&a| other.iter().map(move |&b| (a, b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

/// A process that a fault ends stays down as long as the fault lasts.
pub(crate) fn put_down(world: &mut World, node: usize, death: crate::world::Death) {
    world.processes[node].kept_down += 1;
    world.kill(node, death);
}

pub(crate) fn put_up(world: &mut World, node: usize) {
    world.processes[node].kept_down -= 1;
    world.start(node);
}
