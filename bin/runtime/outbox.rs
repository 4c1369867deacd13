//! Frames for one peer: encoded once, straight into the buffer that the next write takes whole.

use std::cell::{Cell, RefCell};
use std::io;

use annulus_protocol::{FrameError, Message, append_frame};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// A peer that does not read fills this; then its link is dropped, and it catches up with what it missed.
pub(crate) const MAX_OUTBOX_BYTES: usize = 64 << 20;

/// A buffer that a burst has grown beyond this is given back.
const KEPT_BYTES: usize = 1 << 20;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutboxError {
    /// The peer reads too slowly, or not at all: the link is to be dropped.
    #[error("{waiting} bytes wait for it, more than the {MAX_OUTBOX_BYTES} allowed")]
    Full {
        /// Bytes that wait.
        waiting: usize,
    },
    /// The message fits no frame; the link is as it was.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The sending half of a link.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: RefCell<Vec<u8>>,
    /// Bytes in the write that is under way.
    writing: Cell<usize>,
    filled: Notify,
}

impl Outbox {
    /// Adds a message to the next write.
    pub(crate) fn append(&self, message: &Message) -> Result<(), OutboxError> {
        let mut waiting = self.waiting.borrow_mut();
        let before = waiting.len() + self.writing.get();
        // What is over the bound by its last message may go; else a message larger than the bound never could.
        if before > MAX_OUTBOX_BYTES {
            return Err(OutboxError::Full { waiting: before });
        }
        append_frame(&mut waiting, |out| message.encode(out))?;
        self.filled.notify_one();
        Ok(())
    }

    /// Writes what gathers, as one write where the socket takes it, until the socket fails.
    pub(crate) async fn pump(&self, mut socket: impl AsyncWrite + Unpin) -> io::Error {
        let mut batch = Vec::new();
        loop {
            self.filled.notified().await;
            std::mem::swap(&mut batch, &mut *self.waiting.borrow_mut());
            self.writing.set(batch.len());
            if let Err(error) = socket.write_all(&batch).await {
                return error;
            }
            self.writing.set(0);
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
        }
    }

    /// Bytes that wait or are being written.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.borrow().len() + self.writing.get()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use annulus_protocol::{FrameReader, MAX_FRAME_BYTES};
    use bytes::Bytes;
    use tokio::io::AsyncReadExt;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(test);
    }

    #[test]
    fn what_is_appended_between_two_writes_leaves_in_one_and_in_order() {
        run(async {
            let outbox = Outbox::default();
            let sent: Vec<_> = (0..100).map(|sequence| Message::HintTaken { sequence }).collect();
            sent.iter().for_each(|message| outbox.append(message).unwrap());
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let mut frames = FrameReader::new(MAX_FRAME_BYTES);
            tokio::select! {
                _ = outbox.pump(near) => panic!("the socket does not fail"),
                count = far.read_buf(frames.space()) => assert_eq!(count.unwrap(), frames.space().len()),
            }
            let mut received = Vec::new();
            while let Some(frame) = frames.next_frame().unwrap() {
                received.push(Message::decode(frame).unwrap());
            }
            assert_eq!(received, sent);
        });
    }

    #[test]
    fn a_peer_that_does_not_read_is_noticed_before_memory_is() {
        run(async {
            let outbox = Outbox::default();
            let large = Message::Ring(Bytes::from(vec![0; 8 << 20]));
            let refused = (0..100).find_map(|_| outbox.append(&large).err()).unwrap();
            assert!(matches!(refused, OutboxError::Full { waiting } if waiting <= MAX_OUTBOX_BYTES + (9 << 20)));
        });
    }

    #[test]
    fn a_message_beyond_a_frame_is_refused_and_leaves_no_trace() {
        let outbox = Outbox::default();
        let error = outbox
            .append(&Message::Ring(Bytes::from(vec![0; MAX_FRAME_BYTES as usize])))
            .unwrap_err();
        assert!(matches!(error, OutboxError::Frame(FrameError::TooLarge { .. })));
        assert_eq!(outbox.bytes(), 0);
    }
}
