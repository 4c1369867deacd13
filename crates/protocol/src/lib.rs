//! What nodes say to each other: nothing is believed before its length, its checksum and its form were checked.
//!
//! - [`Hello`] opens a connection: the two agree on a version, or one tells the other why not ([`Refused`]).
//! - A connection carries messages one way. Each node dials every other: after the handshake the dialler only sends and
//!   the acceptor only receives on it, so a node's answers leave by the connection that it dialled itself.
//! - Every [`Message`] is one frame; frames that wait together are written together.
//!
//! This crate is pure: bytes in, values out, and back. A change of an encoding shows in `tests/golden`, and takes a new
//! version of the protocol.
//!
//! [`Hello`]: annulus_membership::Hello

mod catch_up;
mod closing;
mod codec;
mod frame;
mod handshake;
mod message;

pub use catch_up::{Caught, CaughtObject, CaughtPart, ClockRange, PartitionClock, SUB_RANGES, StreamWant, Want};
pub use closing::{ClosingStep, PartitionDots};
pub use codec::MessageError;
pub use frame::{FRAME_HEADER_BYTES, FrameError, FrameReader, MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES, append_frame};
pub use handshake::{
    Handshake, HandshakeError, MAGIC, MAX_REASON_BYTES, Opening, PROTOCOL_MAX, PROTOCOL_MIN, Refused, negotiate,
};
pub use message::{BucketRecord, Delta, HintOffer, Known, Message, Refusal, RequestId, WireKey, WriteIdentity};
