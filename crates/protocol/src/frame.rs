//! A frame arrives whole and undamaged or not at all, and a length costs no memory before its bytes have come.
//!
//! Length of the payload, checksum of these four bytes, checksum of the payload (`u32` each, little-endian), payload. The length
//! has a checksum of its own, as a reader that believed a damaged one would wait for bytes that never come, and take all that follows
//! for them, while the sender sees a healthy connection. A checksum is the low half of `xxh3_64`: TCP's own sum lets one damaged segment in some tens of millions pass, and a value must not
//! change on its way from disk to disk.

use bytes::{Buf, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

/// The longest payload: an object of 64 siblings (the default bound) of 1 MiB (the default bound) fits twice.
pub const MAX_FRAME_BYTES: u32 = 128 << 20;

/// The longest payload before it is known who is speaking.
pub const MAX_HANDSHAKE_BYTES: u32 = 4 << 10;

/// What a frame adds to its payload.
pub const FRAME_HEADER_BYTES: usize = 12;

/// Room that is made for reading: many small frames come in one system call, and are slices of one block.
const BLOCK_BYTES: usize = 64 << 10;

/// With less room than this the next block is begun.
const LEAST_ROOM_BYTES: usize = 4 << 10;

/// Why bytes are no frame, or cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload is longer than is allowed here.
    #[error("a frame of {length} bytes is longer than the {limit} allowed")]
    TooLarge {
        /// The payload's length, in bytes.
        length: u64,
        /// The longest that is allowed.
        limit: u32,
    },
    /// The length or the payload is not what was sent.
    #[error("a frame's checksum is {expected:08x}, and that of what came {computed:08x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What came gives.
        computed: u32,
    },
}

/// Appends a frame whose payload is what `write` appends to `out`; it is to leave alone what is there already.
///
/// # Errors
/// [`FrameError::TooLarge`] where that is more than [`MAX_FRAME_BYTES`]; `out` is then as it was before.
///
/// ```
/// use annulus_protocol::{FrameReader, MAX_FRAME_BYTES, append_frame};
///
/// let mut out = Vec::new();
/// append_frame(&mut out, |payload| payload.extend_from_slice(b"hello"))?;
/// let mut reader = FrameReader::new(MAX_FRAME_BYTES);
/// reader.space().extend_from_slice(&out);
/// assert_eq!(reader.next_frame()?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(reader.next_frame()?, None);
/// # Ok::<(), annulus_protocol::FrameError>(())
/// ```
pub fn append_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), FrameError> {
    append_frame_within(MAX_FRAME_BYTES, out, write)
}

/// [`append_frame`] where another limit holds.
pub(crate) fn append_frame_within(
    limit: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    write(out);
    let payload = &out[start + FRAME_HEADER_BYTES..];
    let (length, checksum) = (payload.len() as u64, checksum(payload));
    let length = match u32::try_from(length) {
        Ok(length) if length <= limit => length,
        _ => {
            out.truncate(start);
            return Err(FrameError::TooLarge { length, limit });
        }
    };
    let length = length.to_le_bytes();
    let header = [length, self::checksum(&length).to_le_bytes(), checksum.to_le_bytes()];
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(header.as_flattened());
    Ok(())
}

fn checksum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

fn check(bytes: &[u8], expected: u32) -> Result<(), FrameError> {
    match checksum(bytes) {
        computed if computed == expected => Ok(()),
        computed => Err(FrameError::Checksum { expected, computed }),
    }
}

/// What stands before a payload.
struct Header {
    length: u32,
    length_checksum: u32,
    payload_checksum: u32,
}

/// Takes bytes as they come, and gives payloads.
///
/// After an error it gives that error for ever: where the next frame begins is not known any more, and the connection is
/// to be closed.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    limit: u32,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// Refuses payloads of more than `limit` bytes.
    pub fn new(limit: u32) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            failed: None,
        }
    }

    /// Goes on with another limit.
    pub(crate) fn with_limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// Where to append what the socket gives, with room for at least 4 KiB, and for more the more came of a long frame.
    pub fn space(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM_BYTES {
            self.buffer
                .reserve(self.missing().min(self.buffer.len()).max(BLOCK_BYTES));
        }
        &mut self.buffer
    }

    /// The next payload, a slice of what came; nothing where more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`]: the connection is to be closed.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.parse().inspect_err(|error| self.failed = Some(*error))
    }

    fn parse(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(Header {
            length,
            length_checksum,
            payload_checksum,
        }) = self.header()
        else {
            return Ok(None);
        };
        check(&length.to_le_bytes(), length_checksum)?;
        if length > self.limit {
            return Err(FrameError::TooLarge {
                length: u64::from(length),
                limit: self.limit,
            });
        }
        let length = length as usize;
        if self.buffer.len() - FRAME_HEADER_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        check(&payload, payload_checksum)?;
        Ok(Some(payload))
    }

    /// The header of the frame that has begun, once it is there.
    fn header(&self) -> Option<Header> {
        let mut bytes = self.buffer.get(..FRAME_HEADER_BYTES)?;
        Some(Header {
            length: bytes.get_u32_le(),
            length_checksum: bytes.get_u32_le(),
            payload_checksum: bytes.get_u32_le(),
        })
    }

    /// What has not come yet of the frame that has begun, in bytes.
    fn missing(&self) -> usize {
        let whole = self
            .header()
            .map_or(0, |header| header.length as usize + FRAME_HEADER_BYTES);
        whole.saturating_sub(self.buffer.len())
    }

    /// What came and was not taken yet.
    pub(crate) fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
}
