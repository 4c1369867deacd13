//! An expired version is hidden everywhere at one instant; later the first live owner drops it, by a delete that covers it and nothing else.
//!
//! The delete has a dot of its own and goes the way of every write, so whoever was away learns of it as of any other, and nothing comes back.
//!
//! **Hiding can be taken back, dropping cannot.** A node whose clock is set ahead by years hides what has years to live, and shows it again when
//! the clock is set right. So no clock drops anything alone: a version goes when all live owners of its partition, two of them at least,
//! say that it expired longer ago than clocks that are right may differ.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_causality::{ConflictPolicy, Instant};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::Delta;
use annulus_ring::NodeId;
use annulus_storage::{Engine, Expiring};

use crate::io::Effect;
use crate::node::{Node, wire};
use crate::settings::Now;
use crate::writes::Who;

/// Passes through what has expired in the time of the margin: what is due waits for little longer than it has waited.
const PASSES_A_MARGIN: u32 = 6;
/// From one round of a pass to the next: requests come in between.
const ROUND: Duration = Duration::from_millis(50);
/// Objects that are looked at in a round: some 20,000 a second.
const LOOKS: usize = 1024;
/// Objects that are dropped in a round, some 5,000 a second, and about so many bytes of their values are read for it.
const DROPS: usize = 256;
const VALUE_BYTES: usize = 1 << 20;

/// Where the passes are, and what time it is elsewhere.
#[derive(Debug)]
pub(crate) struct Expiry {
    next_round: Instant,
    /// What the pass came to last; a new one begins where there is nothing.
    last: Option<Expiring>,
    /// What co-owners' wall clocks showed when they last told of theirs, a second ago or so.
    clocks: BTreeMap<NodeId, u64>,
}

impl Expiry {
    /// The first pass begins now.
    pub(crate) fn starting(now: Now) -> Expiry {
        Expiry {
            next_round: now.monotonic,
            last: None,
            clocks: BTreeMap::new(),
        }
    }

    pub(crate) fn next_deadline(&self) -> Instant {
        self.next_round
    }

    /// A co-owner's wall clock shows this, in milliseconds since the Unix epoch.
    pub(crate) fn is_told(&mut self, peer: NodeId, wall_millis: u64) {
        self.clocks.insert(peer, wall_millis);
    }

    /// The link to it is down: its clock may be set to anything meanwhile.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.clocks.remove(&peer);
    }

    /// What is expired at this time is so by the clocks of all live owners; nothing where one of them has told of none, or where this
    /// node is alone and should not be.
    fn agreed(&self, now: Now, who: &Who) -> Option<u64> {
        let others = who.live_owners().filter(|owner| *owner != who.me);
        let clocks = others.map(|owner| self.clocks.get(&owner).copied());
        let clocks = clocks.collect::<Option<Vec<u64>>>()?;
        let is_enough = !clocks.is_empty() || who.n() == 1;
        is_enough.then(|| clocks.into_iter().fold(now.wall_millis, u64::min))
    }
}

impl<E: Engine> Node<E> {
    /// Drops a bounded number of expired versions, and says when it goes on.
    pub(crate) fn drop_expired(&mut self, now: Now, out: &mut Vec<Effect>) {
        // Deletes take room, too, before they make some.
        let is_over = match self.readiness().and_then(|()| self.check_room()) {
            Ok(()) => self.expiry_round(now, out),
            Err(_) => true,
        };
        if is_over {
            self.expiry.last = None;
        }
        let pause = match is_over {
            true => self.settings.expiry_margin / PASSES_A_MARGIN,
            false => ROUND,
        };
        self.expiry.next_round = now.monotonic + pause.max(ROUND);
    }

    /// Says whether the pass is over.
    fn expiry_round(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        let until = now.wall_millis.saturating_sub(self.margin());
        let found = match self.replica.expiring(self.expiry.last.as_ref(), until, LOOKS) {
            Ok(found) => found,
            Err(error) => {
                self.warn_once("expiry", format!("What has expired cannot be read: {error}."), out);
                return true;
            }
        };
        let is_last = found.len() < LOOKS;
        let (mut drops, mut bytes) = (0, 0);
        for expiring in found {
            if drops >= DROPS || bytes >= VALUE_BYTES {
                return false;
            }
            let who = self.participants(&expiring.address);
            let is_first = who.live_owners().next() == Some(self.me);
            let agreed = self.expiry.agreed(now, &who).filter(|_| is_first);
            if let Some(agreed) = agreed.map(|agreed| agreed.saturating_sub(self.margin()))
                && agreed >= expiring.expires
            {
                drops += 1;
                bytes += self.drop_versions(now, (&expiring, agreed), &who, out);
            }
            self.expiry.last = Some(expiring);
        }
        is_last
    }

    fn margin(&self) -> u64 {
        u64::try_from(self.settings.expiry_margin.as_millis()).unwrap_or(u64::MAX)
    }

    /// Drops the versions of an object that had expired at this time, and says how many bytes were read for it.
    fn drop_versions(&mut self, now: Now, (expiring, at): (&Expiring, u64), who: &Who, out: &mut Vec<Effect>) -> usize {
        let address = &expiring.address;
        let known = match self.replica.read(address) {
            Ok(known) => known,
            Err(error) => {
                self.damaged(address.partition, &error, out);
                return 0;
            }
        };
        let bytes = known.versions().iter().map(|(_, version)| version.value.len()).sum();
        let policy = self.bucket_config(&address.bucket).conflicts;
        let expired = match planted(Mutant::WholeKeyExpires) {
            true => known.dots().collect(),
            false => known.expired(at, policy),
        };
        if expired.is_empty() {
            // The index is behind the object, as damage may leave it.
            if let Err(error) = self.replica.check_expiry(expiring) {
                self.damaged(address.partition, &error, out);
            }
            return bytes;
        }
        let dot = self.replica.next_dot(address.partition, self.actor());
        let delta = Delta {
            at: wire(address),
            dots: [dot].into_iter().collect(),
            object: known.write(dot, None, Some(&expired), ConflictPolicy::Siblings),
        };
        // A record that is damaged here has put its partition in doubt.
        if self.apply(address, &delta, out).is_ok() {
            self.counters.versions_expired += expired.count();
            // Who misses it catches up.
            for owner in who.live_owners().filter(|owner| *owner != who.me) {
                self.send_unasked(now, owner, delta.clone(), out);
            }
        }
        bytes
    }
}
