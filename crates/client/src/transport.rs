//! One request, as many attempts as are safe; once one of them may have written, the outcome stays unknown.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header::RETRY_AFTER};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rand::RngExt;

use crate::{
    error::{Cause, Error},
    nodes::{Node, Nodes},
    problem::{Outcome, Problem},
};

/// Idle connections are closed after this, well before the node does it (75 s): it must not close one just as we send.
const IDLE: Duration = Duration::from_secs(30);
/// No answer is larger: 64 siblings of 1 MiB in base64 are 86 MiB.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// How much longer than its own time limit a node may take to say that it has passed.
const GRACE: Duration = Duration::from_secs(1);
/// A `Retry-After` that is a date, or unreadable, counts as this.
const UNREADABLE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a repetition of the request does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asks one node how it is: another attempt would answer another question.
    Probe,
    /// Changes nothing: always safe to send again.
    Read,
    /// Writes the same again: safe to send again as far as the caller wants it.
    Write,
    /// Writes under a condition that its own first attempt may have changed: safe only while nothing was written.
    GuardedWrite,
}

/// A request before it is sent to anybody.
pub(crate) struct Call {
    /// As it is shown in messages: `PUT photos/cat.jpg`.
    pub(crate) operation: String,
    pub(crate) kind: Kind,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The node's own time limit, if the request carries one.
    pub(crate) timeout: Option<Duration>,
    /// The time for all attempts, if it is not the client's.
    pub(crate) deadline: Option<Duration>,
    /// How often to try at most, if it is not the client's.
    pub(crate) attempts: Option<u32>,
}

/// The answer of the last attempt, whatever its status.
pub(crate) struct Reply {
    pub(crate) operation: String,
    pub(crate) node: String,
    pub(crate) attempts: u32,
    /// Of a write that was refused: what all attempts together left behind.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How long and how often to try.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// For all attempts together.
    pub(crate) deadline: Duration,
    /// For one attempt: a node that hangs must not take the whole deadline.
    pub(crate) attempt: Duration,
    pub(crate) attempts: u32,
    /// Doubles from the first to the second from round to round; half of each pause is random.
    pub(crate) pause: (Duration, Duration),
}

pub(crate) struct Transport {
    pub(crate) nodes: Nodes,
    patience: Patience,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Transport {
    pub(crate) fn new(nodes: Nodes, patience: Patience) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(patience.attempt));
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { nodes, patience, http }
    }

    pub(crate) async fn call(&self, call: Call) -> Result<Reply, Error> {
        let end = Instant::now() + call.deadline.unwrap_or(self.patience.deadline);
        let mut tried = Vec::new();
        let mut outcome = matches!(call.kind, Kind::Write | Kind::GuardedWrite).then_some(Outcome::None);
        let (mut attempts, mut round) = (0, 0);
        loop {
            let Some((index, node)) = self.nodes.next(&tried) else {
                tried.clear();
                continue;
            };
            tried.push(index);
            attempts += 1;
            let attempt = self.attempt(node, &call, end).await;
            match &attempt {
                Ok(_) => self.nodes.answered(index),
                Err(_) => self.nodes.failed(index),
            }
            if outcome.is_some() && may_have_written(&attempt) {
                outcome = Some(Outcome::Unknown);
            }
            let done = attempts >= call.attempts.unwrap_or(self.patience.attempts) || !call.may_be_sent_again(outcome);
            let pause = match &attempt {
                Ok(reply) if !is_transient(reply.status) => Duration::MAX,
                Ok(reply) => self.pause(round).max(retry_after(&reply.headers)),
                // Another node may do better at once; after a whole round of them it is time to wait.
                Err(_) if tried.len() < self.nodes.urls().count() => Duration::ZERO,
                Err(_) => self.pause(round),
            };
            if done || Instant::now().checked_add(pause).is_none_or(|next| next >= end) {
                return match attempt {
                    Ok(reply) => Ok(Reply {
                        attempts,
                        outcome,
                        ..reply
                    }),
                    Err(cause) => Err(Error::at(&call.operation, &node.url, cause)
                        .after(attempts)
                        .leaving(outcome)),
                };
            }
            if !pause.is_zero() {
                round += 1;
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn attempt(&self, node: &Node, call: &Call, end: Instant) -> Result<Reply, Cause> {
        let limit = call.timeout.map_or(self.patience.attempt, |timeout| timeout + GRACE);
        let limit = limit.min(end.saturating_duration_since(Instant::now()));
        tokio::time::timeout(limit, self.send(node, call))
            .await
            .unwrap_or(Err(Cause::TimedOut(limit)))
    }

    async fn send(&self, node: &Node, call: &Call) -> Result<Reply, Cause> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = node
            .uri(&call.path)
            .map_err(|error| Cause::Invalid(error.to_string()))?;
        *request.headers_mut() = call.headers.clone();
        let response = self.http.request(request).await.map_err(|error| {
            let why = innermost(&error);
            if error.is_connect() {
                Cause::Unreachable(why)
            } else {
                Cause::Lost(why)
            }
        })?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        Ok(Reply {
            operation: call.operation.clone(),
            node: node.url.clone(),
            attempts: 1,
            outcome: None,
            status: parts.status,
            headers: parts.headers,
            body: body.map_err(|error| Cause::Lost(innermost(error.as_ref())))?.to_bytes(),
        })
    }

    /// Exponential, with half of it random so that clients that failed together do not come back together.
    fn pause(&self, round: u32) -> Duration {
        let (first, longest) = self.patience.pause;
        let whole = first
            .saturating_mul(1_u32.checked_shl(round).unwrap_or(u32::MAX))
            .min(longest);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

impl Call {
    fn may_be_sent_again(&self, outcome: Option<Outcome>) -> bool {
        match self.kind {
            Kind::Probe => false,
            Kind::Read | Kind::Write => true,
            Kind::GuardedWrite => outcome != Some(Outcome::Unknown),
        }
    }
}

/// Answers that another attempt may better.
fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

fn may_have_written(attempt: &Result<Reply, Cause>) -> bool {
    match attempt {
        Ok(reply) if reply.status.is_success() => false,
        Ok(reply) => Problem::decode(reply.status, &reply.body).write_outcome() == Outcome::Unknown,
        Err(Cause::Unreachable(_) | Cause::Invalid(_)) => false,
        Err(_) => true,
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let Some(value) = headers.get(RETRY_AFTER) else {
        return Duration::ZERO;
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .map_or(UNREADABLE_RETRY_AFTER, Duration::from_secs)
}

/// The last of an error's sources says what happened ("Connection refused"); those around it only where.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
