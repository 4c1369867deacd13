//! Owners of a partition compare clocks and fetch what they lack: the cost is that of what is missing, and no command need be run.
//!
//! Once a second each node sends every co-owner the hash of the clocks of all partitions that both own. Where it differs the two descend,
//! range by range, to the clocks of single partitions, and whoever lacks dots asks for their objects, in pages: a few of a peer are on their
//! way, and another is asked for when one is durable. Nothing is kept at the sender between two pages.

mod fetch;
mod lag;
mod supply;
mod wants;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use annulus_causality::{CausalContext, Instant};
use annulus_membership::Witnessed;
use annulus_protocol::{ClockRange, Message, PartitionClock, SUB_RANGES, Want};
use annulus_ring::{NodeId, PartitionId};
use annulus_storage::{Engine, clock_hash};

use self::wants::{Wanted, Wants};
use crate::io::Effect;
use crate::memory;
use crate::node::Node;
use crate::settings::Now;
use crate::tasks::FIRST_NUMBER_MASK;

/// How often clocks are compared.
const ROUND: Duration = Duration::from_secs(1);
/// Dots that are still missing after this are asked for: until then their writes are probably on their way.
const GRACE: Duration = Duration::from_secs(1);
/// A peer that refused is asked again after this, and a page that does not come is asked for anew after ten times this.
const RETRY: Duration = Duration::from_secs(1);
/// What cannot be asked for yet waits for so long.
const PAUSE: Duration = Duration::from_millis(100);
/// Of objects in one answer, in bytes: what a node reads or stores of them at once holds nobody up for long.
const PAGE_BYTES: usize = 128 << 10;
/// So many questions are answered at once; between two times a node does what else there is.
const ANSWERS: usize = 4;
const BREATH: Duration = Duration::from_millis(1);
/// While clients ask for something, here or at other nodes that need this one for it: one answer, of half the size, in so long.
const BUSY_BREATH: Duration = Duration::from_millis(6);
/// Clients are thought to go on for so long.
const BUSY: Duration = Duration::from_millis(100);
/// Partitions in one question: more than fill a page where much is missing.
const MAX_WANTS: usize = 16;
/// Questions to one peer that are not answered, or whose answers are not durable: the disk and the other side work meanwhile.
const MAX_ASKED: usize = 8;
/// A range that differs is divided into so many.
const FAN_OUT: u32 = 16;
/// Ranges in one message, and about so many bytes of clocks.
const MAX_RANGES: usize = 4096;
const CLOCKS_BYTES: usize = 128 << 10;

/// A question that was not answered yet.
#[derive(Debug)]
struct Asked {
    /// Then it is given up.
    until: Instant,
    /// The partitions, each with the fingerprints that were sent; none once its answer came, which is not durable yet.
    partitions: BTreeMap<PartitionId, [u64; SUB_RANGES]>,
}

/// What is known of one co-owner while its link is up.
#[derive(Debug)]
struct CoOwner {
    /// The clocks that it told of last.
    told: BTreeMap<PartitionId, CausalContext>,
    /// What these partitions held, by their fingerprints.
    contents: BTreeMap<PartitionId, u64>,
    /// The states that it was told of last.
    said: BTreeMap<PartitionId, u64>,
    /// Since when partitions have other contents there, though the clocks are equal.
    apart: BTreeMap<PartitionId, Instant>,
    wants: Wants,
    /// By request.
    asked: BTreeMap<u64, Asked>,
    /// What it asks for, in the order in which it is answered.
    asks: VecDeque<(u64, Vec<Want>)>,
    /// What differs from now on is probably on its way, and until then was missed while there was no link.
    current_from: Instant,
}

impl CoOwner {
    /// First heard of on this link.
    fn new(now: Instant) -> CoOwner {
        CoOwner {
            told: BTreeMap::new(),
            contents: BTreeMap::new(),
            apart: BTreeMap::new(),
            said: BTreeMap::new(),
            wants: Wants::default(),
            asked: BTreeMap::new(),
            asks: VecDeque::new(),
            current_from: now + GRACE,
        }
    }
}

/// The state of catching up, all of which a restart may forget.
#[derive(Debug)]
pub(crate) struct CatchUp {
    peers: BTreeMap<NodeId, CoOwner>,
    /// Who has begun to compare while there was no link to answer by.
    unanswered: BTreeSet<NodeId>,
    /// With whom a partition in doubt has caught up since it came into doubt.
    pub(crate) caught: BTreeMap<PartitionId, BTreeSet<NodeId>>,
    /// From whom a partition is being streamed.
    streams: BTreeMap<PartitionId, NodeId>,
    shared: Shared,
    next_round: Instant,
    /// What is due and cannot be asked for, as the disk is full or others are asked, is looked at again from then on.
    not_before: Instant,
    /// When the next question is answered.
    next_answer: Instant,
    /// Until then clients are thought to ask for something.
    busy_until: Instant,
    /// The next request's number: no two lives' numbers meet.
    next_request: u64,
    /// Since when the log of a partition has been needed.
    needed_since: BTreeMap<PartitionId, Instant>,
    /// Writes taken by the last round.
    logged: u64,
}

/// The partitions that this node and a peer both own, by replicas; of one epoch.
#[derive(Debug, Default)]
struct Shared {
    epoch: u64,
    with: BTreeMap<NodeId, BTreeMap<u8, Vec<u32>>>,
}

impl Shared {
    /// Those of `first..first + count`.
    fn range(&self, peer: NodeId, n: u8, first: u32, count: u32) -> &[u32] {
        let all = self.with.get(&peer).and_then(|by_n| by_n.get(&n));
        let all = all.map_or(&[][..], Vec::as_slice);
        let start = all.partition_point(|index| *index < first);
        let end = all.partition_point(|index| *index < first.saturating_add(count));
        &all[start..end]
    }

    fn contains(&self, peer: NodeId, partition: PartitionId) -> bool {
        !self.range(peer, partition.n, partition.index, 1).is_empty()
    }
}

impl CatchUp {
    pub(crate) fn starting(now: Now, random: u64) -> CatchUp {
        CatchUp {
            peers: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            caught: BTreeMap::new(),
            streams: BTreeMap::new(),
            shared: Shared::default(),
            next_round: now.monotonic + ROUND,
            not_before: now.monotonic,
            next_answer: now.monotonic,
            busy_until: Instant::ZERO,
            next_request: random & FIRST_NUMBER_MASK,
            needed_since: BTreeMap::new(),
            logged: 0,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.looks_at().into_iter().chain(self.answers_at()).min()
    }

    /// When something is due but an answer.
    fn looks_at(&self) -> Option<Instant> {
        let asked = self.peers.values().flat_map(|peer| peer.asked.values());
        let due = self.peers.values().filter(|peer| peer.asked.len() < MAX_ASKED);
        let due = due.filter_map(|peer| peer.wants.next_due());
        let waits = due.chain(asked.map(|asked| asked.until)).min();
        let waits = waits.map(|at| at.max(self.not_before));
        waits.into_iter().chain([self.next_round]).min()
    }

    /// Something was done for a client.
    pub(crate) fn is_busy_at(&mut self, now: Now) {
        self.busy_until = now.monotonic + BUSY;
    }

    /// When a question is to be answered, if there is any.
    fn answers_at(&self) -> Option<Instant> {
        let mut asks = self.peers.values().filter(|peer| !peer.asks.is_empty());
        asks.next().map(|_| self.next_answer)
    }

    /// Whatever a peer has of a partition that this clock lacks is asked for at once, and all of it.
    pub(crate) fn look_again(&mut self, partition: PartitionId, clock: &CausalContext, due: Instant) {
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.want(peer, partition, clock, (due, true));
        }
    }

    /// A peer told of a clock without what the partition holds.
    fn forget_contents(&mut self, peer: NodeId, partition: PartitionId) {
        if let Some(co_owner) = self.peers.get_mut(&peer) {
            co_owner.contents.remove(&partition);
        }
    }

    /// Whatever a peer has told of and this clock lacks is to be asked for; says whether that is anything.
    fn want(
        &mut self,
        peer: NodeId,
        partition: PartitionId,
        clock: &CausalContext,
        (due, streamed): (Instant, bool),
    ) -> bool {
        let Some(co_owner) = self.peers.get_mut(&peer) else {
            return false;
        };
        let told = co_owner.told.get(&partition).filter(|told| !told.is_subset(clock));
        let wanted = told.cloned().map(|clock| Wanted { clock, due, streamed });
        let is_any = wanted.is_some();
        if let Some(wanted) = wanted {
            co_owner.wants.insert(partition, wanted);
        }
        is_any
    }

    /// What is wanted of a partition from a peer.
    fn wanted(&self, peer: NodeId, partition: PartitionId) -> Option<&Wanted> {
        self.peers.get(&peer)?.wants.get(partition)
    }

    /// Whether a partition is being fetched, or streamed from another peer than this.
    fn is_busy(&self, partition: PartitionId, peer: NodeId) -> bool {
        let mut asked = self.peers.values().flat_map(|peer| peer.asked.values());
        self.streams.get(&partition).is_some_and(|from| *from != peer)
            || asked.any(|asked| asked.partitions.contains_key(&partition))
    }
}

impl<E: Engine> Node<E> {
    /// A link came up: the clocks are compared at once. One of the two begins, so that nothing is said twice; the other only where
    /// the first could not be answered.
    pub(crate) fn catch_up_with(&mut self, peer: NodeId, out: &mut Vec<Effect>) {
        self.drop_co_owner(peer);
        self.refresh_shared();
        if self.catch_up.unanswered.remove(&peer) || self.me > peer {
            self.send_roots(peer, out);
        }
    }

    /// The link went down: nothing that was asked will be answered.
    pub(crate) fn drop_co_owner(&mut self, peer: NodeId) {
        self.catch_up.peers.remove(&peer);
        self.expiry.forget(peer);
        // How far they have come is kept: they go on where they were, from whoever has all that this one had.
        self.catch_up.streams.retain(|_, from| *from != peer);
    }

    /// Does what is due.
    pub(crate) fn catch_up_round(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.answer_if_due(now, out);
        if self.catch_up.looks_at().is_none_or(|at| now.monotonic < at) {
            return;
        }
        self.catch_up.not_before = now.monotonic + PAUSE;
        if self.failed.is_some() || self.cluster.is_none() {
            self.catch_up.next_round = now.monotonic + ROUND;
            return;
        }
        if self.catch_up.next_round <= now.monotonic {
            self.catch_up.next_round = now.monotonic + ROUND;
            self.refresh_shared();
            for peer in self.reachable_peers() {
                self.send_roots(peer, out);
            }
            self.settle_doubts();
            self.note_needed(now);
            self.keep_house();
            self.scrub(out);
            self.closing_round(now, out);
        }
        let peers: Vec<NodeId> = self.catch_up.peers.keys().copied().collect();
        for peer in peers {
            self.ask_if_due(now, peer, out);
        }
    }

    /// Where nothing was written since the last round, the log is trimmed; in a busy time a checkpoint does that. What peers said of their
    /// disks is kept: it changes only with their writes.
    fn keep_house(&mut self) {
        let counters = &self.counters;
        let logged = counters.writes + counters.caught_objects + counters.peer_writes + counters.versions_expired;
        if std::mem::replace(&mut self.catch_up.logged, logged) == logged {
            self.replica.trim_log();
        }
        if let Some(peers) = self.witness.news() {
            memory::put_witness(&mut self.replica, peers);
        }
    }

    fn refresh_shared(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let ring = &cluster.ring;
        if self.catch_up.shared.epoch == ring.epoch() {
            return;
        }
        let mut with = BTreeMap::<NodeId, BTreeMap<u8, Vec<u32>>>::new();
        for n in 1..=ring.replicas() {
            for index in 0..ring.partitions().count() {
                let owners = ring.preference_list(PartitionId { n, index }).owners;
                if owners.contains(&self.me) {
                    for owner in owners.iter().filter(|owner| **owner != self.me) {
                        with.entry(*owner).or_default().entry(n).or_default().push(index);
                    }
                }
            }
        }
        self.catch_up.shared = Shared {
            epoch: ring.epoch(),
            with,
        };
    }

    fn send_roots(&mut self, peer: NodeId, out: &mut Vec<Effect>) {
        let Some(cluster) = &self.cluster else { return };
        let count = cluster.ring.partitions().count();
        let roots = self
            .catch_up
            .shared
            .with
            .get(&peer)
            .into_iter()
            .flat_map(BTreeMap::keys);
        let roots = roots.map(|&n| self.clock_range(peer, n, 0, count));
        let ranges: Vec<ClockRange> = roots.collect();
        if !ranges.is_empty() {
            out.push(self.clock_hashes(peer, ranges));
        }
    }

    fn clock_hashes(&self, to: NodeId, ranges: Vec<ClockRange>) -> Effect {
        let durable = Witnessed {
            incarnation: self.incarnation,
            batch: self.durable.last_written(),
        };
        Effect::Send {
            to,
            message: Message::ClockHashes {
                durable,
                wall_millis: self.now.wall_millis,
                ranges,
            },
        }
    }

    fn clock_range(&self, peer: NodeId, n: u8, first: u32, count: u32) -> ClockRange {
        let indexes = self.catch_up.shared.range(peer, n, first, count).iter();
        let hashes = indexes.map(|&index| in_range(index, self.state_of(PartitionId { n, index })));
        ClockRange {
            n,
            first,
            count,
            hash: hashes.fold(0, u64::wrapping_add),
        }
    }

    /// A partition's clock and contents in one.
    fn state_of(&self, partition: PartitionId) -> u64 {
        state(self.replica.clock_hash(partition), self.replica.contents(partition))
    }

    /// Ranges that are equal are noted, of others the parts are sent, of single partitions the clocks.
    pub(crate) fn on_clock_hashes(
        &mut self,
        now: Now,
        from: NodeId,
        (durable, ranges): (Witnessed, Vec<ClockRange>),
        out: &mut Vec<Effect>,
    ) {
        self.witness.saw(from, durable);
        if !self.is_reachable(from) {
            self.catch_up.unanswered.insert(from);
            return;
        }
        self.refresh_shared();
        let mut parts = Vec::new();
        let mut clocks = Vec::new();
        for range in ranges {
            let ClockRange { n, first, count, .. } = range;
            if self.clock_range(from, n, first, count) == range {
                self.are_equal(from, n, first, count);
            } else if count > 1 {
                let width = count.div_ceil(FAN_OUT);
                let starts = (first..first.saturating_add(count))
                    .step_by(width as usize)
                    .take(FAN_OUT as usize);
                parts.extend(starts.map(|start| {
                    let count = width.min(first.saturating_add(count) - start);
                    self.clock_range(from, n, start, count)
                }));
            } else if self.catch_up.shared.contains(from, PartitionId { n, index: first }) {
                let partition = PartitionId { n, index: first };
                match self.is_said_and_told(from, partition, range.hash) {
                    Some(told) => self.compare(now, from, told),
                    None => clocks.push(partition),
                }
            }
            if parts.len() >= MAX_RANGES {
                out.push(self.clock_hashes(from, std::mem::take(&mut parts)));
            }
        }
        if !parts.is_empty() {
            out.push(self.clock_hashes(from, parts));
        }
        self.tell_clocks(from, true, clocks, out);
        self.ask_if_due(now, from, out);
    }

    /// What the peer has of a partition, where each of the two has told the other and both are what they were.
    fn is_said_and_told(&self, peer: NodeId, partition: PartitionId, hash: u64) -> Option<PartitionClock> {
        let co_owner = self.catch_up.peers.get(&peer)?;
        let (told, contents) = (co_owner.told.get(&partition)?, *co_owner.contents.get(&partition)?);
        let is_said = co_owner.said.get(&partition) == Some(&self.state_of(partition));
        let is_told = in_range(partition.index, state(clock_hash(told), contents)) == hash;
        (is_said && is_told).then(|| PartitionClock {
            partition,
            clock: told.clone(),
            contents,
        })
    }

    fn tell_clocks(&mut self, to: NodeId, answer: bool, partitions: Vec<PartitionId>, out: &mut Vec<Effect>) {
        if partitions.is_empty() {
            return;
        }
        let mut clocks = Vec::new();
        let mut bytes = 0;
        let now = self.now.monotonic;
        let said = &mut self.catch_up.peers.entry(to).or_insert_with(|| CoOwner::new(now)).said;
        let mut send = |clocks: &mut Vec<PartitionClock>| {
            let clocks = std::mem::take(clocks);
            out.push(Effect::Send {
                to,
                message: Message::Clocks { answer, clocks },
            });
        };
        for partition in partitions {
            let clock = self.replica.clock(partition).clone();
            let contents = self.replica.contents(partition);
            said.insert(partition, state(self.replica.clock_hash(partition), contents));
            bytes += 24 + 24 * clock.spans().count();
            clocks.push(PartitionClock {
                partition,
                clock,
                contents,
            });
            if bytes >= CLOCKS_BYTES {
                send(&mut clocks);
                bytes = 0;
            }
        }
        if !clocks.is_empty() {
            send(&mut clocks);
        }
    }

    /// The clocks of a range are as the peer's.
    fn are_equal(&mut self, peer: NodeId, n: u8, first: u32, count: u32) {
        let indexes = self.catch_up.shared.range(peer, n, first, count).to_vec();
        for partition in indexes.into_iter().map(|index| PartitionId { n, index }) {
            let clock = self.replica.clock(partition);
            if !clock.is_empty() {
                let now = self.now.monotonic;
                let co_owner = self.catch_up.peers.entry(peer).or_insert_with(|| CoOwner::new(now));
                if co_owner.told.get(&partition) != Some(clock) {
                    co_owner.told.insert(partition, clock.clone());
                }
                co_owner.contents.insert(partition, self.replica.contents(partition));
                co_owner.apart.remove(&partition);
                // Though the peer told of this before: this node may have had less then.
                self.release_log(partition);
            }
            self.has_all_of(peer, partition);
        }
    }

    /// Nothing that the peer has of this partition is missing here.
    fn has_all_of(&mut self, peer: NodeId, partition: PartitionId) {
        if let Some(co_owner) = self.catch_up.peers.get_mut(&peer) {
            // Contents that are apart are joined though nothing is missing.
            let is_joined = co_owner.wants.get(partition).is_some_and(|wanted| wanted.streamed);
            if !(is_joined && co_owner.apart.contains_key(&partition)) {
                co_owner.wants.remove(partition);
            }
        }
        if !self.catch_up.streams.contains_key(&partition) {
            // One that was broken off is not needed any more.
            self.replica.abandon_stream(partition);
        }
        if self.replica.is_in_doubt(partition) {
            self.catch_up.caught.entry(partition).or_default().insert(peer);
            self.settle_doubt(partition);
        }
    }

    /// A peer tells of its clocks.
    pub(crate) fn on_clocks(
        &mut self,
        now: Now,
        from: NodeId,
        (answer, clocks): (bool, Vec<PartitionClock>),
        out: &mut Vec<Effect>,
    ) {
        self.refresh_shared();
        let mut differ = Vec::new();
        for told in clocks {
            let partition = told.partition;
            if !self.catch_up.shared.contains(from, partition) {
                continue;
            }
            if told.clock != *self.replica.clock(partition) || told.contents != self.replica.contents(partition) {
                differ.push(partition);
            }
            self.compare(now, from, told);
        }
        if answer {
            self.tell_clocks(from, false, differ, out);
        }
        self.ask_if_due(now, from, out);
    }

    /// What a peer has of a partition.
    fn compare(&mut self, now: Now, peer: NodeId, told: PartitionClock) {
        let PartitionClock {
            partition,
            clock,
            contents,
        } = told;
        let is_equal = clock == *self.replica.clock(partition);
        self.is_told(now, peer, partition, clock);
        if is_equal {
            self.compare_contents(now, peer, partition, contents);
        }
        if let Some(co_owner) = self.catch_up.peers.get_mut(&peer) {
            co_owner.contents.insert(partition, contents);
        }
    }

    /// Equal clocks and other contents: a write that two coordinators began has replaced something at one of them. (What else differs so is on
    /// its way, and soon the same.) Neither lacks a dot, so what differs is streamed, by each of them from the other.
    fn compare_contents(&mut self, now: Now, peer: NodeId, partition: PartitionId, theirs: u64) {
        let is_apart = theirs != self.replica.contents(partition) && !self.replica.is_in_doubt(partition);
        let Some(co_owner) = self.catch_up.peers.get_mut(&peer) else {
            return;
        };
        if !is_apart {
            co_owner.apart.remove(&partition);
            return;
        }
        let since = *co_owner.apart.entry(partition).or_insert(now.monotonic);
        if since + GRACE <= now.monotonic && co_owner.wants.get(partition).is_none() {
            let wanted = Wanted {
                clock: self.replica.clock(partition).clone(),
                due: now.monotonic,
                streamed: true,
            };
            co_owner.wants.insert(partition, wanted);
            self.counters.apart += 1;
        }
    }

    fn is_told(&mut self, now: Now, peer: NodeId, partition: PartitionId, clock: CausalContext) {
        self.adopt_closed(partition, &clock);
        let lacks = !clock.is_subset(self.replica.clock(partition));
        let now = now.monotonic;
        let co_owner = self.catch_up.peers.entry(peer).or_insert_with(|| CoOwner::new(now));
        if lacks && co_owner.wants.get(partition).is_none() {
            let due = match co_owner.current_from <= now {
                true => now + GRACE,
                false => now,
            };
            let wanted = Wanted {
                clock: clock.clone(),
                due,
                streamed: false,
            };
            co_owner.wants.insert(partition, wanted);
        }
        co_owner.told.insert(partition, clock);
        self.release_log(partition);
        if !lacks {
            self.has_all_of(peer, partition);
        }
    }

    /// What every owner has, the log need not name any more.
    fn release_log(&mut self, partition: PartitionId) {
        if self.replica.log_length(partition).entries == 0 {
            return;
        }
        let clock = self.replica.clock(partition);
        let mut lacking = CausalContext::new();
        for owner in self.other_owners(partition) {
            let told = self
                .catch_up
                .peers
                .get(&owner)
                .and_then(|peer| peer.told.get(&partition));
            match told {
                Some(told) => lacking.union(&clock.difference(told)),
                None => return,
            }
        }
        let everywhere = clock.difference(&lacking);
        self.replica.release_log(partition, &everywhere);
    }

    pub(crate) fn other_owners(&self, partition: PartitionId) -> Vec<NodeId> {
        let owners = self
            .cluster
            .iter()
            .flat_map(|cluster| cluster.ring.preference_list(partition).owners);
        owners.copied().filter(|owner| *owner != self.me).collect()
    }
}

/// A clock's hash and what the partition's fingerprints add up to, in one; 0 of a partition that has never held anything.
fn state(clock: u64, contents: u64) -> u64 {
    clock.wrapping_add(contents.rotate_left(32))
}

/// What a partition's hash adds to a range's: two partitions with each other's clocks must not be taken for equal.
fn in_range(index: u32, hash: u64) -> u64 {
    hash.rotate_left(index % 64).wrapping_mul(2 * u64::from(index) + 1)
}
