//! `POST /v1/kv/{bucket}/{key}?op=`: one operation on a counter, a set or a map, whole and in words that its type knows.

use std::borrow::Cow;
use std::num::NonZeroI64;
use std::rc::Rc;

use annulus_causality::{Change, Element, Field, MAX_ELEMENT_BYTES, MAX_FIELD_BYTES};
use annulus_coordinator::Operation;
use annulus_ring::{Bucket, Key};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};

use super::kv;
use crate::{
    body::RequestBody,
    parameters::{self, invalid},
    problem::{INVALID_HEADER, Problem},
    route::Handled,
    server::{Connection, Service},
};

/// What an operation is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Increment,
    Add,
    Remove,
    Set,
    Unset,
}

/// An operation as it is asked for: what belongs to another one is refused.
pub(crate) struct Asked<'a> {
    pub(crate) op: Op,
    pub(crate) by: Option<Cow<'a, str>>,
    pub(crate) field: Option<String>,
    /// The element, or the field's value.
    pub(crate) value: Option<Bytes>,
    pub(crate) content_type: Option<String>,
}

impl Op {
    fn parse(text: &str) -> Option<Op> {
        match text {
            "increment" => Some(Op::Increment),
            "add" => Some(Op::Add),
            "remove" => Some(Op::Remove),
            "set" => Some(Op::Set),
            "unset" => Some(Op::Unset),
            _ => None,
        }
    }

    /// Whether it brings an element or a value.
    pub(crate) fn takes_value(self) -> bool {
        matches!(self, Op::Add | Op::Remove | Op::Set)
    }
}

impl Asked<'_> {
    /// The change, if it is one.
    pub(crate) fn into_change(self) -> Result<Change, Problem> {
        if self.by.is_some() && self.op != Op::Increment {
            return Err(invalid("by", "only op=increment takes it"));
        }
        if self.field.is_some() && !matches!(self.op, Op::Set | Op::Unset) {
            return Err(invalid("field", "only op=set and op=unset take it"));
        }
        let value = match (self.value, self.op.takes_value()) {
            (Some(value), true) => value,
            (None, false) => Bytes::new(),
            (Some(_), false) => return Err(invalid("op", "it takes no body: op=increment has its amount in `by`")),
            (None, true) => return Err(invalid("op", "it takes an element or a value")),
        };
        let element = |value| {
            let limits = format!("an element has 1 to {MAX_ELEMENT_BYTES} bytes");
            Element::parse(value).ok_or_else(|| invalid("op", &limits))
        };
        let field = |name: Option<String>| {
            let limits = format!("it must be the name of a field, of 1 to {MAX_FIELD_BYTES} bytes");
            name.and_then(Field::parse).ok_or_else(|| invalid("field", &limits))
        };
        Ok(match self.op {
            Op::Increment => Change::Increment(amount(self.by.as_deref().unwrap_or("1"))?),
            Op::Add => Change::Add(element(value)?),
            Op::Remove => Change::Remove(element(value)?),
            Op::Set => Change::Set {
                field: field(self.field)?,
                value,
                content_type: self.content_type,
            },
            Op::Unset => Change::Unset(field(self.field)?),
        })
    }
}

/// A whole number that is not zero.
fn amount(text: &str) -> Result<NonZeroI64, Problem> {
    text.parse().map_err(|_| {
        invalid(
            "by",
            "it must be a whole number of 64 bits, with its sign, and not zero",
        )
    })
}

/// POST.
pub(crate) async fn post<S: Service>(
    connection: &Rc<Connection<S>>,
    bucket: Bucket,
    key: Key,
    head: Parts,
    body: RequestBody,
) -> Handled {
    let query = head.uri.query();
    let (options, [op, by, field]) = parameters::options_and(query, ["op", "by", "field"])?;
    let op = op
        .as_deref()
        .and_then(|op| Op::parse(std::str::from_utf8(op).ok()?))
        .ok_or_else(|| {
            let ops = "it must be `increment` (a counter), `add` or `remove` (a set), `set` or `unset` (a map)";
            invalid("op", ops)
        })?;
    let text = |name, value: Option<Cow<'_, [u8]>>| {
        value
            .map(|value| parameters::text(name, &value).map(Cow::into_owned))
            .transpose()
    };
    let (by, field) = (text("by", by)?.map(Cow::Owned), text("field", field)?);
    refuse_headers(&head.headers)?;
    let token = kv::context(&head.headers)?;
    let session = kv::Session::of(&head.headers)?;
    let content_type = kv::content_type(&head.headers)?;
    drop(head);
    let server = &connection.server;
    let limit = match op {
        Op::Set => server.limits.max_value_bytes,
        _ => MAX_ELEMENT_BYTES.min(server.limits.max_value_bytes),
    };
    let (value, _held) = body.read(limit, &server.gate).await?;
    let asked = Asked {
        op,
        by,
        field,
        value: (op.takes_value() || !value.is_empty()).then_some(value),
        content_type,
    };
    let change = asked.into_change()?;
    kv::write(
        connection,
        bucket,
        key,
        Operation::Change { change, token },
        (options, session),
    )
    .await
}

/// What an operation would silently not do.
fn refuse_headers(headers: &HeaderMap) -> Result<(), Problem> {
    for condition in [header::IF_MATCH, header::IF_NONE_MATCH] {
        if headers.contains_key(&condition) {
            let detail = format!("{condition}: an operation takes no condition; it needs none to be safe");
            return Err(INVALID_HEADER.because(detail).fact("header", condition.as_str()));
        }
    }
    kv::refuse_encoding(headers)?;
    match kv::meta(headers)?.first() {
        Some((name, _)) => Err(kv::bad_meta(name, "only a value that is PUT has metadata")),
        None => Ok(()),
    }
}
