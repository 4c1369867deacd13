//! A client's request as a forward carries it to the key's coordinator.

use std::num::NonZeroI64;

use annulus_causality::{Change, DecodeError, Element, Field, Reader, put_bytes};
use annulus_coordinator::{Condition, KeyRequest, NewValue, Operation, Options, Seen};

use super::value::{Wire, fixed, wire_enum, wire_struct};
use crate::message::{RequestId, WriteIdentity};

wire_struct!(RequestId {
    origin,
    incarnation,
    number
});

wire_struct!(WriteIdentity {
    n,
    dot,
    modified,
    expires,
    voided
});

wire_struct!(KeyRequest {
    bucket,
    key,
    operation,
    options,
    seen
});

wire_struct!(Seen { n, dots });

wire_enum!(Operation {
    0 => Get,
    1 => Write { value, token, condition },
    2 => Change { change, token },
});

wire_enum!(Change {
    0 => Increment(by),
    1 => Add(element),
    2 => Remove(element),
    3 => Set { field, value, content_type },
    4 => Unset(field),
});

impl Wire for Element {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_bytes().put(out);
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        Self::parse(reader.bytes(what)?).ok_or_else(|| reader.malformed(what))
    }
}

impl Wire for Field {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_str().as_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        Self::parse(reader.string(what)?).ok_or_else(|| reader.malformed(what))
    }
}

/// What is added to a counter: all eight bytes, as a varint would only lengthen what is negative.
impl Wire for NonZeroI64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.get().to_le_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        Self::new(i64::from_le_bytes(fixed(reader, what)?)).ok_or_else(|| reader.malformed(what))
    }
}

wire_struct!(NewValue {
    value,
    content_type,
    meta
});

wire_enum!(Condition {
    0 => Match(tags),
    1 => Exists,
    2 => Absent,
});

wire_struct!(Options {
    r,
    w,
    mode,
    durability,
    timeout
});
