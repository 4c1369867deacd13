//! Many operations in one request: a line in, a line out, in order, each on its own.
//!
//! Lines are read, worked on and answered while the request is still coming; at most [`BATCH_WINDOW`] are in progress, so
//! neither the batch nor its results are ever in memory whole. A client must therefore read while it sends.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use annulus_coordinator::{Answer, Condition, KeyRequest, Mode, NewValue, Operation, Options, Reply, Request};
use annulus_ring::{Bucket, Key, MAX_KEY_BYTES};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header, request::Parts};
use http_body::Frame;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, value::RawValue};

use super::{buckets, kv, unexpected};
use crate::{
    activity::Phase,
    body::{Body, RequestBody, no_room},
    conditions::{self, Tags},
    gate::Held,
    limits::{BATCH_LINE_OVERHEAD, BATCH_WINDOW},
    parameters::{self, invalid},
    problem::{
        INVALID_BUCKET, INVALID_JSON, INVALID_KEY, INVALID_PARAMETER, Problem, UNSUPPORTED_CONTENT_TYPE,
        VALUE_TOO_LARGE,
    },
    response,
    route::Handled,
    server::{Connection, Service},
    siblings::{self, Sibling},
};

/// Base64 with padding or without: encoders differ, and neither is ambiguous.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Results that are ready leave together up to this many bytes.
const FRAME_BYTES: usize = 64 << 10;

/// `POST /v1/batch`.
pub(crate) async fn run<S: Service>(connection: &Rc<Connection<S>>, head: Parts, body: RequestBody) -> Handled {
    parameters::none(head.uri.query())?;
    buckets::accept_json(&head.headers)?;
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
    let request = match parse(&line, connection.server.limits.max_value_bytes) {
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

/// One operation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    op: Op,
    bucket: String,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    text: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    json: Option<&'l RawValue>,
    content_type: Option<String>,
    meta: Option<BTreeMap<String, String>>,
    context: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    r: Option<Value>,
    w: Option<Value>,
    sloppy: Option<bool>,
    durability: Option<String>,
    timeout: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Get,
    Delete,
}

/// `null` is a value here, not an absent member.
fn present<'de: 'l, 'l, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'l RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn parse(line: &[u8], max_value_bytes: usize) -> Result<KeyRequest, Problem> {
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|error| INVALID_JSON.because(format!("the line is no operation: {error}")))?;
    let bucket = Bucket::parse(&line.bucket).map_err(|error| {
        INVALID_BUCKET
            .because(error.to_string())
            .fact("bucket", line.bucket.as_str())
    })?;
    let key = line.key()?;
    let options = line.options()?;
    let operation = match line.op {
        Op::Get => {
            line.refuse_value("get")?;
            line.refuse_condition()?;
            Operation::Get
        }
        Op::Delete => {
            line.refuse_value("delete")?;
            let condition = line.condition()?;
            Operation::Write {
                value: None,
                token: line.context,
                condition,
            }
        }
        Op::Put => {
            let condition = line.condition()?;
            let token = line.context.clone();
            Operation::Write {
                value: Some(line.into_value(max_value_bytes)?),
                token,
                condition,
            }
        }
    };
    Ok(KeyRequest {
        bucket,
        key,
        operation,
        options,
    })
}

impl Line<'_> {
    fn key(&self) -> Result<Key, Problem> {
        let bytes = match (&self.key, &self.key_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(base64)) => decode("key_base64", base64)?,
            _ => return Err(INVALID_KEY.because("give either `key` or `key_base64`")),
        };
        Key::parse(bytes).map_err(|error| INVALID_KEY.because(error.to_string()).fact("limit", MAX_KEY_BYTES))
    }

    fn options(&self) -> Result<Options, Problem> {
        Ok(Options {
            r: self.r.as_ref().map(|value| buckets::level("r", value)).transpose()?,
            w: self.w.as_ref().map(|value| buckets::level("w", value)).transpose()?,
            mode: self
                .sloppy
                .map(|sloppy| if sloppy { Mode::Sloppy } else { Mode::Strict }),
            durability: self.durability.as_deref().map(parameters::durability).transpose()?,
            timeout: self.timeout.as_deref().map(parameters::timeout).transpose()?,
        })
    }

    fn condition(&self) -> Result<Option<Condition>, Problem> {
        let tags = |name, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => Tags::parse(text)
                .map(Some)
                .ok_or_else(|| invalid(name, "it must be `*` or entity tags")),
        };
        conditions::combine(
            tags("if_match", &self.if_match)?,
            tags("if_none_match", &self.if_none_match)?,
        )
    }

    fn refuse_condition(&self) -> Result<(), Problem> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Ok(()),
            _ => Err(INVALID_PARAMETER.because("a get in a batch takes no condition")),
        }
    }

    fn refuse_value(&self, op: &str) -> Result<(), Problem> {
        let present = [
            ("value", self.value.is_some()),
            ("text", self.text.is_some()),
            ("json", self.json.is_some()),
            ("content_type", self.content_type.is_some()),
            ("meta", self.meta.is_some()),
        ];
        match present.into_iter().find(|(_, present)| *present) {
            Some((name, _)) => Err(INVALID_PARAMETER
                .because(format!("{name}: a {op} takes no value"))
                .fact("parameter", name)),
            None => Ok(()),
        }
    }

    fn into_value(self, max_value_bytes: usize) -> Result<NewValue, Problem> {
        let meta = meta(self.meta.unwrap_or_default())?;
        let (value, default_type) = match (self.value, self.text, self.json) {
            (Some(base64), None, None) => (decode("value", &base64)?, None),
            (None, Some(text), None) => (text.into_bytes(), Some("text/plain; charset=utf-8")),
            (None, None, Some(json)) => (json.get().as_bytes().to_vec(), Some("application/json")),
            _ => return Err(INVALID_PARAMETER.because("a put takes one of `value`, `text` and `json`")),
        };
        if value.len() > max_value_bytes {
            let detail = format!("the value is longer than {max_value_bytes} bytes");
            return Err(VALUE_TOO_LARGE.because(detail).fact("limit", max_value_bytes));
        }
        if self
            .content_type
            .as_deref()
            .is_some_and(|text| !kv::is_content_type(text))
        {
            return Err(UNSUPPORTED_CONTENT_TYPE.because("content_type: it must be `type/subtype`"));
        }
        let content_type = self.content_type.or(default_type.map(str::to_owned));
        Ok(NewValue {
            value: value.into(),
            content_type,
            meta,
        })
    }
}

/// As the headers would have it: names that can be header names, values without control characters.
fn meta(meta: BTreeMap<String, String>) -> Result<Vec<(String, String)>, Problem> {
    let mut lowered = BTreeMap::new();
    for (name, value) in meta {
        let name = name.to_ascii_lowercase();
        let value = value.trim_matches([' ', '\t']).to_owned();
        if !kv::is_token(&name) || value.chars().any(|char| char.is_ascii_control() && char != '\t') {
            return Err(kv::bad_meta(&name, "it cannot be a header"));
        }
        if lowered.insert(name.clone(), value).is_some() {
            return Err(kv::bad_meta(&name, "it is given more than once"));
        }
    }
    let meta = Vec::from_iter(lowered);
    kv::check_meta_size(&meta)?;
    Ok(meta)
}

fn decode(name: &'static str, text: &str) -> Result<Vec<u8>, Problem> {
    BASE64
        .decode(text)
        .map_err(|error| invalid(name, &format!("it is not base64: {error}")))
}

/// The lines of a body, each within a bound.
struct Lines {
    body: RequestBody,
    buffer: BytesMut,
    /// Up to here there is no line feed in `buffer`.
    scanned: usize,
    max_line_bytes: usize,
    /// The line that is coming was refused already.
    skipping: bool,
    ended: bool,
}

impl Lines {
    fn new(body: RequestBody, max_line_bytes: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            scanned: 0,
            max_line_bytes,
            skipping: false,
            ended: false,
        }
    }

    /// The next line that says something; one that is too long is refused once, and the rest of it is skipped.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Problem>>> {
        loop {
            while let Some(line) = self.take_line() {
                let skipped = std::mem::take(&mut self.skipping);
                if line.len() > self.max_line_bytes && !skipped {
                    return Poll::Ready(Some(Err(self.too_long())));
                }
                if !skipped && !line.trim_ascii().is_empty() {
                    return Poll::Ready(Some(Ok(line)));
                }
            }
            if self.buffer.len() > self.max_line_bytes {
                self.buffer.clear();
                self.scanned = 0;
                if !std::mem::replace(&mut self.skipping, true) {
                    return Poll::Ready(Some(Err(self.too_long())));
                }
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.body.poll_data(cx)) {
                Ok(Some(data)) => self.buffer.extend_from_slice(&data),
                // A body that breaks off ends its batch; the connection is lost anyway.
                Ok(None) | Err(_) => self.ended = true,
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let found = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
        match found {
            Some(at) => {
                let line = self.buffer.split_to(self.scanned + at).freeze();
                self.buffer.advance(1);
                self.scanned = 0;
                Some(line)
            }
            None => {
                self.scanned = self.buffer.len();
                let last = self.ended && !self.buffer.is_empty();
                last.then(|| {
                    self.scanned = 0;
                    self.buffer.split().freeze()
                })
            }
        }
    }

    fn too_long(&self) -> Problem {
        let limit = self.max_line_bytes;
        VALUE_TOO_LARGE
            .because(format!("the line is longer than {limit} bytes"))
            .fact("limit", limit)
    }
}
