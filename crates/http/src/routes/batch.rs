//! Many operations in one request: a line in, a line out, in order, each on its own.
//!
//! Lines are read, worked on and answered while the request is still coming; at most [`BATCH_WINDOW`] are in progress, so
//! neither the batch nor its results are ever in memory whole. A client must therefore read while it sends.

mod lines;
mod operation;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use annulus_coordinator::{Answer, Reply, Request};
use annulus_ring::{Bucket, Key};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header, request::Parts};
use http_body::Frame;
use serde::Serialize;

use self::lines::Lines;
use super::{buckets, kv, unexpected};
use crate::{
    activity::Phase,
    body::{Body, RequestBody, no_room},
    gate::{Entered, Held},
    limits::{BATCH_LINE_OVERHEAD, BATCH_WINDOW},
    parameters,
    problem::Problem,
    response,
    route::Handled,
    server::{Connection, Service},
    siblings::{self, Sibling},
};

/// Results that are ready leave together up to this many bytes.
const FRAME_BYTES: usize = 64 << 10;

/// `POST /v1/batch`.
pub(crate) async fn run<S: Service>(
    connection: &Rc<Connection<S>>,
    head: Parts,
    body: RequestBody,
    entered: Entered,
) -> Handled {
    parameters::none(head.uri.query())?;
    buckets::accept_json(&head.headers)?;
    kv::refuse_session(&head.headers)?;
    drop(head);
    let max_value_bytes = connection.server.limits.max_value_bytes;
    let mut lines = Lines::new(body, max_value_bytes.div_ceil(3) * 4 + BATCH_LINE_OVERHEAD);
    connection.activity.enter(Phase::Stream);
    // Before the response begins: once it has, hyper no longer sends `100 Continue`, for which some clients wait.
    let first = std::future::poll_fn(|cx| lines.poll_next(cx)).await;
    let batch = Batch {
        connection: Rc::clone(connection),
        ended: first.is_none(),
        lines,
        window: first.into_iter().map(|line| start(connection, line)).collect(),
        _entered: entered,
    };
    let mut response = response::new(StatusCode::OK, Body::Stream(Box::pin(batch)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// A batch in progress; as a body, its results.
struct Batch<S> {
    connection: Rc<Connection<S>>,
    lines: Lines,
    ended: bool,
    window: VecDeque<Slot>,
    /// It counts as one request for as long as it lasts.
    _entered: Entered,
}

/// A line that is worked on, or its result that waits for those before it.
enum Slot {
    Running(Pin<Box<dyn Future<Output = Bytes>>>),
    Done(Bytes),
}

impl Slot {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Slot::Running(future) = self
            && let Poll::Ready(result) = future.as_mut().poll(cx)
        {
            *self = Slot::Done(result);
        }
    }
}

impl<S: Service> http_body::Body for Batch<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let batch = self.get_mut();
        batch.window.iter_mut().for_each(|slot| slot.poll(cx));
        batch.fill(cx);
        if let Some(results) = batch.take_results() {
            return Poll::Ready(Some(Ok(Frame::data(results))));
        }
        let activity = &batch.connection.activity;
        if batch.ended && batch.window.is_empty() {
            activity.enter(Phase::Answering);
            return Poll::Ready(None);
        }
        // What the node takes is the node's to bound; what the client takes is bounded here.
        let phase = if batch.window.is_empty() {
            Phase::Stream
        } else {
            Phase::Working
        };
        if activity.phase() != phase {
            activity.enter(phase);
        }
        Poll::Pending
    }
}

impl<S: Service> Batch<S> {
    /// Takes lines as long as there are some and the window has room.
    fn fill(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.window.len() < BATCH_WINDOW {
            match self.lines.poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.ended = true,
                Poll::Ready(Some(line)) => {
                    let mut slot = start(&self.connection, line);
                    slot.poll(cx);
                    self.window.push_back(slot);
                }
            }
        }
    }

    /// The results that are next in order, if any.
    fn take_results(&mut self) -> Option<Bytes> {
        let mut results = BytesMut::new();
        while results.len() < FRAME_BYTES
            && let Some(Slot::Done(_)) = self.window.front()
            && let Some(Slot::Done(result)) = self.window.pop_front()
        {
            if results.is_empty() && !matches!(self.window.front(), Some(Slot::Done(_))) {
                return Some(result);
            }
            results.extend_from_slice(&result);
        }
        (!results.is_empty()).then(|| results.freeze())
    }
}

/// Begins with a line, if there is room for it.
fn start<S: Service>(connection: &Rc<Connection<S>>, line: Result<Bytes, Problem>) -> Slot {
    let held = |line: Bytes| {
        connection
            .server
            .gate
            .hold(line.len())
            .map(|held| (line, held))
            .ok_or_else(no_room)
    };
    match line.and_then(held) {
        Ok((line, held)) => Slot::Running(Box::pin(work(Rc::clone(connection), line, held))),
        Err(problem) => Slot::Done(refusal(&problem)),
    }
}

async fn work<S: Service>(connection: Rc<Connection<S>>, line: Bytes, _held: Held) -> Bytes {
    let request = match operation::parse(&line, connection.server.limits.max_value_bytes) {
        Ok(request) => request,
        Err(problem) => return refusal(&problem),
    };
    drop(line);
    let address = (request.bucket.clone(), request.key.clone());
    let reply = connection.server.service.call(Request::Key(request)).await;
    result(reply, &address)
}

/// One result, without what does not apply.
#[derive(Default, Serialize)]
struct ResultLine<'r> {
    status: u16,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    value: Option<Sibling<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    siblings: Option<Vec<Sibling<'r>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'r Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'r str>,
}

impl ResultLine<'_> {
    fn to_bytes(&self) -> Bytes {
        let mut line = Vec::from(response::to_json(self));
        line.push(b'\n');
        line.into()
    }
}

fn refusal(problem: &Problem) -> Bytes {
    ResultLine {
        status: problem.status().as_u16(),
        problem: Some(problem),
        ..ResultLine::default()
    }
    .to_bytes()
}

fn result(reply: Reply, (bucket, key): &(Bucket, Key)) -> Bytes {
    match reply {
        Ok(Answer::Written(written)) => ResultLine {
            status: 204,
            context: Some(&written.token),
            ..ResultLine::default()
        }
        .to_bytes(),
        Ok(Answer::Found(found)) => {
            let context = Some(found.token.as_str());
            match &found.versions[..] {
                [] => {
                    let problem = kv::no_such_key(bucket, key);
                    ResultLine {
                        status: 404,
                        problem: Some(&problem),
                        context,
                        ..ResultLine::default()
                    }
                    .to_bytes()
                }
                [version] => {
                    let value = Some(Sibling::from(version));
                    ResultLine {
                        status: 200,
                        value,
                        context,
                        ..ResultLine::default()
                    }
                    .to_bytes()
                }
                versions => {
                    let siblings = Some(siblings::list(versions));
                    ResultLine {
                        status: 300,
                        siblings,
                        context,
                        ..ResultLine::default()
                    }
                    .to_bytes()
                }
            }
        }
        Ok(_) => refusal(&unexpected()),
        Err(failure) => refusal(&failure.into()),
    }
}
