//! Before the first message both sides know who speaks and in which version, or each knows why not.
//!
//! The dialler sends [`MAGIC`] and a frame with its [`Hello`]; the acceptor answers with [`MAGIC`] and a frame with its
//! own, or with why it refuses, and closes. From then on the dialler only sends and the acceptor only receives.
//!
//! This part is the same in every version, or versions could not tell each other apart: a tag, then the fields, and what
//! a later version appends behind them is ignored.

use annulus_causality::{DecodeError, Reader, put_bytes, put_u8};
use annulus_membership::Hello;
use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{FrameError, FrameReader, MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES, append_frame_within};

/// What every connection between nodes begins with, both ways.
pub const MAGIC: [u8; 8] = *b"ANNULUS\0";

/// The oldest version of the protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 3;

/// The newest version of the protocol that this build speaks.
pub const PROTOCOL_MAX: u16 = 3;

/// The longest reason of a refusal, in bytes; what is longer is cut.
pub const MAX_REASON_BYTES: usize = 512;

const HELLO: u8 = 0;
const REFUSED: u8 = 1;

/// Why a node does not talk to another, in words for the operator of either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    reason: String,
}

impl Refused {
    /// A refusal. The reason is one line of at most [`MAX_REASON_BYTES`]: control characters become spaces, as it is
    /// logged by a node that need not trust this one.
    pub fn new(reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        // A space is never longer than what it replaces.
        Self {
            reason: reason.replace(char::is_control, " "),
        }
    }

    /// The reason, one line.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The newest version that both speak.
///
/// # Errors
/// [`Refused`] where there is none: for the acceptor to send, and for the dialler to log.
pub fn negotiate(mine: &Hello, theirs: &Hello) -> Result<u16, Refused> {
    let newest = mine.protocol_max.min(theirs.protocol_max);
    let oldest = mine.protocol_min.max(theirs.protocol_min);
    if oldest <= newest {
        return Ok(newest);
    }
    Err(Refused::new(format!(
        "no common version of the protocol: {} speaks {} to {}, {} speaks {} to {}; upgrade the older one",
        mine.record.member.name,
        mine.protocol_min,
        mine.protocol_max,
        theirs.record.member.name,
        theirs.protocol_min,
        theirs.protocol_max,
    )))
}

/// What a side of a connection says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Who it is.
    Hello(Hello),
    /// The acceptor's answer where it will not talk; it closes then.
    Refused(Refused),
}

impl Opening {
    /// Appends [`MAGIC`] and the frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] where the other side would refuse the frame; `out` is then as it was before.
    pub fn append(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        append_frame_within(MAX_HANDSHAKE_BYTES, out, |payload| self.encode(payload))
            .inspect_err(|_| out.truncate(start))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => {
                put_u8(out, HELLO);
                hello.encode(out);
            }
            Self::Refused(refused) => {
                put_u8(out, REFUSED);
                put_bytes(out, refused.reason.as_bytes());
            }
        }
    }

    fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        match reader.u8("opening")? {
            HELLO => Hello::decode(&mut reader).map(Self::Hello),
            REFUSED => Ok(Self::Refused(Refused::new(reader.string("reason")?))),
            _ => Err(reader.malformed("opening")),
        }
    }
}

/// Why what came is no opening; the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It does not begin with [`MAGIC`].
    #[error("this is no annulus node: it begins with \"{}\"", .got.escape_ascii())]
    Magic {
        /// The first bytes that came, at most as many as [`MAGIC`] has.
        got: Bytes,
    },
    /// The frame is too large or damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame is neither a hello nor a refusal.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Reads the other side's opening, and then becomes the reader of what follows.
#[derive(Debug)]
pub struct Handshake {
    frames: FrameReader,
    greeted: bool,
}

impl Handshake {
    /// Nothing was read.
    pub fn new() -> Self {
        Self {
            frames: FrameReader::new(MAX_HANDSHAKE_BYTES),
            greeted: false,
        }
    }

    /// Where to append what the socket gives.
    pub fn space(&mut self) -> &mut BytesMut {
        self.frames.space()
    }

    /// The opening; nothing where more bytes are needed.
    ///
    /// # Errors
    /// [`HandshakeError`], with the first byte that is wrong: a stranger is not waited for.
    pub fn opening(&mut self) -> Result<Option<Opening>, HandshakeError> {
        if !self.greeted && !self.greet()? {
            return Ok(None);
        }
        match self.frames.next_frame()? {
            Some(payload) => Ok(Some(Opening::decode(payload)?)),
            None => Ok(None),
        }
    }

    /// Takes the magic; false where more bytes are needed.
    fn greet(&mut self) -> Result<bool, HandshakeError> {
        let buffer = self.frames.buffer_mut();
        let came = &buffer[..buffer.len().min(MAGIC.len())];
        if !MAGIC.starts_with(came) {
            return Err(HandshakeError::Magic {
                got: Bytes::copy_from_slice(came),
            });
        }
        self.greeted = came.len() == MAGIC.len();
        if self.greeted {
            buffer.advance(MAGIC.len());
        }
        Ok(self.greeted)
    }

    /// The reader of the messages, which may have begun to come already.
    pub fn into_frames(self) -> FrameReader {
        self.frames.with_limit(MAX_FRAME_BYTES)
    }
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}
