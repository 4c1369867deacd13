//! A history by key: its writes, and what anybody saw of it, with the doubts that the answers leave.

use std::collections::BTreeMap;

use crate::history::{Action, Bucket, Conflicts, Final, History, Operation, Outcome, Replaces};

/// All of one key.
pub(super) struct KeyHistory<'a> {
    pub(super) key: &'a str,
    pub(super) conflicts: Conflicts,
    pub(super) ttl_us: Option<u64>,
    pub(super) skew_us: u64,
    /// By number, each once.
    pub(super) writes: Vec<Write<'a>>,
    /// What was shown, by the time that it was asked for.
    pub(super) sights: Vec<Sight<'a>>,
    /// By session, in the order in which they were sent.
    pub(super) sessions: BTreeMap<u64, Vec<&'a Operation>>,
}

/// A PUT or DELETE.
pub(super) struct Write<'a> {
    pub(super) operation: &'a Operation,
    /// A DELETE writes no value.
    pub(super) is_put: bool,
    pub(super) replaces: &'a Replaces,
    pub(super) durable: bool,
    pub(super) acknowledged: Option<Acknowledged>,
}

/// Since when a write is promised, and who has it.
#[derive(Clone, Copy)]
pub(super) struct Acknowledged {
    pub(super) at_us: u64,
    /// Owners, not fallbacks.
    pub(super) owners: u8,
    pub(super) n: u8,
}

/// What a reader, or whoever looked at an owner at the end, was shown.
pub(super) struct Sight<'a> {
    pub(super) source: Source<'a>,
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    /// Ascending, each once.
    pub(super) values: Vec<u64>,
}

/// Whose answer it is.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Read {
        operation: &'a Operation,
        strict: bool,
        answered: u8,
        n: u8,
    },
    Final(&'a Final),
}

impl<'a> KeyHistory<'a> {
    /// The keys of a history, in order.
    pub(super) fn split(history: &'a History, skew_us: u64) -> Vec<KeyHistory<'a>> {
        let mut keys: BTreeMap<&str, KeyHistory<'a>> = BTreeMap::new();
        let empty = |key| KeyHistory::empty(key, history.bucket(key), skew_us);
        for operation in &history.operations {
            let key = keys.entry(&operation.key).or_insert_with(|| empty(&operation.key));
            key.writes.extend(Write::of(operation));
            key.sights.extend(Sight::of_read(operation));
            if let Some(session) = operation.session {
                key.sessions.entry(session).or_default().push(operation);
            }
        }
        for last in &history.finals {
            let key = keys.entry(&last.key).or_insert_with(|| empty(&last.key));
            key.sights.push(Sight::of_final(last));
        }
        let mut keys: Vec<KeyHistory<'a>> = keys.into_values().collect();
        for key in &mut keys {
            key.writes.sort_by_key(|write| write.number());
            key.writes.dedup_by_key(|write| write.number());
            key.sights.sort_by_key(|sight| (sight.start_us, sight.end_us));
            for operations in key.sessions.values_mut() {
                operations.sort_by_key(|operation| (operation.start_us, operation.number));
            }
        }
        keys
    }

    fn empty(key: &'a str, bucket: Bucket, skew_us: u64) -> KeyHistory<'a> {
        KeyHistory {
            key,
            conflicts: bucket.conflicts,
            ttl_us: bucket.ttl_ms.map(|ttl| ttl.saturating_mul(1000)),
            skew_us,
            writes: Vec::new(),
            sights: Vec::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// The write of a value, by its place.
    pub(super) fn write_of(&self, value: u64) -> Option<usize> {
        let place = self.writes.binary_search_by_key(&value, |write| write.number()).ok()?;
        self.writes[place].is_put.then_some(place)
    }

    pub(super) fn finals(&self) -> impl Iterator<Item = (&Sight<'a>, &'a Final)> {
        self.sights.iter().filter_map(|sight| match sight.source {
            Source::Final(last) => Some((sight, last)),
            Source::Read { .. } => None,
        })
    }

    /// Whether a write replaces what its coordinator knows: said by nobody, or the rule of the bucket whatever was said.
    pub(super) fn replaces_unseen(&self, write: &Write<'_>) -> bool {
        self.conflicts == Conflicts::Lww || *write.replaces == Replaces::Known
    }

    /// From when some clock may find a value expired.
    pub(super) fn may_expire_us(&self, write: &Write<'_>) -> u64 {
        match self.ttl_us {
            Some(ttl) => write.start_us().saturating_add(ttl).saturating_sub(self.skew_us),
            None => u64::MAX,
        }
    }

    /// After this every clock finds a value expired.
    pub(super) fn expired_us(&self, write: &Write<'_>) -> u64 {
        match self.ttl_us {
            Some(ttl) => write.begins_by_us().saturating_add(ttl).saturating_add(self.skew_us),
            None => u64::MAX,
        }
    }
}

impl<'a> Write<'a> {
    fn of(operation: &'a Operation) -> Option<Write<'a>> {
        let (is_put, replaces, durable) = match &operation.action {
            Action::Put { replaces, durable } => (true, replaces, *durable),
            Action::Delete { replaces, durable } => (false, replaces, *durable),
            Action::Get { .. } => return None,
        };
        let acknowledged = match (&operation.outcome, operation.end_us) {
            (&Outcome::Written { answered, fallbacks, n }, Some(at_us)) => Some(Acknowledged {
                at_us,
                owners: answered.saturating_sub(fallbacks),
                n,
            }),
            _ => None,
        };
        Some(Write {
            operation,
            is_put,
            replaces,
            durable,
            acknowledged,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.operation.number
    }

    pub(super) fn start_us(&self) -> u64 {
        self.operation.start_us
    }

    /// Whether it may have been done, now or later.
    pub(super) fn may_be_done(&self) -> bool {
        self.operation.outcome != Outcome::Nothing
    }

    /// The latest moment at which it can begin.
    pub(super) fn begins_by_us(&self) -> u64 {
        let latest = match self.acknowledged {
            Some(acknowledged) => acknowledged.at_us,
            None => self.operation.deadline_us.max(self.operation.end_us.unwrap_or(0)),
        };
        latest.max(self.start_us())
    }

    /// Its acknowledgement, where no crash undoes it.
    pub(super) fn lasting(&self) -> Option<Acknowledged> {
        self.acknowledged.filter(|_| self.durable)
    }

    /// Whether it names a value as replaced by it.
    pub(super) fn names(&self) -> &'a [u64] {
        match self.replaces {
            Replaces::Shown(values) => values,
            Replaces::Known => &[],
        }
    }
}

impl<'a> Sight<'a> {
    pub(super) fn of_read(operation: &'a Operation) -> Option<Sight<'a>> {
        let (&Action::Get { strict }, Outcome::Read { values, answered, n }) = (&operation.action, &operation.outcome)
        else {
            return None;
        };
        let source = Source::Read {
            operation,
            strict,
            answered: *answered,
            n: *n,
        };
        let end_us = operation
            .end_us
            .unwrap_or(operation.deadline_us)
            .max(operation.start_us);
        Some(Sight::new(source, (operation.start_us, end_us), values))
    }

    fn of_final(last: &'a Final) -> Sight<'a> {
        Sight::new(Source::Final(last), (last.at_us, last.at_us), &last.values)
    }

    fn new(source: Source<'a>, (start_us, end_us): (u64, u64), values: &[u64]) -> Sight<'a> {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.dedup();
        Sight {
            source,
            start_us,
            end_us,
            values,
        }
    }

    pub(super) fn shows(&self, value: u64) -> bool {
        self.values.binary_search(&value).is_ok()
    }

    pub(super) fn is_final(&self) -> bool {
        matches!(self.source, Source::Final(_))
    }

    /// The read; nothing where it was read at the end.
    pub(super) fn operation(&self) -> Option<&'a Operation> {
        match self.source {
            Source::Read { operation, .. } => Some(operation),
            Source::Final(_) => None,
        }
    }

    /// Its number; what is read at the end has none.
    pub(super) fn number(&self) -> Option<u64> {
        self.operation().map(|operation| operation.number)
    }

    /// Whether it must know of a write: it began afterwards, and asked somebody who has it.
    pub(super) fn must_know(&self, write: Acknowledged) -> bool {
        let meets = match self.source {
            Source::Final(_) => true,
            Source::Read {
                strict, answered, n, ..
            } => strict && u16::from(answered) + u16::from(write.owners) > u16::from(n.max(write.n)),
        };
        meets && write.at_us < self.start_us
    }
}
