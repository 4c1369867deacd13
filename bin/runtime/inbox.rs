//! What waits for the node: everything that arrives before its next round is stepped in that one round.

use std::cell::{Cell, RefCell};

use annulus_node::Input;
use annulus_protocol::Message;
use annulus_ring::NodeId;
use tokio::sync::Notify;

/// Peers are read on only while fewer bytes of their messages than this wait.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// The queue in front of a node. Clients are bounded by the HTTP side's own limits, peers by [`Inbox::room`].
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    inputs: RefCell<Vec<Input>>,
    message_bytes: Cell<usize>,
    arrived: Notify,
    taken: Notify,
}

impl Inbox {
    /// Adds an input.
    pub(crate) fn push(&self, input: Input) {
        self.inputs.borrow_mut().push(input);
        self.arrived.notify_one();
    }

    /// Adds a peer's message that came as so many bytes.
    pub(crate) fn push_message(&self, from: NodeId, message: Message, bytes: usize) {
        self.message_bytes.set(self.message_bytes.get() + bytes);
        self.push(Input::Message { from, message });
    }

    /// Returns once little enough waits to read on from a peer.
    pub(crate) async fn room(&self) {
        while self.message_bytes.get() >= MAX_WAITING_BYTES {
            self.taken.notified().await;
        }
    }

    /// Returns once something has arrived.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Moves what waits behind what `into` has.
    pub(crate) fn take(&self, into: &mut Vec<Input>) {
        let mut inputs = self.inputs.borrow_mut();
        match into.is_empty() {
            true => std::mem::swap(&mut *inputs, into),
            false => into.append(&mut inputs),
        }
        if self.message_bytes.replace(0) >= MAX_WAITING_BYTES {
            self.taken.notify_waiters();
        }
    }

    /// How many inputs wait.
    pub(crate) fn len(&self) -> usize {
        self.inputs.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ready(inbox: &Inbox) -> bool {
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        std::pin::pin!(inbox.room()).as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn peers_are_read_on_once_what_they_sent_was_taken() {
        let inbox = Inbox::default();
        let message = || Message::HintTaken { sequence: 1 };
        inbox.push_message(NodeId(1), message(), MAX_WAITING_BYTES - 1);
        assert!(is_ready(&inbox));
        inbox.push_message(NodeId(1), message(), 1);
        assert!(!is_ready(&inbox));
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        assert_eq!((taken.len(), inbox.len()), (2, 0));
        assert!(is_ready(&inbox));
    }
}
