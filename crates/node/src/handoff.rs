//! Hinted handoff: a hint goes to its owner once that is back, at the pace that it grants, and is forgotten once stored there.
//!
//! It may be all that there is of a write, so it is never just dropped: where its owner stays away, or owns the key no more, it goes to
//! another owner, from which the rest catch up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_causality::{CausalContext, Instant, Object};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::{Delta, Message};
use annulus_ring::{Address, NodeId, PartitionId};
use annulus_storage::{Engine, Hint, HintError, OverdueHint};

use crate::durable::Completion;
use crate::io::Effect;
use crate::node::{Node, wire};
use crate::settings::Now;
use crate::tasks::FIRST_NUMBER_MASK;

/// How often owners with hints are looked after.
const ROUND: Duration = Duration::from_secs(1);
/// What an owner grants at once, in bytes: a few batches of its disk. It grants again once all of that is durable there.
const WINDOW: u64 = 1 << 20;
/// An owner that takes nothing for so long, though its link is up, has refused what it was sent: it is offered what comes after, and
/// then all that is left anew. So hints that it cannot take hold up no others.
const STALLED: Duration = Duration::from_secs(10);
/// An overdue hint that no other owner can take now is looked at again after this, in milliseconds.
const OVERDUE_AGAIN_MILLIS: u64 = 60_000;

/// One owner's hints on their way.
#[derive(Clone, Debug, Default)]
struct Delivery {
    /// Sent and not yet taken.
    sent: BTreeSet<u64>,
    /// The last one that was sent.
    last: u64,
    /// When the owner last granted or took something.
    progress: Instant,
}

/// The state of handoff, which a restart forgets: hints themselves are durable.
#[derive(Debug)]
pub(crate) struct Handoff {
    deliveries: BTreeMap<NodeId, Delivery>,
    next_round: Option<Instant>,
    /// Added to the sequences that are sent: a hint that was never durable gives its sequence to another one in the next life, and
    /// what the owner says of the first must not be taken for the second.
    offset: u64,
}

impl Handoff {
    /// Nothing is on its way.
    pub(crate) fn numbered_from(random: u64) -> Handoff {
        Handoff {
            deliveries: BTreeMap::new(),
            next_round: None,
            offset: random & FIRST_NUMBER_MASK,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_round
    }

    /// The link went down: what was sent and not taken is sent again.
    pub(crate) fn on_link_down(&mut self, owner: NodeId) {
        self.deliveries.remove(&owner);
    }

    /// Looks for hints of an earlier life soon.
    pub(crate) fn start(&mut self, now: Now) {
        self.wake(now);
    }

    /// Whether the owner is to be offered its hints: none are on their way, or none of them was taken for long.
    fn is_idle(&mut self, owner: NodeId, now: Now) -> bool {
        let Some(delivery) = self.deliveries.get_mut(&owner) else {
            return true;
        };
        let stalled = delivery.progress + STALLED <= now.monotonic;
        if stalled {
            delivery.sent.clear();
            delivery.progress = now.monotonic;
        }
        stalled
    }

    fn wake(&mut self, now: Now) {
        self.next_round.get_or_insert(now.monotonic + ROUND);
    }
}

impl<E: Engine> Node<E> {
    pub(crate) fn store_hint(
        &mut self,
        now: Now,
        owner: NodeId,
        address: &Address,
        dots: &CausalContext,
        object: Object,
    ) -> Result<(), HintError> {
        self.replica
            .hint(owner, address, dots, object, self.hint_deadline(now))?;
        self.counters.hints_stored += 1;
        self.handoff.wake(now);
        Ok(())
    }

    fn hint_deadline(&self, now: Now) -> u64 {
        let lifetime = u64::try_from(self.settings.hint_lifetime.as_millis()).unwrap_or(u64::MAX);
        now.wall_millis.saturating_add(lifetime)
    }

    pub(crate) fn hint_refused(&mut self, owner: NodeId, error: &HintError, out: &mut Vec<Effect>) {
        self.counters.hints_refused += 1;
        let owner = self.name_of(owner);
        let text = format!(
            "No hint could be kept for {owner}: {error}. It learns of the write from another owner once it is back."
        );
        self.warn_once("hint", text, out);
    }

    /// Offers hints to owners that are back, and gives others what has waited for its owner for too long.
    pub(crate) fn handoff_round(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.handoff.next_round.is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.handoff.next_round = None;
        self.pass_on_overdue(now, out);
        let waiting = self.replica.hint_summary();
        for (&owner, summary) in &waiting {
            if self.is_reachable(owner) && self.handoff.is_idle(owner, now) {
                out.push(Effect::Send {
                    to: owner,
                    message: Message::HintsWait { bytes: summary.bytes },
                });
            }
        }
        if !waiting.is_empty() {
            self.handoff.wake(now);
        }
    }

    /// What has waited for its owner past its lifetime goes to another one that is there, a window of it at a time.
    fn pass_on_overdue(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut bytes = 0;
        for hint in self.replica.overdue_hints(now.wall_millis) {
            if bytes >= WINDOW {
                return;
            }
            if planted(Mutant::OverdueHintDropped) {
                self.replica.forget_hint(hint.owner, hint.sequence);
                continue;
            }
            match self.pass_on(now, hint, out) {
                Some(passed) => bytes += passed,
                None => self
                    .replica
                    .postpone_hint(hint, now.wall_millis.saturating_add(OVERDUE_AGAIN_MILLIS)),
            }
        }
    }

    /// Keeps a hint for another owner that is there from now on, or joins it where this node has become one; says how many bytes that
    /// were. Nothing where nobody can take it: it stays.
    fn pass_on(&mut self, now: Now, hint: OverdueHint, out: &mut Vec<Effect>) -> Option<u64> {
        let OverdueHint {
            owner,
            sequence,
            partition,
        } = hint;
        let heir = self.heir(partition, owner)?;
        let stored = self.replica.hints(owner, sequence.saturating_sub(1), 0).ok()?;
        let stored = stored.into_iter().find(|stored| stored.sequence == sequence)?;
        let values = stored.object.versions().iter().map(|(_, version)| version.value.len());
        let bytes = values.sum::<usize>() as u64;
        let Hint {
            address, dots, object, ..
        } = stored;
        if heir == self.me {
            let at = wire(&address);
            self.apply(&address, &Delta { at, dots, object }, out).ok()?;
        } else {
            let deadline = self.hint_deadline(now);
            self.replica.hint(heir, &address, &dots, object, deadline).ok()?;
        }
        self.replica.forget_hint(owner, sequence);
        self.counters.hints_passed_on += 1;
        let (owner, heir) = (self.name_of(owner), self.name_of(heir));
        let text = format!(
            "Hints have waited for {owner} for longer than the hint lifetime, or it owns their keys no more: other owners of their keys, \
             {heir} among them, get them instead, and {owner} catches up from those."
        );
        self.warn_once("hints-passed-on", text, out);
        Some(bytes)
    }

    /// Another owner that is there: this node itself, where it is one.
    fn heir(&self, partition: PartitionId, instead_of: NodeId) -> Option<NodeId> {
        let ring = &self.cluster.as_ref()?.ring;
        let owners = ring.preference_list(partition).owners.iter().copied();
        let live = owners.filter(|owner| *owner != instead_of && self.is_reachable(*owner));
        live.min_by_key(|owner| *owner != self.me)
    }

    /// A peer holds hints for this node: it may send a window of them.
    pub(crate) fn on_hints_wait(&mut self, from: NodeId, out: &mut Vec<Effect>) {
        if self.failed.is_none() && !self.is_short_of_room() {
            out.push(Effect::Send {
                to: from,
                message: Message::HintCredit { bytes: WINDOW },
            });
        }
    }

    /// An owner takes so many bytes.
    pub(crate) fn on_hint_credit(&mut self, now: Now, owner: NodeId, bytes: u64, out: &mut Vec<Effect>) {
        let last = self.handoff.deliveries.get(&owner).map_or(0, |delivery| delivery.last);
        let bytes = usize::try_from(bytes.min(WINDOW)).unwrap_or(0);
        let hints = match self.replica.hints(owner, last, bytes) {
            Ok(hints) => hints,
            Err(error) => return self.warn_once("hints", format!("Hints cannot be read: {error}."), out),
        };
        if hints.is_empty() {
            self.handoff.deliveries.remove(&owner);
            return;
        }
        for hint in hints {
            let (sequence, partition) = (hint.sequence, hint.address.partition);
            if !self.other_owners(partition).contains(&owner) {
                let hint = OverdueHint {
                    owner,
                    sequence,
                    partition,
                };
                self.pass_on(now, hint, out);
                continue;
            }
            let Handoff { deliveries, offset, .. } = &mut self.handoff;
            let delivery = deliveries.entry(owner).or_default();
            delivery.progress = now.monotonic;
            delivery.sent.insert(hint.sequence);
            delivery.last = hint.sequence;
            let delta = Delta {
                at: wire(&hint.address),
                dots: hint.dots,
                object: hint.object,
            };
            out.push(Effect::Send {
                to: owner,
                message: Message::Hint {
                    sequence: hint.sequence + *offset,
                    delta,
                },
            });
            if planted(Mutant::HintForgottenWhenSent) {
                self.replica.forget_hint(owner, hint.sequence);
            }
        }
    }

    /// A hint for this node.
    pub(crate) fn on_hint(&mut self, now: Now, from: NodeId, sequence: u64, delta: &Delta, out: &mut Vec<Effect>) {
        let Some(address) = self.address_of(&delta.at) else {
            return;
        };
        if self.check_room().is_err() || !self.is_owner(&address) || self.check_stamps(now, delta, out).is_err() {
            return;
        }
        match self.apply(&address, delta, out) {
            Ok(()) => {
                self.counters.hints_taken += 1;
                self.durable.after_sync(Completion::Hint { peer: from, sequence });
            }
            Err(failure) => self.warn_once("hint-apply", format!("A hint could not be stored: {failure}."), out),
        }
    }

    /// An owner has stored a hint; once it has stored all it was sent, it is asked for more credit.
    pub(crate) fn on_hint_taken(&mut self, now: Now, owner: NodeId, sequence: u64, out: &mut Vec<Effect>) {
        let Some(sequence) = sequence.checked_sub(self.handoff.offset) else {
            return;
        };
        self.replica.forget_hint(owner, sequence);
        self.counters.hints_delivered += 1;
        let Some(delivery) = self.handoff.deliveries.get_mut(&owner) else {
            return;
        };
        delivery.progress = now.monotonic;
        // Hints are taken in the order in which they were sent: the owner has refused those before this one that it has not taken.
        delivery.sent = delivery.sent.split_off(&sequence.saturating_add(1));
        if delivery.sent.is_empty() {
            let bytes = self
                .replica
                .hint_summary()
                .get(&owner)
                .map_or(0, |waiting| waiting.bytes);
            out.push(Effect::Send {
                to: owner,
                message: Message::HintsWait { bytes },
            });
        }
    }
}
