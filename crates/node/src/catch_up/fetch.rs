//! What a peer has and this node lacks is asked for and taken, in pages: another is asked for when one is durable.

use std::collections::BTreeMap;

use annulus_causality::Instant;
use annulus_protocol::{Caught, CaughtObject, CaughtPart, Message, SUB_RANGES, StreamWant, Want};
use annulus_ring::{NodeId, PartitionId};
use annulus_storage::{Engine, Streamed, StreamedPart, Supplied};

use super::{Asked, GRACE, MAX_ASKED, MAX_WANTS, PAUSE, RETRY};
use crate::durable::Completion;
use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;

impl<E: Engine> Node<E> {
    /// Asks a peer for what it has had for long, as far as enough is not on its way from there.
    pub(super) fn ask_if_due(&mut self, now: Now, peer: NodeId, out: &mut Vec<Effect>) {
        self.give_up_late(now, peer);
        while let Some(co_owner) = self.catch_up.peers.get(&peer)
            && co_owner.asked.len() < MAX_ASKED
            && self.check_room().is_ok()
        {
            let until = now.monotonic + 10 * RETRY;
            let mut partitions = BTreeMap::new();
            let mut wants = Vec::new();
            for partition in self.due_of(now, peer) {
                let fingerprints = self.replica.fingerprints(partition);
                partitions.insert(partition, fingerprints);
                wants.push(self.want_of(partition, peer, fingerprints));
                self.ask_again(peer, partition, until);
            }
            let Some(co_owner) = self.catch_up.peers.get_mut(&peer).filter(|_| !wants.is_empty()) else {
                return;
            };
            self.catch_up.next_request += 1;
            let request = self.catch_up.next_request;
            co_owner.asked.insert(request, Asked { until, partitions });
            out.push(Effect::Send {
                to: peer,
                message: Message::CatchUp { request, wants },
            });
        }
    }

    fn give_up_late(&mut self, now: Now, peer: NodeId) {
        let Some(co_owner) = self.catch_up.peers.get_mut(&peer) else {
            return;
        };
        let late = co_owner.asked.extract_if(.., |_, asked| asked.until <= now.monotonic);
        let late = late.flat_map(|(_, asked)| asked.partitions.into_keys());
        for partition in late.collect::<Vec<_>>() {
            self.catch_up.streams.remove(&partition);
            self.ask_again(peer, partition, now.monotonic + RETRY);
        }
    }

    fn want_of(&mut self, partition: PartitionId, peer: NodeId, fingerprints: [u64; SUB_RANGES]) -> Want {
        let wanted = self.catch_up.wanted(peer, partition);
        let stream = wanted.is_some_and(|wanted| wanted.streamed).then(|| {
            self.catch_up.streams.insert(partition, peer);
            StreamWant {
                from: self.replica.stream_cursor(partition),
                fingerprints,
            }
        });
        Want {
            partition,
            clock: self.replica.clock(partition).clone(),
            stream,
        }
    }

    /// As many partitions as a question may have of which something is missing that the peer has had since before the grace, and that
    /// nobody is asked for.
    fn due_of(&mut self, now: Now, peer: NodeId) -> Vec<PartitionId> {
        let co_owner = self.catch_up.peers.get(&peer).into_iter();
        let due = co_owner.flat_map(|peer| peer.wants.due(now.monotonic));
        // More than a question has, as some may be missing no more, or be fetched.
        let due: Vec<PartitionId> = due.take(4 * MAX_WANTS).collect();
        let mut missing = Vec::new();
        for partition in due {
            let clock = self.replica.clock(partition);
            let wanted = self.catch_up.wanted(peer, partition);
            if !wanted.is_some_and(|wanted| wanted.streamed || !wanted.clock.is_subset(clock)) {
                self.look_on(now, peer, partition);
            } else if self.catch_up.is_busy(partition, peer) {
                self.ask_again(peer, partition, now.monotonic + PAUSE);
            } else {
                missing.push(partition);
            }
            if missing.len() == MAX_WANTS {
                break;
            }
        }
        missing
    }

    fn ask_again(&mut self, peer: NodeId, partition: PartitionId, due: Instant) {
        if let Some(co_owner) = self.catch_up.peers.get_mut(&peer) {
            co_owner.wants.put_off(partition, due);
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
        let co_owner = self.catch_up.peers.get_mut(&from);
        let asked = co_owner.and_then(|peer| peer.asked.get_mut(&request));
        let Some(asked) = asked.filter(|asked| !asked.partitions.is_empty() && self.failed.is_none()) else {
            return;
        };
        let sent = std::mem::take(&mut asked.partitions);
        for partition in sent.keys() {
            self.ask_again(from, *partition, now.monotonic);
        }
        for Caught { partition, part } in caught {
            if let Some(fingerprints) = sent.get(&partition) {
                self.take_part(now, (from, partition), fingerprints, part, out);
            }
        }
        self.durable.after_sync(Completion::CaughtUp { peer: from, request });
    }

    /// What was taken is durable: the next page is asked for.
    pub(crate) fn on_caught_up_durable(&mut self, now: Now, peer: NodeId, request: u64, out: &mut Vec<Effect>) {
        if let Some(co_owner) = self.catch_up.peers.get_mut(&peer) {
            co_owner.asked.remove(&request);
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
        if let CaughtPart::Streamed { clock, .. } = &part
            && self.closes_too_much(clock)
        {
            let name = self.name_of(from);
            let text = format!(
                "{name} has closed incarnations of a node that are not known to be finished here: its data was not taken."
            );
            self.warn_once("closed", text, out);
            self.stop_stream(partition);
            return self.ask_again(from, partition, now.monotonic + RETRY);
        }
        let taken = match part {
            CaughtPart::Refused => {
                self.catch_up.streams.remove(&partition);
                return self.ask_again(from, partition, now.monotonic + RETRY);
            }
            CaughtPart::LogShort => {
                if let Some(co_owner) = self.catch_up.peers.get_mut(&from) {
                    co_owner.wants.stream(partition);
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
                if let Some(co_owner) = self.catch_up.peers.get_mut(&from) {
                    co_owner.apart.remove(&partition);
                }
                self.look_on(now, from, partition);
            }
            Err(error) => {
                self.stop_stream(partition);
                self.ask_again(from, partition, now.monotonic + RETRY);
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
