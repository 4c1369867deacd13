//! Every refusal and failure maps to one status and one problem type, here and nowhere else (RFC 9457).
//!
//! `docs/errors.md` has a row for each [`Kind`]; a test keeps the two in step.

use std::{borrow::Cow, fmt::Write as _, time::SystemTime};

use annulus_coordinator::{Failure, Outcome};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json};

use crate::{
    body::Body,
    response::{self, Response},
};

/// What kind of problem it is: its slug, its status and its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    slug: &'static str,
    status: StatusCode,
    title: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $slug:literal, $status:ident, $title:literal;)*) => {
        $(pub(crate) const $name: Kind = Kind { slug: $slug, status: StatusCode::$status, title: $title };)*
        /// Every kind there is.
        #[cfg(test)]
        const ALL: &[Kind] = &[$($name),*];
    };
}

kinds! {
    MALFORMED_REQUEST = "malformed-request", BAD_REQUEST, "The request is not well-formed HTTP";
    INVALID_KEY = "invalid-key", BAD_REQUEST, "The key is not valid";
    INVALID_BUCKET = "invalid-bucket", BAD_REQUEST, "The bucket's name is not valid";
    INVALID_PARAMETER = "invalid-parameter", BAD_REQUEST, "A parameter is not valid";
    UNKNOWN_PARAMETER = "unknown-parameter", BAD_REQUEST, "There is no such parameter here";
    INVALID_HEADER = "invalid-header", BAD_REQUEST, "A header is not valid";
    INVALID_CONTEXT = "invalid-context", BAD_REQUEST, "The Annulus-Context is not usable here";
    INVALID_SESSION = "invalid-session", BAD_REQUEST, "The Annulus-Session is not usable here";
    INVALID_JSON = "invalid-json", BAD_REQUEST, "The JSON is not what was expected";
    CROSS_SITE = "cross-site", FORBIDDEN, "Another site's page sent this";
    NO_SUCH_KEY = "no-such-key", NOT_FOUND, "The key holds no value";
    NO_SUCH_BUCKET = "no-such-bucket", NOT_FOUND, "The bucket was never declared";
    NO_SUCH_ROUTE = "no-such-route", NOT_FOUND, "Nothing is served at this path";
    METHOD_NOT_ALLOWED = "method-not-allowed", METHOD_NOT_ALLOWED, "The path does not take this method";
    BUCKET_HOLDS_KEYS = "bucket-holds-keys", CONFLICT, "The bucket holds keys";
    WRONG_OPERATION = "wrong-operation", BAD_REQUEST, "The bucket does not take this operation";
    LIMIT_REACHED = "limit-reached", CONFLICT, "The counter, set or map cannot grow";
    TOO_MANY_SIBLINGS = "too-many-siblings", CONFLICT, "The key has too many siblings";
    CONDITION_FAILED = "condition-failed", PRECONDITION_FAILED, "The condition does not hold";
    VALUE_TOO_LARGE = "value-too-large", PAYLOAD_TOO_LARGE, "The value is too large";
    URI_TOO_LONG = "uri-too-long", URI_TOO_LONG, "The request target is too long";
    UNSUPPORTED_CONTENT_TYPE = "unsupported-content-type", UNSUPPORTED_MEDIA_TYPE, "The content type is not readable";
    UNSUPPORTED_CONTENT_ENCODING = "unsupported-content-encoding", UNSUPPORTED_MEDIA_TYPE, "The body is encoded";
    UNSUPPORTED_EXPECTATION = "unsupported-expectation", EXPECTATION_FAILED, "The expectation cannot be met";
    HEADERS_TOO_LARGE = "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large";
    OVERLOADED = "overloaded", TOO_MANY_REQUESTS, "The node sheds load";
    DAMAGED_RECORD = "damaged-record", INTERNAL_SERVER_ERROR, "A stored record is damaged";
    UNEXPECTED_ANSWER = "unexpected-answer", INTERNAL_SERVER_ERROR, "The node gave an answer of another kind";
    NOT_IMPLEMENTED = "not-implemented", NOT_IMPLEMENTED, "This is not there yet";
    QUORUM_UNREACHABLE = "quorum-unreachable", SERVICE_UNAVAILABLE, "The quorum cannot be met";
    SESSION_BEHIND = "session-behind", SERVICE_UNAVAILABLE, "The session has seen what no replica knows yet";
    NOT_READY = "not-ready", SERVICE_UNAVAILABLE, "The node does not serve";
    STORAGE_UNAVAILABLE = "storage-unavailable", SERVICE_UNAVAILABLE, "The node cannot write";
    TOO_MANY_CONNECTIONS = "too-many-connections", SERVICE_UNAVAILABLE, "The node has too many connections";
    DEADLINE_PASSED = "deadline-passed", GATEWAY_TIMEOUT, "The deadline passed";
}

impl Kind {
    /// A problem of this kind.
    pub(crate) fn because(self, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            kind: self,
            detail: detail.into(),
            facts: Vec::new(),
            headers: Vec::new(),
        }
    }
}

/// A refusal or a failure, with its facts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    facts: Vec<(&'static str, Value)>,
    headers: Vec<(http::HeaderName, HeaderValue)>,
}

impl Problem {
    /// With one fact more.
    pub(crate) fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// With one header more.
    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn outcome(self, outcome: Outcome) -> Self {
        let outcome = match outcome {
            Outcome::None => "none",
            Outcome::Unknown => "unknown",
        };
        self.fact("outcome", outcome)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// Seconds after which trying again makes sense.
    fn retry_after(&self) -> Option<HeaderValue> {
        matches!(
            self.kind.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        )
        .then(|| HeaderValue::from_static("1"))
    }

    /// The response that says it.
    pub(crate) fn into_response(self) -> Response {
        let mut response = response::new(self.status(), Body::full(self.to_json()));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        headers.extend(self.headers);
        response
    }

    /// The same as the bytes of a whole HTTP/1.1 response that ends its connection: for refusals before there is a
    /// request.
    pub(crate) fn to_last_response(&self) -> Bytes {
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let date = httpdate::fmt_http_date(SystemTime::now());
        let body = self.to_json();
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\n",
            status.as_u16()
        );
        if self.retry_after().is_some() {
            head.push_str("retry-after: 1\r\n");
        }
        // Writing to a String cannot fail.
        let _ = write!(
            head,
            "content-length: {}\r\nconnection: close\r\ndate: {date}\r\n\r\n",
            body.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        bytes.into()
    }

    fn to_json(&self) -> Bytes {
        response::to_json(self)
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4 + self.facts.len()))?;
        map.serialize_entry("type", &format_args!("urn:annulus:problem:{}", self.kind.slug))?;
        map.serialize_entry("title", self.kind.title)?;
        map.serialize_entry("status", &self.kind.status.as_u16())?;
        map.serialize_entry("detail", &self.detail)?;
        for (name, value) in &self.facts {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let detail = failure.to_string();
        match failure {
            Failure::Invalid { parameter, .. } => INVALID_PARAMETER.because(detail).fact("parameter", parameter),
            Failure::InvalidContext { .. } => INVALID_CONTEXT.because(detail),
            Failure::InvalidSession { .. } => INVALID_SESSION.because(detail),
            Failure::SessionBehind {
                partition,
                missing,
                answered,
                n,
            } => {
                let advice = format!(
                    "{detail}; try again with this session, or begin a new one with `Annulus-Session: new`, which may be shown less"
                );
                SESSION_BEHIND
                    .because(advice)
                    .fact("partition", partition)
                    .fact("missing", missing)
                    .fact("answered", answered)
                    .fact("n", n)
                    .outcome(Outcome::None)
                    .header(response::REPLICAS, response::replicas(answered, n))
            }
            Failure::NoSuchBucket { bucket } => NO_SUCH_BUCKET.because(detail).fact("bucket", bucket),
            Failure::BucketHoldsKeys { bucket, .. } => BUCKET_HOLDS_KEYS.because(detail).fact("bucket", bucket),
            Failure::TooManySiblings { siblings, limit } => {
                let advice = format!("{detail}; read it, merge, and write with the token of that read");
                TOO_MANY_SIBLINGS
                    .because(advice)
                    .fact("siblings", siblings)
                    .fact("limit", limit)
            }
            Failure::WrongOperation { bucket, .. } => WRONG_OPERATION.because(detail).fact("bucket", bucket),
            Failure::LimitReached { .. } => LIMIT_REACHED.because(detail),
            Failure::ConditionFailed { etag } => condition_failed(etag),
            Failure::QuorumUnreachable {
                required,
                answered,
                n,
                outcome,
            } => QUORUM_UNREACHABLE
                .because(detail)
                .fact("required", required)
                .fact("answered", answered)
                .fact("n", n)
                .outcome(outcome)
                .header(response::REPLICAS, response::replicas(answered, n)),
            Failure::TimedOut {
                required,
                answered,
                outcome,
            } => DEADLINE_PASSED
                .because(detail)
                .fact("required", required)
                .fact("answered", answered)
                .outcome(outcome),
            Failure::StampBehind { .. } => NOT_READY.because(detail).outcome(Outcome::None),
            Failure::NotReady { reason } => NOT_READY.because(detail).fact("reason", reason).outcome(Outcome::None),
            Failure::StorageUnavailable { .. } => STORAGE_UNAVAILABLE.because(detail).outcome(Outcome::None),
            Failure::Overloaded { .. } => OVERLOADED.because(detail).outcome(Outcome::None),
            Failure::Damaged { .. } => DAMAGED_RECORD.because(detail),
        }
    }
}

/// `412`, with the entity tag that the key has instead.
pub(crate) fn condition_failed(etag: Option<u128>) -> Problem {
    let Some(etag) = etag else {
        return CONDITION_FAILED
            .because("the key holds no value")
            .fact("etag", Value::Null);
    };
    let etag = response::etag(etag);
    let text = String::from_utf8_lossy(etag.as_bytes()).into_owned();
    CONDITION_FAILED
        .because(format!("the key's entity tag is {text}"))
        .fact("etag", text)
        .header(header::ETAG, etag)
}

/// Bytes as JSON: text where they are UTF-8, else as `{"base64":"…"}`.
pub(crate) fn json_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row_in_the_error_catalogue() {
        let catalogue = include_str!("../../../docs/errors.md");
        for kind in ALL {
            let row = format!("| `{}` | `{}` |", kind.slug, kind.status.as_u16());
            assert!(catalogue.contains(&row), "docs/errors.md has no row {row}");
        }
        let rows = catalogue.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, ALL.len(), "docs/errors.md has rows that no problem has");
    }

    #[test]
    fn slugs_are_unique() {
        for (at, kind) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.slug != kind.slug), "{}", kind.slug);
        }
    }
}
