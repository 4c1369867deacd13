//! Clients write registers in which every value is the number of its write, and tell exactly what they were answered.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use annulus_checker::{Action, Operation, Outcome, Replaces};
use annulus_client::{
    Cause, Client, Condition, Context, Durability, Error, OnUnknown, Options, Outcome as Left, Put, Quorum, Read,
    Replicas, Written,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::cluster::name;
use crate::record::{Class, Recorder, Sample};
use crate::trouble::Trouble;

/// The bucket whose concurrent values are all kept.
pub(crate) const SIBLINGS: &str = "registers";
/// The bucket in which the last value wins.
pub(crate) const LWW: &str = "last";
/// The longest time limit of a request.
pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_secs(2);
/// What was seen of a key is kept so often: the oldest are the stale contexts.
const SIGHTS: usize = 8;
/// A client leaves a node that did not answer alone for so long, or all clients would soon wait for nodes that are down.
const REST: Duration = Duration::from_secs(1);
/// But now and then it asks whomever it likes.
const BOLDNESS: f64 = 0.02;

/// What there is to read and write.
#[derive(Clone)]
pub(crate) struct Workload {
    /// By bucket and key.
    pub(crate) keys: Vec<(&'static str, String)>,
    /// By key, the one node that is asked for it; empty where any may be.
    pub(crate) asked: Vec<usize>,
    /// Where the nodes serve.
    pub(crate) urls: Vec<String>,
    /// Of the requests.
    pub(crate) seed: u64,
    /// Clients at once.
    pub(crate) clients: u32,
    /// Requests a second, of all of them.
    pub(crate) rate: u32,
    /// Whether writes may ask for one replica only: where a disk may be lost, that is no promise to keep them.
    pub(crate) single_copies: bool,
}

/// So many keys; one in four is of the bucket in which the last value wins.
pub(crate) fn keys(count: usize) -> Vec<(&'static str, String)> {
    let bucket = |index: usize| if index % 4 == 3 { LWW } else { SIBLINGS };
    (0..count).map(|index| (bucket(index), format!("k{index}"))).collect()
}

/// What somebody saw of a key.
#[derive(Clone)]
struct Sight {
    context: Context,
    etag: Option<String>,
    values: Vec<u64>,
}

type Sights = Mutex<BTreeMap<usize, Vec<Sight>>>;

impl Workload {
    /// Runs all clients until told to stop.
    pub(crate) async fn run(&self, recorder: &Recorder, stop: watch::Receiver<bool>) -> Result<(), Trouble> {
        let sights = Sights::default();
        let mut clients = Vec::new();
        for number in 0..self.clients {
            clients.push(self.client(number, recorder, &sights, stop.clone())?);
        }
        join_all(clients).await;
        Ok(())
    }

    fn client<'a>(
        &'a self,
        number: u32,
        recorder: &'a Recorder,
        sights: &'a Sights,
        mut stop: watch::Receiver<bool>,
    ) -> Result<impl Future<Output = ()> + 'a, Trouble> {
        let connect = |url: &String| Client::builder().attempts(1).build([url]);
        let nodes = self.urls.iter().map(connect).collect::<Result<Vec<_>, _>>();
        let nodes = nodes.map_err(|error| Trouble::NotReady(error.to_string()))?;
        let mut client = OneClient {
            number,
            rests_until: vec![Instant::now(); nodes.len()],
            rng: StdRng::seed_from_u64(self.seed ^ (u64::from(number) + 1) << 32),
            nodes,
            workload: self,
            recorder,
            sights,
        };
        let pace = Duration::from_secs(1) * self.clients / self.rate;
        Ok(async move {
            let mut next = Instant::now();
            while !*stop.borrow() {
                next = (next + pace).max(Instant::now());
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {}
                    _ = stop.wait_for(|&stop| stop) => break,
                }
                // A request under way is waited for: its answer belongs to the history.
                client.once().await;
            }
        })
    }
}

/// Polls all of them to their end.
pub(crate) async fn join_all(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        match futures.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

struct OneClient<'a> {
    number: u32,
    rng: StdRng,
    nodes: Vec<Client>,
    /// By node: until when it is left alone.
    rests_until: Vec<Instant>,
    workload: &'a Workload,
    recorder: &'a Recorder,
    sights: &'a Sights,
}

/// What a write says of what it replaces.
struct Guard {
    replaces: Replaces,
    context: Option<Context>,
    condition: Condition,
}

enum Answer {
    Read(Result<Read, Error>),
    Written(Result<Written, Error>),
}

impl OneClient<'_> {
    /// One request, of whatever kind.
    async fn once(&mut self) {
        let place = self.place();
        let node = self.workload.asked.get(place).copied().unwrap_or_else(|| self.node());
        let options = self.options();
        let number = self.recorder.number();
        let (bucket, key) = &self.workload.keys[place];
        let client = self.nodes[node].clone();
        let durable = options.durability != Some(Durability::Memory);
        let (action, answer, start_us, end_us);
        match self.rng.random_range(0..100) {
            0..45 => {
                let strict = options.sloppy == Some(false);
                start_us = self.recorder.now_us();
                let read = client.get(bucket, key, &options).await;
                end_us = self.recorder.now_us();
                (action, answer) = (Action::Get { strict }, Answer::Read(read));
            }
            45..85 => {
                let guard = self.guard(place);
                let mut put = Put::new(self.value(number)).only_if(guard.condition);
                put.context = guard.context;
                start_us = self.recorder.now_us();
                let written = client.put(bucket, key, put, &options).await;
                end_us = self.recorder.now_us();
                let replaces = guard.replaces;
                (action, answer) = (Action::Put { replaces, durable }, Answer::Written(written));
            }
            _ => {
                let guard = self.guard(place);
                start_us = self.recorder.now_us();
                let deleted = client.delete_if(bucket, key, guard.context.as_ref(), &guard.condition, &options);
                let deleted = deleted.await;
                end_us = self.recorder.now_us();
                let replaces = guard.replaces;
                (action, answer) = (Action::Delete { replaces, durable }, Answer::Written(deleted));
            }
        }
        let operation = Operation {
            number,
            client: self.number,
            session: None,
            node: name(node),
            key: format!("{bucket}/{key}"),
            start_us,
            end_us: Some(end_us),
            deadline_us: 0,
            action,
            outcome: Outcome::Nothing,
        };
        if let Answer::Read(Err(error)) | Answer::Written(Err(error)) = &answer
            && error.problem().is_none()
        {
            self.rests_until[node] = Instant::now() + REST;
        }
        self.tell(place, operation, &options, answer);
    }

    /// Any node that is not left alone, where there is one.
    fn node(&mut self) -> usize {
        let (now, count) = (Instant::now(), self.nodes.len());
        let node = self.rng.random_range(0..count);
        if self.rng.random_bool(BOLDNESS) {
            return node;
        }
        let turns = (0..count).map(|step| (node + step) % count);
        turns
            .into_iter()
            .find(|&node| self.rests_until[node] <= now)
            .unwrap_or(node)
    }

    fn tell(&mut self, place: usize, mut operation: Operation, options: &Options, answer: Answer) {
        let is_get = matches!(operation.action, Action::Get { .. });
        let asked = if is_get { options.r } else { options.w };
        let mut sample = Sample {
            start_us: operation.start_us,
            end_us: operation.end_us.unwrap_or_default(),
            class: Class::Ok,
            asks_all: asked == Some(Quorum::All),
        };
        let is_put = matches!(operation.action, Action::Put { .. });
        match answer {
            Answer::Read(Ok(read)) => {
                let values: Vec<u64> = read.values().iter().map(|value| number_of(&value.bytes)).collect();
                let replicas = read.values().first().and_then(|value| value.replicas);
                let (answered, n) = counts(replicas, asked);
                self.saw(place, read.context(), etag(&read), values.clone());
                operation.outcome = Outcome::Read { values, answered, n };
            }
            Answer::Written(Ok(written)) => {
                let (answered, n) = counts(written.replicas, asked);
                let fallbacks = u8::try_from(written.fallbacks).unwrap_or(u8::MAX);
                let sent = match &operation.action {
                    Action::Put { replaces, .. } | Action::Delete { replaces, .. } => replaces,
                    Action::Get { .. } => &Replaces::Known,
                };
                let mut values = match sent {
                    Replaces::Shown(values) => values.clone(),
                    Replaces::Known => Vec::new(),
                };
                values.extend(is_put.then_some(operation.number));
                self.saw(place, &written.context, None, values);
                operation.outcome = Outcome::Written { answered, fallbacks, n };
            }
            Answer::Read(Err(error)) | Answer::Written(Err(error)) => {
                sample.class = class(&error);
                if sample.class == Class::Refused {
                    return self.recorder.refused(sample);
                }
                self.look_at(&error);
                if error.outcome() == Some(Left::Unknown) {
                    operation.outcome = Outcome::Unknown;
                }
                if error.problem().is_none() {
                    operation.end_us = None;
                }
            }
        }
        let timeout = options.timeout.unwrap_or(LONGEST_TIMEOUT);
        self.recorder.operation(
            operation,
            sample,
            u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX),
        );
    }

    /// Half of the requests are for a quarter of the keys.
    fn place(&mut self) -> usize {
        let count = self.workload.keys.len();
        let hot = self.rng.random_bool(0.5);
        self.rng.random_range(0..if hot { count.div_ceil(4) } else { count })
    }

    fn options(&mut self) -> Options {
        let timeouts = [500, 1000, 2000];
        let single = self.workload.single_copies;
        let mut quorum = |one: bool| match self.rng.random_range(0..10) {
            0 | 1 if one => Some(Quorum::One),
            2 | 3 => Some(Quorum::All),
            4 | 5 => Some(Quorum::Majority),
            _ => None,
        };
        let (r, w) = (quorum(true), quorum(single));
        Options {
            r,
            w,
            sloppy: Some(self.rng.random_bool(0.5)),
            timeout: Some(Duration::from_millis(
                timeouts[self.rng.random_range(0..timeouts.len())],
            )),
            durability: self.rng.random_bool(0.05).then_some(Durability::Memory),
            attempts: Some(1),
            on_unknown: OnUnknown::Report,
            ..Options::default()
        }
    }

    /// No word of what is replaced, what was seen last, what was seen some time ago, or a condition.
    fn guard(&mut self, place: usize) -> Guard {
        let kept = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        let sights = kept.get(&place).map(Vec::as_slice).unwrap_or_default();
        let some = |replaces, context, condition| Guard {
            replaces,
            context,
            condition,
        };
        let old = self.rng.random_range(0..sights.len().max(1));
        match (self.rng.random_range(0..100), sights.last(), sights.get(old)) {
            (40..75, Some(last), _) => {
                let replaces = Replaces::Shown(last.values.clone());
                some(replaces, Some(last.context.clone()), Condition::Always)
            }
            (75..88, _, Some(old)) => {
                let replaces = Replaces::Shown(old.values.clone());
                some(replaces, Some(old.context.clone()), Condition::Always)
            }
            (
                88..95,
                Some(Sight {
                    etag: Some(etag),
                    values,
                    ..
                }),
                _,
            ) => {
                let condition = Condition::Matches(etag.clone());
                some(Replaces::Shown(values.clone()), None, condition)
            }
            (95..100, ..) => some(Replaces::Shown(Vec::new()), None, Condition::Absent),
            _ => some(Replaces::Known, None, Condition::Always),
        }
    }

    fn saw(&self, place: usize, context: &Context, etag: Option<String>, values: Vec<u64>) {
        let mut kept = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        let sights = kept.entry(place).or_default();
        if sights.len() == SIGHTS {
            sights.remove(0);
        }
        sights.push(Sight {
            context: context.clone(),
            etag,
            values,
        });
    }

    /// The number, padded now and then.
    fn value(&mut self, number: u64) -> Vec<u8> {
        let length = match self.rng.random_range(0..100) {
            0 => self.rng.random_range(64 << 10..256 << 10),
            1..10 => self.rng.random_range(1 << 10..16 << 10),
            _ => 0,
        };
        let mut value = format!("{number}|").into_bytes();
        value.resize(length.max(value.len()), b'.');
        value
    }

    /// An answer that clients should never see is worth a word.
    fn look_at(&self, error: &Error) {
        let is_odd = match error.cause() {
            Cause::Answered(problem) => !matches!(problem.status, 409 | 412 | 429 | 503 | 504),
            Cause::Unreadable(_) | Cause::Invalid(_) => true,
            _ => false,
        };
        if is_odd {
            self.recorder.odd(error.to_string());
        }
    }
}

fn class(error: &Error) -> Class {
    match error.cause() {
        Cause::Unreachable(_) => Class::Refused,
        Cause::Answered(problem) if problem.status == 412 => Class::Ok,
        _ if error.outcome() == Some(Left::Unknown) => Class::Unknown,
        _ => Class::Failed,
    }
}

/// 0 where it is no number.
pub(crate) fn number_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let (number, _) = text.split_once('|').unwrap_or_default();
    number.parse().unwrap_or(0)
}

fn etag(read: &Read) -> Option<String> {
    read.values().first().and_then(|value| value.etag.clone())
}

/// Owners that answered, and how many there are. An answer of nothing does not say it, but is given by enough only.
fn counts(replicas: Option<Replicas>, asked: Option<Quorum>) -> (u8, u8) {
    let least = match asked {
        Some(Quorum::One) => 1,
        Some(Quorum::All) => 3,
        _ => 2,
    };
    let small = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
    replicas.map_or((least, 3), |replicas| (small(replicas.answered), small(replicas.of)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_number_and_what_is_none_is_zero() {
        assert_eq!(number_of(b"17|"), 17);
        assert_eq!(number_of(b"17|....."), 17);
        for bad in [&b""[..], b"17", b"|", b"x|", b"\xff|"] {
            assert_eq!(number_of(bad), 0, "{bad:?}");
        }
    }

    #[test]
    fn keys_are_of_both_buckets() {
        let keys = keys(8);
        assert_eq!(keys.iter().filter(|(bucket, _)| *bucket == LWW).count(), 2);
        assert_eq!(keys.len(), 8);
    }
}
