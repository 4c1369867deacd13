//! A read round merges what enough owners know, and names those that know less: a replica with *nothing* is as stale as any.

use annulus_causality::{CausalContext, ConflictPolicy, Dot, Object};
use annulus_mutants::{Mutant, planted};
use annulus_ring::NodeId;

use crate::{Mode, Participants, Quorum, Verdict};

/// What a read round wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStep {
    /// Ask an owner, sending the digest of what is known here.
    Ask {
        /// The owner.
        owner: NodeId,
    },
    /// Ask this owner for its whole object, whatever it holds: an equal digest says nothing of what it has seen go.
    AskWhole {
        /// Whom.
        owner: NodeId,
    },
    /// Ask a fallback for the hints it holds for the key.
    AskHints {
        /// The fallback.
        fallback: NodeId,
    },
}

/// Where a read stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// More answers are awaited.
    Pending,
    /// Enough owners have answered, and what was merged does not cover what the session has seen: see [`ReadRound::ask_again`].
    Behind,
    /// Enough owners have answered: what was merged is the answer, also where it is nothing.
    Met,
    /// Fewer owners than required can answer, but one did, the read is sloppy, and something was found.
    Thin,
    /// Fewer owners than required can answer, and nothing can be said.
    Unreachable,
}

/// One read on its way.
#[derive(Clone, Debug)]
pub struct ReadRound {
    quorum: Quorum,
    mode: Mode,
    policy: ConflictPolicy,
    merged: Object,
    /// What the answer must cover, as the client has seen it; empty outside of a session.
    seen: CausalContext,
    /// The digest that was sent along: that of the coordinator's own object.
    asked_with: Option<u64>,
    /// The live dots behind that digest.
    asked_dots: Vec<Dot>,
    /// Owners whose last word was that they hold the same.
    same: Vec<NodeId>,
    /// Owners that were asked for the whole.
    whole: Vec<NodeId>,
    /// Each owner that answered, with the digest of what it knows.
    known: Vec<(NodeId, u64)>,
    /// Fallbacks whose hints are awaited.
    hints: Vec<NodeId>,
    /// Owners that were asked again, beside the quorum, in which they have their place already.
    again: Vec<NodeId>,
    /// Something took longer than the usual tail: where owners suffice, hints are no longer waited for.
    is_slow: bool,
}

impl ReadRound {
    /// Plans the round. `local` is the coordinator's own object, filled; nothing where it is damaged or the coordinator is no owner.
    /// `seen` is what the client's session has seen in the key's partition.
    pub fn start(
        who: &Participants<'_>,
        required: u8,
        mode: Mode,
        policy: ConflictPolicy,
        local: Option<Object>,
        seen: CausalContext,
        steps: &mut Vec<ReadStep>,
    ) -> ReadRound {
        let mut quorum = Quorum::new(who.owners, required);
        let mut known = Vec::with_capacity(who.owners.len());
        let asked_with = local.as_ref().map(Object::digest);
        let asked_dots = local.iter().flat_map(Object::dots).collect();
        let mut missing = 0;
        for (&owner, &reachable) in who.owners.iter().zip(who.reachable) {
            if owner == who.me {
                match asked_with {
                    Some(digest) => {
                        quorum.ask(owner, owner);
                        quorum.answer(owner);
                        known.push((owner, digest));
                    }
                    None => quorum.exclude(owner),
                }
            } else if !reachable {
                match who.fallbacks.get(missing) {
                    Some(&fallback) if mode == Mode::Sloppy && planted(Mutant::HintCountsForRead) => {
                        quorum.ask(owner, fallback);
                    }
                    _ => quorum.exclude(owner),
                }
                missing += 1;
            }
        }
        let hints: Vec<NodeId> = match mode {
            Mode::Sloppy => who.fallbacks.iter().take(missing).copied().collect(),
            Mode::Strict => Vec::new(),
        };
        steps.extend(hints.iter().map(|&fallback| ReadStep::AskHints { fallback }));
        let merged = local.unwrap_or_default();
        let mut round = ReadRound {
            quorum,
            mode,
            policy,
            merged,
            seen,
            asked_with,
            asked_dots,
            same: Vec::new(),
            whole: Vec::new(),
            known,
            hints,
            again: Vec::new(),
            is_slow: false,
        };
        round.ask_enough(steps);
        round.ask_the_rest(steps);
        round
    }

    /// Where the read stands.
    pub fn verdict(&self, wall_millis: u64) -> ReadVerdict {
        match self.answers(wall_millis) {
            ReadVerdict::Met | ReadVerdict::Thin if self.is_behind() => ReadVerdict::Behind,
            verdict => verdict,
        }
    }

    /// Where the read stands, whatever a session has seen.
    fn answers(&self, wall_millis: u64) -> ReadVerdict {
        match self.quorum.verdict() {
            Verdict::Met if self.is_slow => ReadVerdict::Met,
            _ if !self.hints.is_empty() => ReadVerdict::Pending,
            Verdict::Met => ReadVerdict::Met,
            Verdict::Pending => ReadVerdict::Pending,
            Verdict::Unreachable if self.quorum.is_waiting() => ReadVerdict::Pending,
            Verdict::Unreachable => self.thin(wall_millis),
        }
    }

    /// The quorum as it stands.
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Nobody's answer is awaited any more: the round can be forgotten.
    pub fn is_over(&self) -> bool {
        self.awaited().next().is_none()
    }

    /// What the session has seen and nobody who answered knows.
    pub fn missing(&self) -> CausalContext {
        self.seen.difference(self.merged.context())
    }

    /// Whose answers, as owners or as fallbacks, are awaited.
    pub fn awaited(&self) -> impl Iterator<Item = NodeId> + '_ {
        let beside = self.hints.iter().chain(&self.again).copied();
        self.quorum.waiting().chain(beside)
    }

    /// Whether an answer of `peer`, as an owner or as a fallback, is awaited.
    pub fn awaits(&self, peer: NodeId) -> bool {
        self.awaited().any(|awaited| awaited == peer)
    }

    /// Whether hints of `peer` are awaited.
    pub fn awaits_hints(&self, peer: NodeId) -> bool {
        self.hints.contains(&peer)
    }

    /// What is known so far.
    pub fn merged(&self) -> &Object {
        &self.merged
    }

    /// The digest to send along with a question.
    pub fn digest(&self) -> Option<u64> {
        self.asked_with
    }

    /// An owner knows the same live versions as the digest it was sent.
    pub fn on_same(&mut self, from: NodeId, steps: &mut Vec<ReadStep>) {
        if self.whole.contains(&from) {
            // "The same" as what? It was asked for all it knows.
            return self.on_failure(from, steps);
        }
        if let (Some(owner), Some(digest)) = (self.quorum.answer(from), self.asked_with) {
            self.known.push((owner, digest));
            self.same.push(owner);
            self.doubt_same(steps);
        }
    }

    /// An owner's object.
    pub fn on_object(&mut self, from: NodeId, object: Object, steps: &mut Vec<ReadStep>) {
        if let Some(owner) = self.quorum.answer(from).or_else(|| self.take_again(from)) {
            self.learn(owner, object, steps);
        }
    }

    /// What an owner knows, in place of what it knew before.
    fn learn(&mut self, owner: NodeId, object: Object, steps: &mut Vec<ReadStep>) {
        self.known.retain(|(known, _)| *known != owner);
        self.known.push((owner, object.digest()));
        self.merge(object);
        self.doubt_same(steps);
        self.ask_the_rest(steps);
    }

    fn take_again(&mut self, from: NodeId) -> Option<NodeId> {
        let place = self.again.iter().position(|&owner| owner == from)?;
        Some(self.again.swap_remove(place))
    }

    /// A fallback's hints. They never count for `r`.
    pub fn on_hints(&mut self, from: NodeId, object: Object, steps: &mut Vec<ReadStep>) {
        if let Some(place) = self.hints.iter().position(|&fallback| fallback == from) {
            self.hints.swap_remove(place);
            if planted(Mutant::HintCountsForRead) {
                self.quorum.answer(from);
            }
            self.merge(object);
            self.doubt_same(steps);
            self.ask_the_rest(steps);
        }
    }

    /// A version has come that the digest did not cover: an owner that said "the same" may have seen it replaced or deleted, and
    /// is asked for what it knows. Without this a deleted value would show again, and be written back by repair.
    fn doubt_same(&mut self, steps: &mut Vec<ReadStep>) {
        let is_covered = self.merged.dots().all(|dot| self.asked_dots.contains(&dot));
        if is_covered || planted(Mutant::SameMeansNothingSeen) {
            return;
        }
        for owner in std::mem::take(&mut self.same) {
            self.quorum.reopen(owner);
            self.known.retain(|(known, _)| *known != owner);
            self.ask_whole(owner, steps);
        }
    }

    /// Somebody that was asked will not answer: a spare is asked.
    pub fn on_failure(&mut self, from: NodeId, steps: &mut Vec<ReadStep>) {
        self.hints.retain(|&fallback| fallback != from);
        self.take_again(from);
        self.quorum.fail(from);
        self.ask_enough(steps);
    }

    /// The session has seen what nobody knew yet: everybody who can be reached is asked once more, fallbacks for hints among
    /// them where the read is sloppy, and the coordinator's own object is looked at again. Who has not answered the last time is not
    /// asked twice.
    pub fn ask_again(&mut self, who: &Participants<'_>, local: Option<Object>, steps: &mut Vec<ReadStep>) {
        self.is_slow = true;
        if let Some(local) = local {
            self.learn(who.me, local, steps);
        }
        if !self.is_behind() {
            return;
        }
        for (&owner, &reachable) in who.owners.iter().zip(who.reachable) {
            if reachable && owner != who.me && !self.awaits(owner) {
                self.again.push(owner);
                self.ask_whole(owner, steps);
            }
        }
        // As many as there are owners to stand in for.
        let fallbacks = who.fallbacks.iter().take(who.owners.len());
        for &fallback in fallbacks.filter(|_| self.mode == Mode::Sloppy) {
            if !self.hints.contains(&fallback) {
                self.hints.push(fallback);
                steps.push(ReadStep::AskHints { fallback });
            }
        }
    }

    /// Somebody is slower than the usual tail: a spare is asked as well, and hints are no longer waited for where owners suffice.
    pub fn on_slow(&mut self, steps: &mut Vec<ReadStep>) {
        self.is_slow = true;
        if self.quorum.verdict() != Verdict::Met {
            self.ask_next(steps);
        }
    }

    /// The owners that answered and know other live versions than what was merged, the coordinator among them.
    pub fn stale(&self) -> Vec<NodeId> {
        let digest = self.merged.digest();
        self.known
            .iter()
            .filter(|(_, known)| *known != digest)
            .map(|&(owner, _)| owner)
            .collect()
    }

    fn thin(&self, wall_millis: u64) -> ReadVerdict {
        let found = !self.merged.visible(wall_millis, self.policy).is_empty();
        if self.mode == Mode::Sloppy && self.quorum.answered() > 0 && found {
            ReadVerdict::Thin
        } else {
            ReadVerdict::Unreachable
        }
    }

    fn merge(&mut self, object: Object) {
        let mine = std::mem::take(&mut self.merged);
        self.merged = mine.join(object);
    }

    /// Asks as many owners as are still missing.
    fn ask_enough(&mut self, steps: &mut Vec<ReadStep>) {
        let asked = self.quorum.answered() + u8::try_from(self.quorum.waiting().count()).unwrap_or(u8::MAX);
        for _ in asked..self.quorum.required() {
            self.ask_next(steps);
        }
    }

    /// Enough have answered, and the session has seen more: all owners are asked.
    fn ask_the_rest(&mut self, steps: &mut Vec<ReadStep>) {
        if self.quorum.verdict() == Verdict::Met && self.is_behind() {
            for _ in 0..self.quorum.idle().count() {
                self.ask_next(steps);
            }
        }
    }

    /// Asks the next owner; while the session has seen more than is known, for the whole: what it has seen may be gone again.
    fn ask_next(&mut self, steps: &mut Vec<ReadStep>) {
        let next = self.quorum.idle().next();
        if let Some(owner) = next {
            self.quorum.ask(owner, owner);
            match self.is_behind() {
                true => self.ask_whole(owner, steps),
                false => steps.push(ReadStep::Ask { owner }),
            }
        }
    }

    fn ask_whole(&mut self, owner: NodeId, steps: &mut Vec<ReadStep>) {
        if !self.whole.contains(&owner) {
            self.whole.push(owner);
        }
        steps.push(ReadStep::AskWhole { owner });
    }

    fn is_behind(&self) -> bool {
        !planted(Mutant::SessionIgnored) && !self.seen.is_subset(self.merged.context())
    }
}
