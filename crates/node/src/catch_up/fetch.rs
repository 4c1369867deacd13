//! What a peer has and this node lacks is asked for and taken, a page at a time: the next is asked for when the last is durable.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_protocol::{Caught, CaughtObject, CaughtPart, Message, SUB_RANGES, StreamWant, Want};
use annulus_ring::{NodeId, PartitionId};
use annulus_storage::{Engine, Streamed, StreamedPart, Supplied};

use super::{Asked, GRACE, MAX_WANTS, PAUSE, RETRY};
use crate::durable::Completion;
use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;

impl<E: Engine> Node<E> {
    /// Asks a peer for what it has had for long, if nothing is on its way from there.
    pub(super) fn ask_if_due(&mut self, now: Now, peer: NodeId, out: &mut Vec<Effect>) {
        let Some(co_owner) = self.catch_up.peers.get_mut(&peer) else {
            return;
        };
        if co_owner
            .asked
            .as_ref()
            .is_some_and(|asked| asked.until <= now.monotonic)
        {
            let late = co_owner
                .asked
                .take()
                .into_iter()
                .flat_map(|asked| asked.partitions.into_keys());
            for partition in late.collect::<Vec<_>>() {
                self.stop_stream(partition);
                self.ask_again(now, peer, partition, RETRY);
            }
            return;
        }
        if co_owner.asked.is_some() || self.check_room().is_err() {
            return;
        }
        let mut partitions = BTreeMap::new();
        let mut wants = Vec::new();
        for partition in self.due_of(now, peer) {
            if self.catch_up.is_busy(partition, peer) {
                self.ask_again(now, peer, partition, PAUSE);
                continue;
            }
            let fingerprints = self.replica.fingerprints(partition);
            let streamed = self
                .catch_up
                .wanted(peer, partition)
                .is_some_and(|wanted| wanted.streamed);
            let stream = streamed.then(|| {
                self.catch_up.streams.insert(partition, peer);
                StreamWant {
                    from: self.replica.stream_cursor(partition),
                    fingerprints,
                }
            });
            partitions.insert(partition, fingerprints);
            wants.push(Want {
                partition,
                clock: self.replica.clock(partition).clone(),
                stream,
            });
            if wants.len() >= MAX_WANTS {
                break;
            }
        }
        if wants.is_empty() {
            return;
        }
        self.catch_up.next_request += 1;
        let request = self.catch_up.next_request;
        if let Some(co_owner) = self.catch_up.peers.get_mut(&peer) {
            co_owner.asked = Some(Asked {
                request,
                until: now.monotonic + 10 * RETRY,
                partitions,
            });
        }
        out.push(Effect::Send {
            to: peer,
            message: Message::CatchUp { request, wants },
        });
    }

    /// Partitions of which something is missing that the peer has had since before the grace.
    fn due_of(&mut self, now: Now, peer: NodeId) -> Vec<PartitionId> {
        let Some(co_owner) = self.catch_up.peers.get(&peer) else {
            return Vec::new();
        };
        let due = co_owner.wanted.iter().filter(|(_, wanted)| wanted.due <= now.monotonic);
        let mut due: Vec<PartitionId> = due.map(|(partition, _)| *partition).collect();
        due.retain(|&partition| {
            let clock = self.replica.clock(partition);
            let wanted = self.catch_up.wanted(peer, partition);
            let is_missing = wanted.is_some_and(|wanted| wanted.streamed || !wanted.clock.is_subset(clock));
            if !is_missing {
                self.look_on(now, peer, partition);
            }
            is_missing
        });
        due
    }

    fn ask_again(&mut self, now: Now, peer: NodeId, partition: PartitionId, after: Duration) {
        if let Some(wanted) = self.catch_up.wanted(peer, partition) {
            wanted.due = now.monotonic + after;
        }
    }

    pub(crate) fn stop_stream(&mut self, partition: PartitionId) {
        self.catch_up.streams.remove(&partition);
        self.replica.abandon_stream(partition);
    }

    /// A page of what was asked for.
    pub(crate) fn on_caught_up(
        &mut self,
        now: Now,
        from: NodeId,
        request: u64,
        caught: Vec<Caught>,
        out: &mut Vec<Effect>,
    ) {
        let Some(asked) = self.catch_up.peers.get_mut(&from).and_then(|peer| peer.asked.as_mut()) else {
            return;
        };
        if asked.request != request || asked.partitions.is_empty() || self.failed.is_some() {
            return;
        }
        let sent = std::mem::take(&mut asked.partitions);
        for Caught { partition, part } in caught {
            if let Some(fingerprints) = sent.get(&partition) {
                self.take_part(now, (from, partition), fingerprints, part, out);
            }
        }
        self.durable.after_sync(Completion::CaughtUp { peer: from, request });
    }

    /// What was taken is durable: the next page is asked for.
    pub(crate) fn on_caught_up_durable(&mut self, now: Now, peer: NodeId, request: u64, out: &mut Vec<Effect>) {
        if let Some(co_owner) = self.catch_up.peers.get_mut(&peer)
            && co_owner.asked.as_ref().is_some_and(|asked| asked.request == request)
        {
            co_owner.asked = None;
            self.ask_if_due(now, peer, out);
        }
    }

    fn take_part(
        &mut self,
        now: Now,
        (from, partition): (NodeId, PartitionId),
        sent: &[u64; SUB_RANGES],
        part: CaughtPart,
        out: &mut Vec<Effect>,
    ) {
        let taken = match part {
            CaughtPart::Refused => {
                self.stop_stream(partition);
                return self.ask_again(now, from, partition, RETRY);
            }
            CaughtPart::LogShort => {
                if let Some(wanted) = self.catch_up.wanted(from, partition) {
                    wanted.streamed = true;
                }
                return;
            }
            CaughtPart::Objects { clock, objects, more } => {
                let objects = self.addressed(partition, objects);
                let taken = self.replica.take_supply(partition, &clock, objects);
                taken.map(|()| !more)
            }
            CaughtPart::Streamed {
                clock,
                from: first,
                until,
                objects,
            } => {
                let part = Streamed {
                    clock,
                    from: first,
                    until,
                    objects: self.addressed(partition, objects),
                };
                let taken = self.replica.take_streamed(partition, sent, part);
                taken.map(|part| matches!(part, StreamedPart::Done))
            }
        };
        match taken {
            Ok(false) => {}
            Ok(true) => {
                self.catch_up.streams.remove(&partition);
                self.look_on(now, from, partition);
            }
            Err(error) => {
                self.stop_stream(partition);
                self.ask_again(now, from, partition, RETRY);
                self.damaged(partition, &error, out);
            }
        }
    }

    /// What was missing has come; what the peer told of since may be on its way.
    fn look_on(&mut self, now: Now, peer: NodeId, partition: PartitionId) {
        let clock = self.replica.clock(partition);
        if !self
            .catch_up
            .want(peer, partition, clock, (now.monotonic + GRACE, false))
        {
            self.has_all_of(peer, partition);
        }
    }

    /// What is of this partition, and of no other.
    fn addressed(&mut self, partition: PartitionId, objects: Vec<CaughtObject>) -> Vec<Supplied> {
        let addressed = objects.into_iter().filter_map(|caught| {
            let address = self.address(&caught.bucket, &caught.key, partition.n).ok()?;
            (address.partition == partition).then_some(Supplied {
                address,
                dots: caught.dots,
                object: caught.object,
            })
        });
        let addressed: Vec<Supplied> = addressed.collect();
        self.counters.caught_objects += addressed.len() as u64;
        addressed
    }
}
