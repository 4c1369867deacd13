//! A bucket's declaration as JSON: what is not understood is refused by name, and what is shown can be sent back.

use std::{rc::Rc, time::Duration};

use annulus_causality::ConflictPolicy;
use annulus_coordinator::{Answer, BucketConfig, BucketSpec, Durability, Level, Mode, Request};
use annulus_ring::Bucket;
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{kv::unreadable_content_type, unexpected};
use crate::{
    body::{Body, RequestBody},
    limits::MAX_DECLARATION_BYTES,
    parameters::{self, invalid},
    problem::{INVALID_JSON, Problem, UNKNOWN_PARAMETER},
    response,
    route::{Handled, Verb},
    server::{Connection, Service},
};

/// The members of a declaration.
const MEMBERS: &str = "n, r, w, sloppy, durability, conflicts, ttl, max_siblings";

/// `GET /v1/buckets`.
pub(crate) async fn all<S: Service>(connection: &Rc<Connection<S>>, head: Parts) -> Handled {
    parameters::none(head.uri.query())?;
    match connection.server.service.call(Request::ListBuckets).await? {
        Answer::Buckets(buckets) => {
            #[derive(Serialize)]
            struct Buckets<'b> {
                buckets: Vec<BucketJson<'b>>,
            }
            let buckets = buckets
                .iter()
                .map(|(bucket, config)| BucketJson::new(bucket, config))
                .collect();
            Ok(response::json(StatusCode::OK, &Buckets { buckets }))
        }
        _ => Err(unexpected()),
    }
}

/// `PUT`, `GET` and `DELETE /v1/buckets/{bucket}`.
pub(crate) async fn one<S: Service>(
    connection: &Rc<Connection<S>>,
    bucket: Bucket,
    verb: Verb,
    head: Parts,
    body: RequestBody,
) -> Handled {
    parameters::none(head.uri.query())?;
    let request = match verb {
        Verb::Put => {
            accept_json(&head.headers)?;
            let (body, _held) = body.read(MAX_DECLARATION_BYTES, &connection.server.gate).await?;
            let spec = parse(&bucket, &body)?;
            Request::DeclareBucket(bucket, spec)
        }
        Verb::Delete => Request::DropBucket(bucket),
        _ => Request::GetBucket(bucket),
    };
    match connection.server.service.call(request).await? {
        Answer::Bucket(bucket, config) => Ok(response::json(StatusCode::OK, &BucketJson::new(&bucket, &config))),
        Answer::Dropped => Ok(response::new(StatusCode::NO_CONTENT, Body::empty())),
        _ => Err(unexpected()),
    }
}

/// JSON by any of its names, and what clients send when they are told nothing (curl calls it a form).
pub(crate) fn accept_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().map_err(|_| unreadable_content_type())?;
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let generic = [
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ];
    let json = ["json", "json-seq", "jsonl", "jsonlines"];
    let is_json = essence.split_once('/').is_some_and(|(_, subtype)| {
        subtype
            .split(['+', '-'])
            .any(|part| part == "ndjson" || json.contains(&part))
    });
    if is_json || generic.contains(&essence.as_str()) {
        Ok(())
    } else {
        Err(not_json(text))
    }
}

fn not_json(text: &str) -> Problem {
    crate::problem::UNSUPPORTED_CONTENT_TYPE.because(format!("the body must be JSON, and it is called {text}"))
}

fn parse(bucket: &Bucket, body: &[u8]) -> Result<BucketSpec, Problem> {
    let members: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| INVALID_JSON.because(format!("a JSON object was expected: {error}")))?;
    let mut spec = BucketSpec::default();
    for (name, value) in &members {
        // `null` is what is absent.
        if !value.is_null() || !is_member(name) {
            set(&mut spec, bucket, name, value)?;
        }
    }
    Ok(spec)
}

fn is_member(name: &str) -> bool {
    name == "bucket" || MEMBERS.split(", ").any(|member| member == name)
}

fn set(spec: &mut BucketSpec, bucket: &Bucket, name: &str, value: &Value) -> Result<(), Problem> {
    match name {
        "n" => spec.n = Some(number("n", value, 1..=u8::MAX.into())? as u8),
        "r" => spec.r = Some(level("r", value)?),
        "w" => spec.w = Some(level("w", value)?),
        "sloppy" => spec.mode = Some(sloppy(value)?),
        "durability" => spec.durability = Some(parameters::durability(text("durability", value)?)?),
        "conflicts" => spec.conflicts = Some(conflicts(text("conflicts", value)?)?),
        "ttl" => spec.ttl = Some(ttl(text("ttl", value)?)?),
        "max_siblings" => spec.max_siblings = Some(number("max_siblings", value, 1..=1024)? as u16),
        // So that what GET shows can be PUT.
        "bucket" if value == bucket.as_str() => {}
        "bucket" => return Err(invalid("bucket", "it must be the bucket of the path")),
        _ => {
            let detail = format!("a declaration has no member {name:?}; it has {MEMBERS}");
            return Err(UNKNOWN_PARAMETER.because(detail).fact("parameter", name));
        }
    }
    Ok(())
}

fn number(name: &'static str, value: &Value, range: std::ops::RangeInclusive<u64>) -> Result<u64, Problem> {
    let number = value.as_u64().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        invalid(
            name,
            &format!("it must be a number from {} to {}", range.start(), range.end()),
        )
    })
}

fn text<'v>(name: &'static str, value: &'v Value) -> Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| invalid(name, "it must be a string"))
}

/// A number, or one of the words as a string.
pub(crate) fn level(name: &'static str, value: &Value) -> Result<Level, Problem> {
    match value {
        Value::Number(number) => parameters::level(name, &number.to_string()),
        Value::String(text) => parameters::level(name, text),
        _ => parameters::level(name, ""),
    }
}

fn sloppy(value: &Value) -> Result<Mode, Problem> {
    match value {
        Value::Bool(true) => Ok(Mode::Sloppy),
        Value::Bool(false) => Ok(Mode::Strict),
        _ => Err(invalid("sloppy", "it must be true or false")),
    }
}

fn conflicts(text: &str) -> Result<ConflictPolicy, Problem> {
    match text {
        "siblings" => Ok(ConflictPolicy::Siblings),
        "lww" => Ok(ConflictPolicy::LastWriteWins),
        "counter" => Ok(ConflictPolicy::Counter),
        "set" => Ok(ConflictPolicy::Set),
        "map" => Ok(ConflictPolicy::Map),
        _ => Err(invalid(
            "conflicts",
            "it must be `siblings`, `lww`, `counter`, `set` or `map`",
        )),
    }
}

fn ttl(text: &str) -> Result<Duration, Problem> {
    const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_millis(1) && ttl <= LONGEST => Ok(ttl),
        Ok(_) => Err(invalid("ttl", "it must be from 1ms to 100 years")),
        Err(_) => Err(invalid("ttl", "it must be a duration such as `24h` or `90s`")),
    }
}

/// A bucket with its configuration.
#[derive(Serialize)]
struct BucketJson<'b> {
    bucket: &'b str,
    n: u8,
    r: Value,
    w: Value,
    sloppy: bool,
    durability: &'static str,
    conflicts: &'static str,
    ttl: Option<String>,
    max_siblings: u16,
}

impl<'b> BucketJson<'b> {
    fn new(bucket: &'b Bucket, config: &BucketConfig) -> Self {
        Self {
            bucket: bucket.as_str(),
            n: config.n,
            r: level_json(config.r),
            w: level_json(config.w),
            sloppy: config.mode == Mode::Sloppy,
            durability: match config.durability {
                Durability::Disk => "disk",
                Durability::Memory => "memory",
            },
            conflicts: match config.conflicts {
                ConflictPolicy::Siblings => "siblings",
                ConflictPolicy::LastWriteWins => "lww",
                ConflictPolicy::Counter => "counter",
                ConflictPolicy::Set => "set",
                ConflictPolicy::Map => "map",
            },
            ttl: config.ttl.map(duration_text),
            max_siblings: config.max_siblings,
        }
    }
}

fn level_json(level: Level) -> Value {
    match level {
        Level::Count(count) => count.into(),
        Level::One => "one".into(),
        Level::Quorum => "quorum".into(),
        Level::All => "all".into(),
    }
}

/// In the largest unit up to hours that leaves no rest, so that `24h` stays `24h`.
fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, name) = [(3_600_000, "h"), (60_000, "m"), (1000, "s")]
        .into_iter()
        .find(|(unit, _)| millis.is_multiple_of(*unit))
        .unwrap_or((1, "ms"));
    format!("{}{name}", millis / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_as_people_write_it() {
        for text in ["24h", "90s", "1500ms", "1m", "1h", "100m"] {
            assert_eq!(
                duration_text(humantime::parse_duration(text).expect("a duration")),
                text
            );
        }
    }
}
