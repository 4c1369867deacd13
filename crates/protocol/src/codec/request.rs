//! A client's request as a forward carries it to the key's coordinator.

use annulus_coordinator::{Condition, KeyRequest, NewValue, Operation, Options, Seen};

use super::value::{wire_enum, wire_struct};
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
});

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
