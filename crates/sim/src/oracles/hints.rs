//! A hint is kept until its owner has stored it: whoever sends one has one.

use annulus_node::Usage;
use annulus_protocol::Message;

/// A message is sent by a node that holds this much.
///
/// # Errors
/// Where it is a hint that its keeper has forgotten.
pub(crate) fn sent(message: &Message, usage: impl FnOnce() -> Usage) -> Result<(), String> {
    match message {
        Message::Hint { sequence, .. } if usage().hints == 0 => {
            Err(format!("hint {sequence} is sent, and is not kept until it is stored"))
        }
        _ => Ok(()),
    }
}
