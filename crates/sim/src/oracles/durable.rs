//! What a replica says is on its disk survives the loss of power at that very moment.

use std::collections::BTreeMap;

use annulus_causality::CausalContext;
use annulus_coordinator::Durability;
use annulus_protocol::{Delta, Message};
use annulus_ring::{Address, Partitions};
use annulus_storage::Replica;

use crate::disk::Disk;

/// One write in so many is looked at, and ever fewer in a long run: each look opens the disk, and reads its log.
const WRITES_A_LOOK: u64 = 24;

/// Writes that peers sent, and that are to be acknowledged once they are durable.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    seen: u64,
    next_look: u64,
    /// By the node that stores, the node that asked, and its request: what the write brings.
    awaited: BTreeMap<(usize, usize, u64), (Address, CausalContext)>,
}

impl Durable {
    /// A message has arrived.
    pub(crate) fn arrived(&mut self, (from, to): (usize, usize), message: &Message, partitions: Partitions) {
        if let Message::Write {
            request,
            durability: Durability::Disk,
            hint_for: None,
            delta: Delta { at, dots, .. },
            ..
        } = message
        {
            self.seen += 1;
            if self.seen >= self.next_look {
                self.next_look = self.seen + WRITES_A_LOOK.max(self.seen / 16);
                let address = Address::new(at.bucket.clone(), at.key.clone(), at.n, partitions);
                self.awaited.insert((to, from, *request), (address, dots.clone()));
            }
        }
    }

    /// A message is sent.
    ///
    /// # Errors
    /// Where it acknowledges a write that is not durable.
    pub(crate) fn sent(
        &mut self,
        (from, to): (usize, usize),
        message: &Message,
        disk: &Disk,
        partitions: Partitions,
    ) -> Result<(), String> {
        let Message::WriteDone { request, result } = message else {
            return Ok(());
        };
        let Some((address, dots)) = self.awaited.remove(&(from, to, *request)) else {
            return Ok(());
        };
        if result.is_err() {
            return Ok(());
        }
        match Replica::open(disk.after_power_loss(), partitions) {
            Ok(replica) if dots.is_subset(replica.clock(address.partition)) => Ok(()),
            Ok(_) => Err(format!(
                "a write to {:?} is acknowledged, and is not on the disk",
                address.key
            )),
            Err(error) => Err(format!("the disk could not be read after power loss: {error}")),
        }
    }
}
