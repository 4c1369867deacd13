//! An operation on a counter, a set or a map gets its dot from whoever coordinates it, and is coordinated once.
//!
//! Plain writes have one identity wherever they are begun, as their content is the same everywhere. What an operation
//! contributes depends on what its coordinator knows: begun twice, an increment would count twice. So no other node is
//! asked once one may have begun it (`forwards.rs`).

use std::collections::BTreeMap;

use annulus_causality::{CausalContext, Change, ChangeError, Dot, Object, Standing};
use annulus_coordinator::Failure;
use annulus_protocol::Delta;
use annulus_ring::Address;
use annulus_storage::Engine;

use crate::io::Effect;
use crate::node::{Node, wire};
use crate::reads::{NewRead, Then};
use crate::settings::Now;
use crate::tasks::Requester;
use crate::terms::Terms;

/// An operation that this node coordinates.
#[derive(Debug)]
pub(crate) struct NewChange {
    pub(crate) address: Address,
    pub(crate) change: Change,
    /// What the client has seen; nothing where it does not say.
    pub(crate) context: Option<CausalContext>,
    /// What a read for it found, beside what is known here; nothing where there was none.
    pub(crate) found: Option<Object>,
    /// What its session has seen, where it is in one.
    pub(crate) seen: Option<CausalContext>,
    pub(crate) terms: Terms,
}

/// So many counters are remembered; of others a fallback begins a new total.
const REMEMBERED: usize = 4096;

/// The last total that this node wrote of each counter as a fallback: see [`Standing::Fallback`].
#[derive(Debug, Default)]
pub(crate) struct LastTotals(BTreeMap<Vec<u8>, Dot>);

impl LastTotals {
    fn of(&self, address: &Address) -> Option<Dot> {
        self.0.get(&address.scope()).copied()
    }

    fn remember(&mut self, address: &Address, dot: Dot) {
        self.0.insert(address.scope(), dot);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }
}

impl<E: Engine> Node<E> {
    /// Coordinates an operation, as an owner or as a fallback.
    pub(crate) fn start_change(&mut self, now: Now, requester: Requester, change: NewChange, out: &mut Vec<Effect>) {
        if let Err(failure) = self.try_change(now, requester, change, out) {
            self.reply(now, requester, Err(failure), out);
        }
    }

    /// Fails only where nothing was written.
    fn try_change(
        &mut self,
        now: Now,
        requester: Requester,
        change: NewChange,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        self.check_room()?;
        let plan = self.plan_write(&change.address, &change.terms)?;
        let known = self.known(&change.address, &plan, out)?;
        let (address, terms) = (change.address.clone(), change.terms);
        let has_seen_more = |seen: &CausalContext| !seen.is_subset(known.context());
        let client_has_seen = change.context.as_ref().or(change.seen.as_ref());
        if change.found.is_none() && change.change.replaces_seen() && client_has_seen.is_some_and(has_seen_more) {
            let read = NewRead {
                address,
                terms,
                seen: change.seen.clone(),
                then: Then::Change(Some(Box::new(change))),
            };
            self.start_read(now, requester, read, out);
            return Ok(());
        }
        let known = known.join(change.found.unwrap_or_default());
        for (_, version) in known.versions() {
            // A stamp too far ahead was refused where it came in; here it only moves the clock.
            let _ = self.clock.observe(now.wall_millis, version.modified);
        }
        let (modified, _) = self.stamp(now, None);
        let is_owner = plan.who.is_owner();
        let standing = match is_owner {
            true => Standing::Owner,
            false => Standing::Fallback {
                last: self.last_totals.of(&address),
            },
        };
        let actor = self.actor();
        let contribution = known
            .change(&change.change, (actor, standing), modified, change.context.as_ref())
            .map_err(refused)?;
        // Last of all, as a dot that is taken and not used leaves a gap in every clock.
        let dot = self.replica.next_dot(address.partition, actor);
        if !is_owner && matches!(change.change, Change::Increment(_)) {
            self.last_totals.remember(&address, dot);
        }
        let object = contribution.under(dot);
        let mut seen = object.context().clone();
        seen.union(&change.context.unwrap_or_default());
        let token = self.seal(&address, &seen);
        let delta = Delta {
            at: wire(&address),
            dots: [dot].into_iter().collect(),
            object,
        };
        let seen = change.seen.map(|_| seen);
        self.carry_out(now, requester, plan, (address, delta, token, seen), &terms, out)
    }
}

fn refused(error: ChangeError) -> Failure {
    let advice = match error {
        ChangeError::Overflow => "count in larger units, or begin another counter",
        ChangeError::TooMany | ChangeError::TooLarge => "take something out of it, or spread it over several keys",
    };
    Failure::LimitReached {
        detail: format!("{error}; {advice}"),
    }
}
