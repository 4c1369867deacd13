//! Clocks stay small for ever: the finished incarnations of a node are closed, with whatever gaps its crashes left.
//!
//! A dot of a finished incarnation can be in four places: in the replica of an owner, in a hint, with a request in progress, on its way. A
//! node in a new incarnation asks all members, itself included, to take such writes no more but as an owner, from owners and hints
//! ([`ClosingStep::Freeze`]); whoever has neither a hint nor a request left says so. When all have, only owners have any, and no other
//! will: those that say durably that they have the same can close what they have. Nothing is decided while a member cannot be asked, or an
//! owner is in doubt: it is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_causality::{CausalContext, Dot, Instant};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::{ClosingStep, Message, PartitionDots, Refusal, WriteIdentity};
use annulus_ring::{NodeId, PartitionId};
use annulus_storage::{Engine, clock_hash};

use crate::durable::Completion;
use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;
use crate::tasks::Work;

/// Between two ballots: doubled after each that left something open, up to the greatest.
const PAUSE: Duration = Duration::from_secs(1);
const GREATEST_PAUSE: Duration = Duration::from_secs(64);
/// Partitions in one message.
const MAX_PARTITIONS: usize = 4096;

/// What each owner has of the finished incarnations.
type Counted = BTreeMap<PartitionId, BTreeMap<NodeId, u64>>;

/// What this node knows of finished incarnations, its own and others'. A restart forgets it.
#[derive(Debug)]
pub(crate) struct Closing {
    /// Of each node, the incarnation before which no write is taken any more but by an owner, from an owner or a hint.
    frozen: BTreeMap<NodeId, u64>,
    /// What was counted for each peer, and is not durable yet.
    told: BTreeMap<NodeId, (u64, u64, Vec<PartitionDots>)>,
    ballot: Ballot,
    /// Of this life; an answer to another one is none.
    number: u64,
    /// The incarnation before which all are to be closed.
    below: u64,
    pause: Duration,
    not_before: Instant,
}

/// How far this node's own ballot is.
#[derive(Debug)]
enum Ballot {
    /// None is under way.
    Waiting,
    /// These members have nothing on its way.
    Freeing(BTreeSet<NodeId>),
    /// These have counted.
    Counting(BTreeSet<NodeId>, Counted),
    /// Nothing is open anywhere.
    Over,
}

impl Closing {
    pub(crate) fn starting(now: Now) -> Closing {
        Closing {
            frozen: BTreeMap::new(),
            told: BTreeMap::new(),
            ballot: Ballot::Waiting,
            number: 0,
            below: 0,
            pause: PAUSE,
            not_before: now.monotonic,
        }
    }

    /// Whether this node's finished incarnations are closed everywhere, as far as it knows.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.ballot, Ballot::Over)
    }

    /// A peer may have begun a new life, which knows nothing of a ballot.
    pub(crate) fn interrupt(&mut self, peer: NodeId) {
        self.told.remove(&peer);
        if !self.is_over() {
            self.ballot = Ballot::Waiting;
        }
    }

    /// Those of these dots that are of incarnations whose writes are taken no more.
    fn frozen_of(&self, dots: &CausalContext) -> CausalContext {
        let mut frozen = CausalContext::new();
        for node in dots.nodes() {
            if let Some(below) = self.frozen.get(&NodeId(node)) {
                frozen.union(&dots.before(node, *below));
            }
        }
        frozen
    }
}

impl<E: Engine> Node<E> {
    /// Goes on with this node's own ballot.
    pub(crate) fn closing_round(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.closing.below != self.incarnation {
            self.closing.below = self.incarnation;
            self.closing.ballot = Ballot::Waiting;
        }
        if self.closing.is_over() || now.monotonic < self.closing.not_before || self.readiness().is_err() {
            return;
        }
        let Some(members) = self.all_members() else {
            self.closing.ballot = Ballot::Waiting;
            return;
        };
        if matches!(self.closing.ballot, Ballot::Waiting) {
            self.closing.number += 1;
            self.closing.ballot = Ballot::Freeing(BTreeSet::new());
        }
        let (answered, step) = match &self.closing.ballot {
            Ballot::Freeing(free) => (free.clone(), ClosingStep::Freeze),
            Ballot::Counting(counted, _) => (counted.clone(), self.count_step()),
            Ballot::Waiting | Ballot::Over => return,
        };
        let (below, ballot) = (self.closing.below, self.closing.number);
        for member in members.difference(&answered) {
            self.say(*member, (below, ballot, step.clone()), out);
        }
    }

    /// All members of the ring; nothing where one cannot be reached.
    fn all_members(&self) -> Option<BTreeSet<NodeId>> {
        let mut members = self.reachable_peers();
        members.insert(self.me);
        (members.len() == self.members()).then_some(members)
    }

    fn count_step(&self) -> ClosingStep {
        let epoch = self.cluster.as_ref().map_or(0, |cluster| cluster.ring.epoch());
        ClosingStep::Count { epoch }
    }

    /// Says it to a member, which may be this node itself.
    fn say(&mut self, to: NodeId, (below, ballot, step): (u64, u64, ClosingStep), out: &mut Vec<Effect>) {
        if to == self.me {
            return self.on_closing(self.me, (below, ballot), step, out);
        }
        let message = Message::Closing { below, ballot, step };
        out.push(Effect::Send { to, message });
    }

    pub(crate) fn on_closing(
        &mut self,
        from: NodeId,
        (below, ballot): (u64, u64),
        step: ClosingStep,
        out: &mut Vec<Effect>,
    ) {
        if self.failed.is_some() || self.cluster.is_none() {
            return;
        }
        let is_own = below == self.closing.below && ballot == self.closing.number;
        match step {
            ClosingStep::Freeze => {
                if self.freeze(from, below, out) && self.is_free_of(from, below) {
                    self.say(from, (below, ballot, ClosingStep::Free), out);
                }
            }
            ClosingStep::Count { epoch } => {
                let same_ring = self
                    .cluster
                    .as_ref()
                    .is_some_and(|cluster| cluster.ring.epoch() == epoch);
                if same_ring && self.closing.frozen.get(&from).is_some_and(|frozen| *frozen >= below) {
                    let dots = self.dots_before(from, below);
                    self.closing.told.insert(from, (below, ballot, dots));
                    self.durable.after_sync(Completion::Counted { peer: from });
                }
            }
            ClosingStep::Close { partitions } => {
                if self.freeze(from, below, out) {
                    self.close(from, below, partitions);
                }
            }
            ClosingStep::Free if is_own => self.on_free(from, out),
            ClosingStep::Counted { dots, more } if is_own => self.on_counted(from, dots, more, out),
            ClosingStep::Free | ClosingStep::Counted { .. } => {}
        }
    }

    /// Takes no writes of these incarnations any more; refused where they are not known to be finished.
    fn freeze(&mut self, node: NodeId, below: u64, out: &mut Vec<Effect>) -> bool {
        if below > self.present_incarnation(node) {
            let name = self.name_of(node);
            let text = format!("{name} asks to close incarnations that it has not finished: it is broken.");
            self.warn_once("closing", text, out);
            return false;
        }
        let frozen = self.closing.frozen.entry(node).or_default();
        *frozen = below.max(*frozen);
        true
    }

    /// The incarnation of a member that is the latest known; 0 of a stranger.
    fn present_incarnation(&self, node: NodeId) -> u64 {
        match node == self.me {
            true => self.incarnation,
            false => self.membership.record(node).map_or(0, |record| record.incarnation),
        }
    }

    /// A write of a finished incarnation is not taken any more: whoever made it is gone. What repairs a key brings what is known of it.
    pub(crate) fn check_finished(
        &self,
        partition: PartitionId,
        dots: &CausalContext,
        is_repair: bool,
    ) -> Result<(), Refusal> {
        let frozen = self.closing.frozen_of(dots);
        let is_known = || is_repair && frozen.is_subset(self.replica.clock(partition));
        match frozen.is_empty() || is_known() {
            true => Ok(()),
            false => Err(Refusal::Expired),
        }
    }

    /// Whether the one who passed this write on is gone.
    pub(crate) fn is_of_finished(&self, identity: &WriteIdentity) -> bool {
        !self
            .closing
            .frozen_of(&CausalContext::from_iter([identity.dot]))
            .is_empty()
    }

    /// Whether this node has neither a hint nor a request by which a write of these incarnations might still come to an owner.
    fn is_free_of(&self, node: NodeId, below: u64) -> bool {
        if planted(Mutant::ClosedUnheard) {
            return true;
        }
        let is_of = |dot: Dot| dot.actor.node == node.0 && dot.actor.incarnation < below;
        let has = |work: &Work| match work {
            Work::Write(write) => !write.brings().before(node.0, below).is_empty(),
            Work::Read(read) => read.brings().is_some_and(is_of),
            Work::Forward(forward) => forward.brings().is_some_and(is_of),
            Work::List(_) | Work::Declare(_) => false,
        };
        // All hints: which writes they are of is on the disk, and while every member can be reached they are few, or none.
        self.replica.hint_summary().is_empty() && self.tasks.matching(has).is_empty()
    }

    /// What this node's partitions have of these incarnations, where that is not closed.
    fn dots_before(&self, node: NodeId, below: u64) -> Vec<PartitionDots> {
        let whole = CausalContext::closed_below(node.0, below);
        let open = self.replica.partitions().filter_map(|partition| {
            let dots = self.replica.clock(partition).before(node.0, below);
            let is_open = !dots.is_empty() && dots != whole;
            (is_open && self.proves(partition)).then(|| PartitionDots {
                partition,
                hash: clock_hash(&dots),
            })
        });
        open.collect()
    }

    /// Whether this node is an owner of the partition and not in doubt about it.
    fn proves(&self, partition: PartitionId) -> bool {
        self.owns(partition) && !self.replica.is_in_doubt(partition)
    }

    /// What was counted is durable, and can be told.
    pub(crate) fn say_counted(&mut self, peer: NodeId, out: &mut Vec<Effect>) {
        let Some((below, ballot, mut dots)) = self.closing.told.remove(&peer) else {
            return;
        };
        loop {
            let rest = dots.split_off(dots.len().min(MAX_PARTITIONS));
            let more = !rest.is_empty();
            self.say(peer, (below, ballot, ClosingStep::Counted { dots, more }), out);
            if !more {
                return;
            }
            dots = rest;
        }
    }

    fn on_free(&mut self, from: NodeId, out: &mut Vec<Effect>) {
        let Some(members) = self.all_members() else { return };
        let Ballot::Freeing(free) = &mut self.closing.ballot else {
            return;
        };
        free.insert(from);
        if members.is_subset(free) {
            self.closing.ballot = Ballot::Counting(BTreeSet::new(), Counted::new());
            let (below, ballot, step) = (self.closing.below, self.closing.number, self.count_step());
            for member in members {
                self.say(member, (below, ballot, step.clone()), out);
            }
        }
    }

    fn on_counted(&mut self, from: NodeId, dots: Vec<PartitionDots>, more: bool, out: &mut Vec<Effect>) {
        let Some(members) = self.all_members() else { return };
        let Ballot::Counting(answered, counted) = &mut self.closing.ballot else {
            return;
        };
        for PartitionDots { partition, hash } in dots {
            counted.entry(partition).or_default().insert(from, hash);
        }
        if more {
            return;
        }
        answered.insert(from);
        if members.is_subset(answered) {
            let counted = std::mem::take(counted);
            self.decide(&counted, out);
        }
    }

    /// All have counted: what is the same at all owners of a partition is closed there; the rest is asked for again.
    fn decide(&mut self, counted: &Counted, out: &mut Vec<Effect>) {
        let now = self.now.monotonic;
        if counted.is_empty() {
            self.closing.ballot = Ballot::Over;
            self.closing.pause = PAUSE;
            return;
        }
        self.closing.ballot = Ballot::Waiting;
        self.closing.not_before = now + self.closing.pause;
        self.closing.pause = GREATEST_PAUSE.min(2 * self.closing.pause);
        let Some(cluster) = &self.cluster else { return };
        let mut close = BTreeMap::<NodeId, Vec<PartitionId>>::new();
        for (partition, hashes) in counted {
            let owners = cluster.ring.preference_list(*partition).owners;
            let first = hashes.values().next();
            let all_same = owners.iter().all(|owner| hashes.get(owner) == first);
            if all_same || planted(Mutant::ClosedUnequal) {
                owners
                    .iter()
                    .for_each(|owner| close.entry(*owner).or_default().push(*partition));
            }
        }
        let (below, ballot) = (self.closing.below, self.closing.number);
        for (owner, partitions) in close {
            for partitions in partitions.chunks(MAX_PARTITIONS) {
                let partitions = partitions.to_vec();
                self.say(owner, (below, ballot, ClosingStep::Close { partitions }), out);
            }
        }
    }

    fn close(&mut self, node: NodeId, below: u64, partitions: Vec<PartitionId>) {
        let closed = CausalContext::closed_below(node.0, below);
        for partition in partitions {
            // One in doubt has not said what it has; it takes the span with all else that it lacks.
            if self.proves(partition) {
                self.counters.closed += 1;
                self.replica.close(partition, &closed);
            }
        }
    }

    /// A co-owner's clock has spans closed of which this node has not heard. It had the same dots when that was decided.
    pub(crate) fn adopt_closed(&mut self, partition: PartitionId, theirs: &CausalContext) {
        if self.proves(partition) && theirs.spans().any(|span| span.is_closed()) {
            let closed = self.finished(theirs);
            self.replica.close(partition, &closed);
        }
    }

    /// The closed spans of a clock, of incarnations that are known to be finished.
    fn finished(&self, clock: &CausalContext) -> CausalContext {
        let mut finished = CausalContext::new();
        for span in clock.spans().filter(|span| span.is_closed()) {
            let (first, last) = (*span.incarnations.start(), *span.incarnations.end());
            if first == 0 && last < self.present_incarnation(NodeId(span.node)) {
                finished.close_below(span.node, last + 1);
            }
        }
        finished
    }

    /// Whether a clock has an incarnation closed that is not known to be finished.
    pub(crate) fn closes_too_much(&self, clock: &CausalContext) -> bool {
        let mut closed = clock.spans().filter(|span| span.is_closed());
        closed.any(|span| *span.incarnations.end() >= self.present_incarnation(NodeId(span.node)))
    }
}
