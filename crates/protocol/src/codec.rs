//! A message has one encoding: a tag, then its fields in the order of their declaration, and nothing after them.
//!
//! Each type's layout is written once, as a list of its fields, and gives both directions: what is encoded is what is
//! decoded. Fields are appended straight to the link's output; byte strings that are read are slices of the frame.

mod catch_up;
mod closing;
mod cluster;
mod replica;
mod reply;
mod request;
mod value;

use annulus_causality::{DecodeError, Reader};
use bytes::Bytes;

use crate::message::Message;
use value::{Tagged, Wire};

/// Why a frame is not a message. The link it came on is to be closed: what follows cannot be trusted either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The first byte names no message that this version of the protocol has.
    #[error("unknown message tag {tag}")]
    UnknownTag {
        /// The byte.
        tag: u8,
    },
    /// The fields are truncated or malformed, or bytes follow the last one.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

impl Message {
    /// Appends the encoding: a tag byte, then the fields.
    ///
    /// An answer to a forward that is none about a key (which no node gives) goes out as [`Failure::NotReady`].
    ///
    /// [`Failure::NotReady`]: annulus_coordinator::Failure::NotReady
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    /// Reads what [`Message::encode`] wrote. Values and keys share the frame's memory, and that of the frames that came
    /// with it: who keeps a small one for long copies it.
    ///
    /// # Errors
    /// [`MessageError`] where the bytes are no message, or more than one. What was allocated for them by then is at most
    /// a small multiple of their number.
    pub fn decode(frame: Bytes) -> Result<Self, MessageError> {
        let tag = frame.first().copied();
        let mut reader = Reader::new(frame);
        let message = Self::read(&mut reader, "message").map_err(|error| match tag {
            Some(tag) if !Self::VARIANTS.iter().any(|&(known, _)| known == tag) => MessageError::UnknownTag { tag },
            _ => MessageError::Malformed(error),
        })?;
        reader.finish("message")?;
        Ok(message)
    }

    /// The variant's name, for logs and metrics.
    pub fn kind(&self) -> &'static str {
        self.variant()
    }

    /// The names of all kinds with the tags that open them, ascending. A tag is never given to another kind.
    pub fn kinds() -> &'static [(u8, &'static str)] {
        Self::VARIANTS
    }
}

value::wire_enum!(Message {
    1 => Gossip(gossip),
    2 => Ring(ring),
    3 => Buckets(records),
    4 => Declare { request, record },
    5 => Declared { request },
    6 => Write { request, deadline, durability, hint_for, delta },
    7 => WriteDone { request, result },
    8 => Read { request, deadline, at, digest, hints },
    9 => ReadDone { request, result },
    10 => Forward { id, attempt, start_by, deadline, identity, request },
    11 => Forwarded { number, attempt, reply },
    12 => List { request, deadline, bucket, prefix, start, limit },
    13 => Listed { request, result },
    14 => HintsWait { offers },
    15 => HintsWanted { sequences },
    16 => Hint { sequence, delta },
    17 => HintTaken { sequence },
    18 => ClockHashes { durable, wall_millis, ranges },
    19 => Clocks { answer, clocks },
    20 => CatchUp { request, wants },
    21 => CaughtUp { request, caught },
    22 => Closing { below, ballot, step },
});
