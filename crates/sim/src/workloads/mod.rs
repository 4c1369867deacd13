//! What clients do, each as a file: a workload draws the next request of a client from what that client and others have seen.

mod batches;
mod carts;
mod churn;
mod counters;
mod cycles;
mod hot;
mod large;
mod listings;
mod lww;
mod registers;
mod sessions;
mod sets;
mod tallies;
mod ttl;

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_causality::{Change, ConflictPolicy};
use annulus_coordinator::{BucketSpec, Condition, Durability, Level, Mode, Options};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use crate::plan::Scope;

/// A way in which clients use the store.
pub(crate) trait Workload: Sync {
    /// Its name, which is its bucket's, too.
    fn name(&self) -> &'static str;
    /// What its bucket declares, if anything.
    fn bucket(&self) -> Option<BucketSpec> {
        None
    }
    /// How its clients go about it.
    fn manner(&self) -> Manner {
        Manner::Plain
    }
    /// The next requests, sent together.
    fn calls(&self, rng: &mut StdRng, seen: &Seen<'_>) -> Vec<Call>;
}

pub(crate) const ALL: [&dyn Workload; 14] = [
    &registers::Registers,
    &sessions::Sessions,
    &sets::Sets,
    &counters::Counters,
    &churn::Churn,
    &cycles::Cycles,
    &listings::Listings,
    &hot::Hot,
    &large::Large,
    &batches::Batches,
    &ttl::Ttl,
    &lww::Lww,
    &tallies::Tallies,
    &carts::Carts,
];

/// How clients go about their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Each stands for itself.
    Plain,
    /// Each client has a session.
    InSession,
}

/// The workload where none is drawn: plain registers, if they are allowed.
pub(crate) fn plain(scope: &Scope) -> usize {
    ALL.iter()
        .position(|workload| scope.allows_workload(workload.name()))
        .unwrap_or(0)
}

/// A request that a workload wants made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) key: String,
    pub(crate) ask: Ask,
    pub(crate) options: Options,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Get,
    /// Of so many bytes at least.
    Put {
        bytes: usize,
        with: With,
    },
    Delete {
        with: With,
    },
    List {
        limit: usize,
    },
    /// An operation on a counter or a set.
    Change {
        change: Change,
        token: Option<String>,
    },
    /// A write with another key's context, which is to be refused.
    Foreign {
        token: String,
    },
}

/// What a write says of what its client has seen.
#[derive(Clone, Debug)]
pub(crate) enum With {
    /// Nothing.
    Nothing,
    /// This context.
    Context(Sight),
    /// A condition, and what it names.
    Guard(Condition, Vec<u64>),
}

/// What was seen of a key, with the context and the entity tag to prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) token: String,
    /// Nothing where it is the context of a write, which shows no entity tag.
    pub(crate) etag: Option<u128>,
    pub(crate) values: Vec<u64>,
}

/// What clients have seen of a bucket's keys.
pub(crate) struct Seen<'a> {
    pub(crate) client: u32,
    /// By bucket, key and client, the latest last.
    pub(crate) sights: &'a BTreeMap<(&'static str, String), Vec<(u32, Sight)>>,
    pub(crate) bucket: &'static str,
    pub(crate) style: Style,
}

/// Which levels clients of one run prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Style {
    /// All of them.
    Mixed,
    /// Writes that one replica has are read from all.
    WriteOneReadAll,
    /// Writes that all replicas have are read from one.
    WriteAllReadOne,
}

/// So many sights of a key are kept.
pub(crate) const SIGHTS_KEPT: usize = 8;

impl Seen<'_> {
    /// Options as clients mix them.
    pub(crate) fn options(&self, rng: &mut StdRng) -> Options {
        let one_of = |rng: &mut StdRng, levels: &[Option<Level>]| levels.choose(rng).copied().flatten();
        let (one, quorum, all) = (Some(Level::One), Some(Level::Quorum), Some(Level::All));
        let (r, w) = match self.style {
            Style::Mixed => (
                one_of(rng, &[None, None, None, one, quorum, all]),
                one_of(rng, &[None, None, None, one, quorum, all]),
            ),
            Style::WriteAllReadOne => (one_of(rng, &[None, one, one, one]), one_of(rng, &[None, all, all, all])),
            Style::WriteOneReadAll => (one_of(rng, &[None, all, all, all]), one_of(rng, &[None, one, one, one])),
        };
        Options {
            r,
            w,
            mode: *[None, None, Some(Mode::Strict), Some(Mode::Sloppy)]
                .choose(rng)
                .unwrap_or(&None),
            durability: rng.random_bool(0.05).then_some(Durability::Memory),
            timeout: rng
                .random_bool(0.7)
                .then(|| Duration::from_millis(rng.random_range(200..6000))),
        }
    }

    fn of(&self, key: &str) -> &[(u32, Sight)] {
        self.sights
            .get(&(self.bucket, key.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// What this client saw last of a key.
    pub(crate) fn mine(&self, key: &str) -> Option<&Sight> {
        let mine = self.of(key).iter().rev().find(|(client, _)| *client == self.client);
        mine.map(|(_, sight)| sight)
    }

    /// Contexts are kept, lost, reused and shared between clients.
    pub(crate) fn any(&self, rng: &mut StdRng, key: &str) -> With {
        let sights = self.of(key);
        let sight = match rng.random_range(0..10) {
            0..5 => self.mine(key),
            5 => sights.first().map(|(_, sight)| sight),
            6 => sights.choose(rng).map(|(_, sight)| sight),
            7 => sights.last().map(|(_, sight)| sight),
            _ => None,
        };
        sight.map_or(With::Nothing, |sight| With::Context(sight.clone()))
    }

    /// A context of another key.
    pub(crate) fn foreign(&self, rng: &mut StdRng, key: &str) -> Option<String> {
        let others: Vec<&Sight> = self
            .sights
            .iter()
            .filter(|((bucket, other), _)| *bucket != self.bucket || other != key)
            .flat_map(|(_, sights)| sights.iter().map(|(_, sight)| sight))
            .take(16)
            .collect();
        others.choose(rng).map(|sight| sight.token.clone())
    }
}

/// A key out of a few.
fn key(rng: &mut StdRng, count: u32) -> String {
    format!("k{}", rng.random_range(0..count))
}

/// A bucket under last-write-wins.
fn last_write_wins() -> BucketSpec {
    BucketSpec {
        conflicts: Some(ConflictPolicy::LastWriteWins),
        ..BucketSpec::default()
    }
}
