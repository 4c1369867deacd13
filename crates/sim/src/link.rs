//! A link carries messages one way and in order; what was under way when it broke has arrived as a prefix, or not at all.

use annulus_protocol::{FrameReader, MAX_FRAME_BYTES, Message, append_frame};

use crate::queue::Nanos;

/// One connection's life: messages of an earlier one are not taken for those of a later.
pub(crate) type Generation = u32;

/// The link from one node to another.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) is_up: bool,
    /// The sender keeps trying to connect.
    pub(crate) is_wanted: bool,
    /// An attempt is on its way.
    pub(crate) is_trying: bool,
    /// Attempts that failed in a row.
    pub(crate) failures: u32,
    pub(crate) generation: Generation,
    /// The receiver's system took what was due by then of the generation before: it is read though the link is down.
    pub(crate) buffered_until: Nanos,
    /// When the last message is due: the next is not before it.
    pub(crate) last_due: Nanos,
    /// Faults that keep the link from coming up; a count, as several may at once.
    pub(crate) blocked: u32,
    /// Faults that hold messages back, without breaking the link.
    pub(crate) clogged: u32,
    /// What is held back.
    pub(crate) held: Vec<Message>,
    /// Added to each message's delay by slow-link faults.
    pub(crate) extra_delay: Nanos,
    /// The next message arrives with a byte changed.
    pub(crate) corrupts: bool,
    /// Faults that lose what owners tell each other to catch up.
    pub(crate) without_catch_up: u32,
    /// Faults that lose hints, and what is said about them.
    pub(crate) without_handoff: u32,
    /// Faults that make messages arrive twice.
    pub(crate) doubled: u32,
    /// The next message of this kind is lost.
    pub(crate) loses: Option<&'static str>,
}

impl Link {
    /// Whether faults lose messages of this kind.
    pub(crate) fn withholds(&self, message: &Message) -> bool {
        match message {
            Message::Clocks { .. } | Message::CatchUp { .. } | Message::CaughtUp { .. } => self.without_catch_up > 0,
            Message::HintsWait { .. }
            | Message::HintsWanted { .. }
            | Message::Hint { .. }
            | Message::HintTaken { .. } => self.without_handoff > 0,
            _ => false,
        }
    }

    /// Whether a message of this generation, due at `due`, arrives.
    pub(crate) fn delivers(&self, generation: Generation, due: Nanos) -> bool {
        match generation == self.generation {
            true => self.is_up,
            false => generation.wrapping_add(1) == self.generation && due <= self.buffered_until,
        }
    }
}

/// What the receiver makes of a message in which a byte was changed on the way: nothing, if the frames are worth their checksums.
///
/// # Errors
/// Where it is taken for a message.
pub(crate) fn read_damaged(message: &Message, dice: u64) -> Result<(), String> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, |out| message.encode(out)).map_err(|error| error.to_string())?;
    let place = (dice % bytes.len() as u64) as usize;
    bytes[place] ^= 1 << ((dice >> 32) % 8);
    let mut reader = FrameReader::new(MAX_FRAME_BYTES);
    reader.space().extend_from_slice(&bytes);
    match reader.next_frame() {
        // The connection is closed.
        Err(_) => Ok(()),
        Ok(None) => Err(format!(
            "a {} with a byte changed at {place} is waited for",
            message.kind()
        )),
        Ok(Some(payload)) => match Message::decode(payload) {
            Err(_) => Ok(()),
            Ok(_) => Err(format!("a {} with a byte changed at {place} was read", message.kind())),
        },
    }
}

/// A message encodes to bytes that decode to it.
///
/// # Errors
/// Where they do not.
pub(crate) fn check_codec(message: &Message) -> Result<(), String> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    match Message::decode(bytes.into()) {
        Ok(read) if read == *message => Ok(()),
        Ok(read) => Err(format!("{message:?} was read as {read:?}")),
        Err(error) => Err(format!("{message:?} cannot be read: {error}")),
    }
}
