//! What owners say to each other of one key: deltas, what they know, and why they refuse.

use super::value::{wire_enum, wire_struct};
use crate::message::{Delta, HintOffer, Known, Refusal, WireKey};

wire_struct!(WireKey { n, bucket, key });

wire_struct!(Delta { at, dots, object });

wire_struct!(HintOffer {
    sequence,
    at,
    dots,
    live,
    context
});

wire_enum!(Refusal {
    0 => Storage,
    1 => Damaged,
    2 => Overloaded,
    3 => NotOwner,
    4 => Expired,
    5 => InDoubt,
});

wire_enum!(Known {
    0 => Same,
    1 => Object(object),
});
