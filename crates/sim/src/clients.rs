//! What clients asked and were told becomes a history, in which every value is the number of its write.

use std::collections::BTreeMap;

use annulus_checker::{Action, Operation, Outcome, Replaces};
use annulus_coordinator::{
    Answer, Durability, KeyRequest, Level, ListRequest, Mode, NewValue, Operation as Asked, Options, Outcome as Said,
    Reply, Request, Written,
};
use annulus_ring::{Bucket, Key};

use crate::oracles::typed;
use crate::queue::{MICROSECOND, Nanos};
use crate::workloads::{Ask, Call, Manner, SIGHTS_KEPT, Sight, With};

/// Clocks that drift and estimates of them: a deadline may be read this much later elsewhere.
const SLACK_US: u64 = 500_000;
/// A request's deadline where it names none, in microseconds.
const TIMEOUT_US: u64 = 5_000_000;

/// A request that was not answered yet.
struct Pending {
    bucket: &'static str,
    operation: Operation,
    timeout_us: u64,
    options: Options,
    kind: Kind,
    /// The token that was sent along; nothing where it begins a session.
    token: Option<String>,
    /// Of a key that is a counter or a set: no part of the history of values.
    typed: Option<typed::Asked>,
}

enum Kind {
    Key,
    List { limit: usize },
    Foreign,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Clients {
    numbers: u64,
    pending: BTreeMap<u64, Pending>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) typed: typed::Typed,
    pub(crate) sights: BTreeMap<(&'static str, String), Vec<(u32, Sight)>>,
    /// Keys that somebody wrote, or tried to.
    pub(crate) keys: std::collections::BTreeSet<(&'static str, String)>,
    /// By bucket and client: the session's number and its newest token, while none of its requests is under way.
    sessions: BTreeMap<(&'static str, u32), (u64, String)>,
}

impl Clients {
    /// The request of a call, numbered.
    pub(crate) fn begin(
        &mut self,
        bucket: &'static str,
        client: u32,
        node: usize,
        at: Nanos,
        (call, manner): (Call, Manner),
    ) -> (u64, Request) {
        self.numbers += 1;
        let number = self.numbers;
        let Call { key, ask, options } = call;
        let durable = options.durability != Some(Durability::Memory);
        // What a sloppy read counts are owners, too: a quorum of them sees what a quorum of them wrote.
        let strict = true;
        let mut kind = Kind::Key;
        let typed = typed::policy(bucket).and_then(|_| match &ask {
            Ask::Get => Some(typed::Asked::Get),
            Ask::Delete { .. } => Some(typed::Asked::Delete),
            Ask::Change { change, token } => Some(typed::Asked::Change {
                change: change.clone(),
                token: token.clone(),
            }),
            _ => None,
        });
        let (action, asked) = match ask {
            Ask::Get => (Action::Get { strict }, Some(Asked::Get)),
            Ask::Put { bytes, with } => {
                let (replaces, token, condition) = said(with);
                let value = NewValue {
                    value: value(number, bytes).into(),
                    content_type: None,
                    meta: Vec::new(),
                };
                let value = Some(value);
                (
                    Action::Put { replaces, durable },
                    Some(Asked::Write {
                        value,
                        token,
                        condition,
                    }),
                )
            }
            Ask::Delete { with } => {
                let (replaces, token, condition) = said(with);
                let asked = Asked::Write {
                    value: None,
                    token,
                    condition,
                };
                (Action::Delete { replaces, durable }, Some(asked))
            }
            Ask::Change { change, token } => (
                Action::Put {
                    replaces: Replaces::Known,
                    durable,
                },
                Some(Asked::Change { change, token }),
            ),
            Ask::Foreign { token } => {
                kind = Kind::Foreign;
                let asked = Asked::Write {
                    value: None,
                    token: Some(token),
                    condition: None,
                };
                (Action::Get { strict }, Some(asked))
            }
            Ask::List { limit } => {
                kind = Kind::List { limit };
                (Action::Get { strict }, None)
            }
        };
        if !matches!(action, Action::Get { .. }) {
            self.keys.insert((bucket, key.clone()));
        }
        let name = Bucket::parse(bucket).expect("a workload's name is a bucket's");
        let mut session = None;
        let mut sent = None;
        let request = match asked {
            Some(operation) => {
                let request = KeyRequest {
                    bucket: name,
                    key: Key::parse(key.clone().into_bytes()).expect("a workload's key is short"),
                    operation,
                    options,
                    seen: None,
                };
                match manner {
                    Manner::Plain => Request::Key(request),
                    Manner::InSession => {
                        let (begun, token) = self.sessions.remove(&(bucket, client)).unzip();
                        session = Some(begun.unwrap_or(number));
                        sent.clone_from(&token);
                        Request::InSession { token, request }
                    }
                }
            }
            None => Request::List(ListRequest {
                bucket: name,
                prefix: Default::default(),
                start: Default::default(),
                limit: match kind {
                    Kind::List { limit, .. } => limit,
                    _ => 1,
                },
                options: Options { w: None, ..options },
            }),
        };
        let timeout_us = options.timeout.map_or(TIMEOUT_US, |timeout| timeout.as_micros() as u64);
        let start_us = at / MICROSECOND;
        let operation = Operation {
            number,
            client,
            session,
            node: format!("n{}", node + 1),
            key: format!("{bucket}/{key}"),
            start_us,
            end_us: None,
            deadline_us: start_us + timeout_us + SLACK_US,
            action,
            outcome: Outcome::Unknown,
        };
        let pending = Pending {
            bucket,
            operation,
            timeout_us,
            options,
            kind,
            token: sent,
            typed,
        };
        self.pending.insert(number, pending);
        (number, request)
    }

    /// The request was never made: nobody took the connection.
    pub(crate) fn forget(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    /// The answer, or none where the node died.
    ///
    /// # Errors
    /// An answer that must not be.
    pub(crate) fn end(&mut self, number: u64, at: Nanos, reply: Option<&Reply>) -> Result<(), String> {
        let Some(pending) = self.pending.remove(&number) else {
            return Ok(());
        };
        let Pending {
            bucket,
            mut operation,
            timeout_us,
            options,
            kind,
            token,
            typed,
        } = pending;
        let (answered, token) = match reply {
            Some(Ok(Answer::InSession { token, answer })) => (Some(Ok((**answer).clone())), Some(token.clone())),
            _ => (reply.cloned(), token),
        };
        let reply = answered.as_ref();
        if let (Some(session), Some(token)) = (operation.session, token) {
            self.sessions.insert((bucket, operation.client), (session, token));
        }
        let end_us = at / MICROSECOND;
        operation.end_us = reply.map(|_| end_us);
        // Whoever was asked may have passed it on until this moment, and that one begins it before its deadline.
        operation.deadline_us = end_us + timeout_us + SLACK_US;
        match kind {
            Kind::List { limit } => return self.check_list(bucket, limit, reply),
            Kind::Foreign => {
                return match reply {
                    Some(Ok(_)) => Err(format!("request {number} was done with another key's context")),
                    _ => Ok(()),
                };
            }
            Kind::Key => {}
        }
        let (_, key) = operation.key.split_once('/').unwrap_or_default();
        let key = (bucket, key.to_owned());
        let sight = match reply {
            Some(Ok(Answer::Found(found))) => {
                let values: Vec<u64> = found
                    .versions
                    .iter()
                    .map(|version| read_value(&version.value))
                    .collect();
                operation.outcome = Outcome::Read {
                    values: values.clone(),
                    answered: found.answered,
                    n: found.n,
                };
                Some(Sight {
                    token: found.token.clone(),
                    etag: Some(found.etag),
                    values,
                })
            }
            Some(Ok(Answer::Written(written))) => {
                check_written(number, written, &options)?;
                operation.outcome = Outcome::Written {
                    answered: written.answered,
                    fallbacks: written.fallbacks,
                    n: written.n,
                };
                let is_put = matches!(operation.action, Action::Put { .. });
                Some(Sight {
                    token: written.token.clone(),
                    etag: None,
                    values: if is_put { vec![number] } else { Vec::new() },
                })
            }
            Some(Ok(other)) => return Err(format!("request {number} was answered by {other:?}")),
            Some(Err(failure)) => {
                let is_read = matches!(operation.action, Action::Get { .. });
                operation.outcome = match is_read || failure.outcome() == Said::None {
                    true => Outcome::Nothing,
                    false => Outcome::Unknown,
                };
                None
            }
            None => {
                if matches!(operation.action, Action::Get { .. }) {
                    operation.outcome = Outcome::Nothing;
                }
                None
            }
        };
        if let Some(sight) = sight {
            let sights = self.sights.entry(key.clone()).or_default();
            if sights.len() == SIGHTS_KEPT {
                sights.remove(0);
            }
            sights.push((operation.client, sight));
        }
        match typed {
            None => self.operations.push(operation),
            Some(asked) => {
                let shown = match reply {
                    Some(Ok(Answer::Found(found))) => typed::shown(found).map(|shown| (shown, found.token.clone())),
                    _ => None,
                };
                let done = typed::Done {
                    number,
                    asked,
                    start_us: operation.start_us,
                    end_us,
                    durable: options.durability != Some(Durability::Memory),
                    outcome: operation.outcome,
                    shown,
                };
                self.typed.push(bucket, key.1, done);
            }
        }
        Ok(())
    }

    fn check_list(&self, bucket: &'static str, limit: usize, reply: Option<&Reply>) -> Result<(), String> {
        let Some(Ok(Answer::Page(page))) = reply else {
            return Ok(());
        };
        if page.keys.len() > limit || !page.keys.is_sorted() {
            return Err(format!("a page of {limit} holds {:?}", page.keys));
        }
        let made_up = page.keys.iter().find(|key| {
            let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
            !self.keys.contains(&(bucket, key))
        });
        match made_up {
            Some(key) => Err(format!("a page holds {key:?}, which nobody wrote")),
            None => Ok(()),
        }
    }

    /// Whoever is still waiting never gets an answer.
    pub(crate) fn give_up(&mut self, at: Nanos) {
        for number in self.pending.keys().copied().collect::<Vec<_>>() {
            let _ = self.end(number, at, None);
        }
    }
}

/// A write says what it was asked for.
fn check_written(number: u64, written: &Written, options: &Options) -> Result<(), String> {
    let Written {
        answered, fallbacks, n, ..
    } = *written;
    let required = options.w.unwrap_or(Level::Quorum).required(n).unwrap_or(n);
    if answered < required {
        return Err(format!(
            "write {number} asked for {required} of {n} replicas, and was answered by {answered}"
        ));
    }
    if fallbacks > 0 && options.mode == Some(Mode::Strict) {
        return Err(format!(
            "write {number} asked for owners alone, and {fallbacks} fallbacks counted"
        ));
    }
    Ok(())
}

fn said(with: With) -> (Replaces, Option<String>, Option<annulus_coordinator::Condition>) {
    match with {
        With::Nothing => (Replaces::Known, None, None),
        With::Context(sight) => (Replaces::Shown(sight.values), Some(sight.token), None),
        With::Guard(condition, values) => (Replaces::Shown(values), None, Some(condition)),
    }
}

fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = format!("{number}|").into_bytes();
    if value.len() < bytes {
        value.resize(bytes, b'.');
    }
    value
}

/// 0 where it is no number.
pub(crate) fn read_value(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.split('|')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
