//! The promises once more, said as plainly as possible: for each value of a key, is there a sight, and no excuse?

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use annulus_checker::{Action, Conflicts, History, Operation, Outcome, Promise, Promises, Replaces, check_with};
use proptest::test_runner::{Config, TestRunner};

use crate::arbitrary;

type Verdict = (Promise, String, Option<u64>);

/// What somebody saw, and where it counts for a quorum: how many answered, of how many.
#[derive(Clone)]
struct Seen {
    from: u64,
    to: u64,
    values: BTreeSet<u64>,
    quorum: Option<(u8, u8)>,
    node_at_end: Option<String>,
}

struct Key<'a> {
    lww: bool,
    ttl: Option<u64>,
    skew: u64,
    writes: Vec<&'a Operation>,
    seen: Vec<Seen>,
    /// The requests of each session, as they were sent.
    sessions: BTreeMap<u64, Vec<&'a Operation>>,
}

fn replaces(write: &Operation) -> &Replaces {
    match &write.action {
        Action::Put { replaces, .. } | Action::Delete { replaces, .. } => replaces,
        Action::Get { .. } => unreachable!("a read is no write"),
    }
}

fn is_put(write: &Operation) -> bool {
    matches!(write.action, Action::Put { .. })
}

fn names(write: &Operation, value: u64) -> bool {
    matches!(replaces(write), Replaces::Shown(values) if values.contains(&value)) && write.number != value
}

/// When it was acknowledged for good, by how many owners of how many.
fn acknowledged(write: &Operation) -> Option<(u64, u8, u8)> {
    match (&write.action, &write.outcome) {
        (Action::Put { durable: true, .. } | Action::Delete { durable: true, .. }, Outcome::Written { .. }) => {}
        _ => return None,
    }
    let Outcome::Written { answered, fallbacks, n } = write.outcome else {
        return None;
    };
    Some((write.end_us?, answered.saturating_sub(fallbacks), n))
}

fn latest_begin(write: &Operation) -> u64 {
    match (&write.outcome, write.end_us) {
        (Outcome::Written { .. }, Some(end)) => end,
        (_, end) => write.deadline_us.max(end.unwrap_or(0)),
    }
}

impl Key<'_> {
    fn of<'a>(history: &'a History, key: &str, skew: u64) -> Key<'a> {
        let rules = history.bucket(key);
        let operations = history.operations.iter().filter(|operation| operation.key == key);
        let mut writes = Vec::new();
        let mut seen = Vec::new();
        for operation in operations {
            match (&operation.action, &operation.outcome) {
                (Action::Put { .. } | Action::Delete { .. }, _) => writes.push(operation),
                (Action::Get { strict }, Outcome::Read { values, answered, n }) => seen.push(Seen {
                    from: operation.start_us,
                    to: operation.end_us.unwrap_or(operation.deadline_us),
                    values: values.iter().copied().collect(),
                    quorum: strict.then_some((*answered, *n)),
                    node_at_end: None,
                }),
                _ => {}
            }
        }
        seen.extend(history.finals.iter().filter(|last| last.key == key).map(|last| Seen {
            from: last.at_us,
            to: last.at_us,
            values: last.values.iter().copied().collect(),
            quorum: None,
            node_at_end: Some(last.node.clone()),
        }));
        let mut sessions: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for operation in history.operations.iter().filter(|operation| operation.key == key) {
            if let Some(session) = operation.session {
                sessions.entry(session).or_default().push(operation);
            }
        }
        for operations in sessions.values_mut() {
            operations.sort_by_key(|operation| (operation.start_us, operation.number));
        }
        Key {
            sessions,
            lww: rules.conflicts == Conflicts::Lww,
            ttl: rules.ttl_ms.map(|ttl| ttl * 1000),
            skew,
            writes,
            seen,
        }
    }

    fn write(&self, value: u64) -> Option<&Operation> {
        self.writes
            .iter()
            .find(|write| write.number == value && is_put(write))
            .copied()
    }

    fn replaces_all(&self, write: &Operation) -> bool {
        self.lww || *replaces(write) == Replaces::Known
    }

    fn may_be_expired(&self, write: &Operation, at: u64) -> bool {
        self.ttl.is_some_and(|ttl| at + self.skew >= write.start_us + ttl)
    }

    /// Whether by then the value may be replaced, hidden or expired.
    fn may_be_gone(&self, write: &Operation, at: u64) -> bool {
        let skew = if self.lww { self.skew } else { 0 };
        let may_replace = |other: &Operation| {
            let unseen = self.replaces_all(other) && latest_begin(other) + skew >= write.start_us;
            other.number != write.number
                && other.outcome != Outcome::Nothing
                && other.start_us <= at
                && (names(other, write.number) || unseen)
        };
        self.may_be_expired(write, at) || self.writes.iter().any(|other| may_replace(other))
    }

    fn must_know(&self, seen: &Seen, write: &Operation) -> bool {
        let Some((at, owners, n)) = acknowledged(write) else {
            return false;
        };
        let meets = match seen.quorum {
            Some((answered, of)) => answered + owners > of.max(n),
            None => seen.node_at_end.is_some(),
        };
        meets && at < seen.from
    }

    /// Whether `by` surely knew `write` and replaced it unasked.
    fn surely_replaced_unseen(&self, write: &Operation, by: &Operation) -> bool {
        let everywhere = acknowledged(write).filter(|&(_, owners, n)| owners >= n);
        let is_owner = self.seen.iter().any(|seen| seen.node_at_end.as_ref() == Some(&by.node));
        let no_fallbacks = !matches!(by.outcome, Outcome::Written { fallbacks: 1.., .. });
        everywhere.is_some_and(|(at, ..)| by.start_us > at) && self.replaces_all(by) && is_owner && no_fallbacks
    }

    fn is_broken(&self, promise: Promise, value: u64) -> bool {
        let shown = || self.seen.iter().filter(|seen| seen.values.contains(&value));
        let write = self.write(value);
        let replaced = |by: &dyn Fn(&Operation) -> bool| {
            shown().any(|seen| self.writes.iter().any(|write| by(write) && self.must_know(seen, write)))
        };
        match (promise, write) {
            (Promise::MadeUp, None) => shown().next().is_some(),
            (Promise::MadeUp, Some(write)) => shown().any(|seen| seen.to < write.start_us),
            (Promise::Together, _) if self.lww => {
                shown().any(|seen| seen.values.len() > 1 && seen.values.first() == Some(&value))
            }
            (_, None) => false,
            (Promise::Never, Some(write)) => {
                write.outcome == Outcome::Nothing && shown().any(|seen| seen.to >= write.start_us)
            }
            (Promise::Expired, Some(write)) => self.ttl.is_some_and(|ttl| {
                write.outcome != Outcome::Nothing
                    && shown().any(|seen| latest_begin(write).max(write.start_us) + ttl + self.skew < seen.from)
            }),
            (Promise::Together, Some(_)) => shown().any(|seen| {
                let others = seen.values.iter().filter_map(|&other| self.write(other));
                others.into_iter().any(|other| names(other, value))
            }),
            (Promise::Resurrected, Some(_)) => replaced(&|by| names(by, value)),
            (Promise::Outlived, Some(write)) => replaced(&|by| self.surely_replaced_unseen(write, by)),
            (Promise::Lost, Some(write)) => {
                let finals = || self.seen.iter().filter(|seen| seen.node_at_end.is_some());
                let must = |seen: &Seen| self.must_know(seen, write) && !self.may_be_gone(write, seen.from);
                finals().any(must) && !finals().any(|seen| seen.values.contains(&value))
            }
            (Promise::Stale, Some(write)) => self.seen.iter().any(|seen| {
                seen.quorum.is_some()
                    && self.must_know(seen, write)
                    && !self.may_be_gone(write, seen.to)
                    && !seen.values.contains(&value)
            }),
            (Promise::Diverged, Some(_)) => false,
            (Promise::Session, Some(write)) => !self.lww && self.ttl.is_none() && self.surprises_a_session(write),
        }
    }

    /// Whether a session misses what it wrote, or is shown again what it knew to be gone.
    fn surprises_a_session(&self, write: &Operation) -> bool {
        let value = write.number;
        let shows = |by: &Operation| match (&by.action, &by.outcome) {
            (Action::Get { .. }, Outcome::Read { values, .. }) => Some(values.contains(&value)),
            _ => None,
        };
        let is_told = |by: &Operation| matches!((&by.outcome, by.end_us), (Outcome::Written { .. }, Some(_)));
        let writes = |by: &Operation| !matches!(by.action, Action::Get { .. }) && is_told(by);
        let ends = |by: &Operation| match writes(by) {
            true => by.number != value && (*replaces(by) == Replaces::Known || names(by, value)),
            false => shows(by) == Some(false),
        };
        let sees = |by: &Operation| match writes(by) {
            true => by.number == value,
            false => shows(by) == Some(true),
        };
        self.sessions.values().any(|all| {
            (0..all.len()).any(|last| {
                let before = &all[..last];
                let first = before.iter().position(|by| sees(by));
                let known_gone = first.is_some_and(|first| before[first..].iter().any(|by| ends(by)));
                let own = before.iter().any(|by| by.number == value && writes(by));
                match shows(all[last]) {
                    Some(true) => known_gone,
                    Some(false) => {
                        let to = all[last]
                            .end_us
                            .unwrap_or(all[last].deadline_us)
                            .max(all[last].start_us);
                        own && !known_gone && !self.may_be_gone(write, to)
                    }
                    None => false,
                }
            })
        })
    }

    fn has_diverged(&self) -> bool {
        let finals: Vec<&Seen> = self.seen.iter().filter(|seen| seen.node_at_end.is_some()).collect();
        let end = finals.iter().map(|seen| seen.from).max().unwrap_or(0);
        let is_settled = |value: &u64| !self.write(*value).is_some_and(|write| self.may_be_expired(write, end));
        let shown: BTreeSet<BTreeSet<u64>> = finals
            .iter()
            .map(|seen| seen.values.iter().copied().filter(is_settled).collect())
            .collect();
        shown.len() > 1
    }
}

fn naive(history: &History, skew: u64) -> BTreeSet<Verdict> {
    let operations = history.operations.iter().map(|operation| &operation.key);
    let keys: BTreeSet<&String> = operations.chain(history.finals.iter().map(|last| &last.key)).collect();
    let mut verdicts = BTreeSet::new();
    for name in keys {
        let key = Key::of(history, name, skew);
        for promise in Promise::ALL {
            let broken = (0..100).filter(|&value| key.is_broken(promise, value));
            verdicts.extend(broken.map(|value| (promise, name.clone(), Some(value))));
        }
        if key.has_diverged() {
            verdicts.insert((Promise::Diverged, name.clone(), None));
        }
    }
    verdicts
}

#[test]
fn prop_a_naive_twin_comes_to_the_same_verdicts() {
    let met = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(Config {
        source_file: Some(file!()),
        ..Config::default()
    });
    let strategy = (arbitrary::history(), arbitrary::skew_us());
    let result = runner.run(&strategy, |(history, skew)| {
        let violations = check_with(&history, &Promises::all().with_skew_us(skew));
        let verdicts: BTreeSet<Verdict> = violations
            .iter()
            .map(|found| (found.promise, found.key.clone(), found.value))
            .collect();
        assert_eq!(verdicts.len(), violations.len(), "one was told twice: {violations:#?}");
        assert_eq!(verdicts, naive(&history, skew), "{violations:#?}");
        met.borrow_mut()
            .extend(verdicts.into_iter().map(|(promise, ..)| promise));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}\n{runner}"));
    assert_eq!(
        met.into_inner(),
        BTreeSet::from(Promise::ALL),
        "each promise is broken by some history"
    );
}
