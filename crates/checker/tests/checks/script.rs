//! Histories written by hand: `get(7).from(10).to(20)` and so on, with what most tests do not care for filled in.

use annulus_checker::{Action, Bucket, Conflicts, Final, History, Operation, Outcome, Replaces};

/// How long after it was sent a request may begin.
const PATIENCE_US: u64 = 1_000;

pub(crate) struct Step(Operation);

fn step(number: u64, (start_us, end_us): (u64, u64), action: Action, outcome: Outcome) -> Step {
    Step(Operation {
        number,
        client: 1,
        session: None,
        node: "n1".to_owned(),
        key: "b/k".to_owned(),
        start_us,
        end_us: Some(end_us),
        deadline_us: start_us + PATIENCE_US,
        action,
        outcome,
    })
}

fn written() -> Outcome {
    Outcome::Written {
        answered: 2,
        fallbacks: 0,
        n: 3,
    }
}

/// A durable PUT, acknowledged by two of three owners.
pub(crate) fn put(number: u64, times: (u64, u64), replaces: Replaces) -> Step {
    step(
        number,
        times,
        Action::Put {
            replaces,
            durable: true,
        },
        written(),
    )
}

/// A durable DELETE, acknowledged by two of three owners.
pub(crate) fn delete(number: u64, times: (u64, u64), replaces: Replaces) -> Step {
    step(
        number,
        times,
        Action::Delete {
            replaces,
            durable: true,
        },
        written(),
    )
}

/// A strict read, answered by two of three owners.
pub(crate) fn get(number: u64, times: (u64, u64), values: &[u64]) -> Step {
    let outcome = Outcome::Read {
        values: values.to_vec(),
        answered: 2,
        n: 3,
    };
    step(number, times, Action::Get { strict: true }, outcome)
}

pub(crate) fn shown(values: &[u64]) -> Replaces {
    Replaces::Shown(values.to_vec())
}

impl Step {
    /// So many owners, and fallbacks, have it.
    pub(crate) fn by(mut self, owners: u8, others: u8) -> Step {
        match &mut self.0.outcome {
            Outcome::Written {
                answered, fallbacks, ..
            } => (*answered, *fallbacks) = (owners + others, others),
            Outcome::Read { answered, .. } => *answered = owners,
            Outcome::Nothing | Outcome::Unknown => {}
        }
        self
    }

    /// It failed.
    pub(crate) fn but(mut self, outcome: Outcome) -> Step {
        self.0.outcome = outcome;
        self
    }

    pub(crate) fn unanswered(mut self) -> Step {
        self.0.end_us = None;
        self.but(Outcome::Unknown)
    }

    /// In a session.
    pub(crate) fn within(mut self, session: u64) -> Step {
        self.0.session = Some(session);
        self
    }

    pub(crate) fn in_memory(mut self) -> Step {
        match &mut self.0.action {
            Action::Put { durable, .. } | Action::Delete { durable, .. } => *durable = false,
            Action::Get { .. } => {}
        }
        self
    }

    pub(crate) fn sloppy(mut self) -> Step {
        self.0.action = Action::Get { strict: false };
        self
    }

    pub(crate) fn at(mut self, node: &str) -> Step {
        self.0.node = node.to_owned();
        self
    }
}

/// A history of one key.
pub(crate) struct Script(pub(crate) History);

pub(crate) fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    Script(History {
        operations: steps.into_iter().map(|step| step.0).collect(),
        ..History::default()
    })
}

impl Script {
    /// What each owner, `n1` and on, shows at the end.
    pub(crate) fn then(mut self, at_us: u64, owners: &[&[u64]]) -> Script {
        for (values, number) in owners.iter().zip(1..) {
            self.0.finals.push(Final {
                key: "b/k".to_owned(),
                node: format!("n{number}"),
                at_us,
                values: values.to_vec(),
            });
        }
        self
    }

    pub(crate) fn lww(self) -> Script {
        self.bucket(Conflicts::Lww, None)
    }

    pub(crate) fn ttl_ms(self, ttl_ms: u64) -> Script {
        self.bucket(Conflicts::Siblings, Some(ttl_ms))
    }

    fn bucket(mut self, conflicts: Conflicts, ttl_ms: Option<u64>) -> Script {
        let name = "b".to_owned();
        let bucket = Bucket {
            name,
            conflicts,
            ttl_ms,
        };
        self.0.buckets.insert("b".to_owned(), bucket);
        self
    }
}
