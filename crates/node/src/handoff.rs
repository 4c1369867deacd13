//! Hinted handoff: hints are offered to their owner once that is back, those that it lacks are sent, and all are forgotten once stored there.
//!
//! An offer says what a hint would bring, and not its values: what a co-owner's log has brought meanwhile does not cross again. The next
//! hints are offered when what was wanted of the last is durable: that is the owner's pace.
//!
//! It may be all that there is of a write, so it is never just dropped: where its owner stays away, or owns the key no more, it goes to
//! another owner, from which the rest catch up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_causality::{CausalContext, Instant, Object};
use annulus_mutants::{Mutant, planted};
use annulus_protocol::{Delta, HintOffer, Message};
use annulus_ring::{Address, NodeId, PartitionId};
use annulus_storage::{Brings, Engine, Hint, HintError, OverdueHint};

use crate::durable::Completion;
use crate::io::Effect;
use crate::node::{Node, wire};
use crate::settings::Now;
use crate::tasks::FIRST_NUMBER_MASK;

/// How often owners with hints are looked after.
const ROUND: Duration = Duration::from_secs(1);
/// Values of the hints that are offered at once, in bytes: a few batches of the owner's disk.
const WINDOW: usize = 1 << 20;
/// How many that are at most, and about how many bytes the offers take themselves.
const MAX_OFFERS: usize = 512;
const OFFERS_BYTES: usize = 64 << 10;
/// An owner that takes nothing for so long, though its link is up, has refused what it was sent: it is offered what comes after, and
/// then all that is left anew. So hints that it cannot take hold up no others.
const STALLED: Duration = Duration::from_secs(10);
/// An overdue hint that no other owner can take now is looked at again after this, in milliseconds.
const OVERDUE_AGAIN_MILLIS: u64 = 60_000;

/// One owner's hints on their way.
#[derive(Clone, Debug, Default)]
struct Delivery {
    /// Wanted, sent and not yet taken.
    sent: BTreeSet<u64>,
    /// Those up to here were offered.
    last: u64,
    /// When the owner was last offered something, or took something.
    progress: Instant,
    /// An offer is out that was not answered yet.
    is_offered: bool,
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
        self.drop_damaged_hints(out);
        self.pass_on_overdue(now, out);
        let waiting = self.replica.hint_summary();
        for &owner in waiting.keys() {
            if self.is_reachable(owner) && self.handoff.is_idle(owner, now) {
                self.offer_hints(now, owner, out);
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
    fn pass_on(&mut self, now: Now, hint: OverdueHint, out: &mut Vec<Effect>) -> Option<usize> {
        let OverdueHint {
            owner,
            sequence,
            partition,
        } = hint;
        let heir = self.heir(partition, owner)?;
        let stored = self.replica.hints(owner, sequence.saturating_sub(1), 0).ok()?;
        let stored = stored.into_iter().find(|stored| stored.sequence == sequence)?;
        let values = stored.object.versions().iter().map(|(_, version)| version.value.len());
        let bytes = values.sum();
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

    /// Offers an owner the hints behind those that it was offered last; all of them anew once there are no more.
    fn offer_hints(&mut self, now: Now, owner: NodeId, out: &mut Vec<Effect>) {
        let last = self.handoff.deliveries.get(&owner).map_or(0, |delivery| delivery.last);
        let hints = match self.replica.hints(owner, last, WINDOW) {
            Ok(hints) => hints,
            Err(error) => return self.warn_once("hints", format!("Hints cannot be read: {error}."), out),
        };
        if hints.is_empty() {
            self.handoff.deliveries.remove(&owner);
            return;
        }
        let delivery = self.handoff.deliveries.entry(owner).or_default();
        delivery.progress = now.monotonic;
        let (mut last, mut bytes, mut offers) = (last, 0, Vec::new());
        for hint in hints.into_iter().take(MAX_OFFERS) {
            let (sequence, partition) = (hint.sequence, hint.address.partition);
            last = sequence;
            if !self.other_owners(partition).contains(&owner) {
                let hint = OverdueHint {
                    owner,
                    sequence,
                    partition,
                };
                self.pass_on(now, hint, out);
                continue;
            }
            let offer = offer(hint, self.handoff.offset);
            bytes += offer.at.key.as_bytes().len() + 24 * (offer.context.spans().count() + 4);
            offers.push(offer);
            if bytes >= OFFERS_BYTES {
                break;
            }
        }
        if let Some(delivery) = self.handoff.deliveries.get_mut(&owner) {
            delivery.last = last;
        }
        if !offers.is_empty() {
            self.handoff.deliveries.entry(owner).or_default().is_offered = true;
            out.push(Effect::Send {
                to: owner,
                message: Message::HintsWait { offers },
            });
        }
    }

    /// A peer holds hints for this node: it wants those that would change anything here.
    pub(crate) fn on_hints_wait(&mut self, from: NodeId, offers: Vec<HintOffer>, out: &mut Vec<Effect>) {
        if self.failed.is_some() || self.is_short_of_room() {
            return;
        }
        let mut sequences = Vec::new();
        for offer in offers.into_iter().take(MAX_OFFERS) {
            let Some(address) = self.address_of(&offer.at).filter(|address| self.is_owner(address)) else {
                continue;
            };
            let brings = Brings {
                dots: &offer.dots,
                live: &offer.live,
                context: &offer.context,
            };
            match self.replica.has(&address, brings) {
                Ok(true) => {
                    self.counters.hints_had += 1;
                    let sequence = offer.sequence;
                    self.durable.after_sync(Completion::Hint { peer: from, sequence });
                }
                // A record that is damaged says so when the hint comes.
                Ok(false) | Err(_) => sequences.push(offer.sequence),
            }
        }
        out.push(Effect::Send {
            to: from,
            message: Message::HintsWanted { sequences },
        });
    }

    /// An owner lacks these of the hints that it was offered. An answer counts once: if each of two began the next offer, what is said twice
    /// on the way would be said ever more often.
    pub(crate) fn on_hints_wanted(&mut self, now: Now, owner: NodeId, sequences: &[u64], out: &mut Vec<Effect>) {
        let delivery = self.handoff.deliveries.get_mut(&owner);
        if !delivery.is_some_and(|delivery| std::mem::take(&mut delivery.is_offered)) {
            return;
        }
        let offset = self.handoff.offset;
        let sequences = sequences.iter().filter_map(|sequence| sequence.checked_sub(offset));
        let wanted: BTreeSet<u64> = sequences.collect();
        let hints = match wanted.first() {
            None => Ok(Vec::new()),
            Some(first) => self.replica.hints(owner, first.saturating_sub(1), WINDOW),
        };
        let hints = match hints {
            Ok(hints) => hints,
            Err(error) => return self.warn_once("hints", format!("Hints cannot be read: {error}."), out),
        };
        let delivery = self.handoff.deliveries.entry(owner).or_default();
        delivery.progress = now.monotonic;
        for hint in hints.into_iter().filter(|hint| wanted.contains(&hint.sequence)) {
            delivery.sent.insert(hint.sequence);
            let delta = Delta {
                at: wire(&hint.address),
                dots: hint.dots,
                object: hint.object,
            };
            out.push(Effect::Send {
                to: owner,
                message: Message::Hint {
                    sequence: hint.sequence + offset,
                    delta,
                },
            });
            if planted(Mutant::HintForgottenWhenSent) {
                self.replica.forget_hint(owner, hint.sequence);
            }
        }
        if delivery.sent.is_empty() {
            self.offer_hints(now, owner, out);
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

    /// An owner has stored a hint; once it has stored all that it wanted, it is offered the next.
    pub(crate) fn on_hint_taken(&mut self, now: Now, owner: NodeId, sequence: u64, out: &mut Vec<Effect>) {
        let Some(sequence) = sequence.checked_sub(self.handoff.offset) else {
            return;
        };
        self.replica.forget_hint(owner, sequence);
        self.counters.hints_delivered += 1;
        let deliveries = &mut self.handoff.deliveries;
        let Some(delivery) = deliveries
            .get_mut(&owner)
            .filter(|delivery| delivery.sent.contains(&sequence))
        else {
            return;
        };
        delivery.progress = now.monotonic;
        // Hints are taken in the order in which they were sent: the owner has refused those before this one that it has not taken.
        delivery.sent = delivery.sent.split_off(&sequence.saturating_add(1));
        if delivery.sent.is_empty() {
            self.offer_hints(now, owner, out);
        }
    }
}

fn offer(hint: Hint, offset: u64) -> HintOffer {
    let live: CausalContext = hint.object.dots().collect();
    let mut dots = hint.dots;
    dots.union(&live);
    HintOffer {
        sequence: hint.sequence + offset,
        at: wire(&hint.address),
        dots,
        live,
        context: hint.object.context().clone(),
    }
}
