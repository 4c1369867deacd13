//! What a co-owner lacks is read and sent, as much as fits in a page: nothing is kept here between two questions.

use std::time::Duration;

use annulus_protocol::{Caught, CaughtObject, CaughtPart, Message, Want};
use annulus_ring::NodeId;
use annulus_storage::{Engine, Supplied, Supply};

use super::{ANSWERS, BREATH, BUSY_BREATH, CoOwner, MAX_ASKED, MAX_WANTS, PAGE_BYTES};
use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;

impl<E: Engine> Node<E> {
    /// A co-owner asks for what it lacks. It is answered in its turn.
    pub(crate) fn on_catch_up(
        &mut self,
        now: Now,
        from: NodeId,
        (request, wants): (u64, Vec<Want>),
        out: &mut Vec<Effect>,
    ) {
        if !self.is_reachable(from) {
            return;
        }
        let co_owner = self
            .catch_up
            .peers
            .entry(from)
            .or_insert_with(|| CoOwner::new(now.monotonic));
        if co_owner.asks.len() < MAX_ASKED {
            co_owner.asks.push_back((request, wants));
        }
        self.answer_if_due(now, out);
    }

    /// A few questions are answered, and others after a breath: a page is little to do, and many at once would hold up who else waits.
    pub(super) fn answer_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.failed.is_some() {
            self.catch_up.peers.values_mut().for_each(|peer| peer.asks.clear());
        }
        if self.catch_up.answers_at().is_none_or(|at| now.monotonic < at) {
            return;
        }
        let (answers, breath, page) = match now.monotonic < self.catch_up.busy_until {
            true => (1, BUSY_BREATH, PAGE_BYTES / 2),
            false => (ANSWERS, BREATH, PAGE_BYTES),
        };
        let before = self.counters.supplied_bytes;
        for _ in 0..answers {
            let longest = self.catch_up.peers.iter_mut().max_by_key(|(_, peer)| peer.asks.len());
            let ask = longest.and_then(|(from, co_owner)| Some((*from, co_owner.asks.pop_front()?)));
            let Some((from, (request, wants))) = ask else { break };
            self.answer(now, from, (request, page), wants, out);
        }
        let nanos = (self.counters.supplied_bytes - before).saturating_mul(1_000_000_000);
        let pause = nanos.checked_div(self.settings.catch_up_bytes_per_second);
        self.catch_up.next_answer = now.monotonic + breath.max(Duration::from_nanos(pause.unwrap_or(0)));
    }

    fn answer(
        &mut self,
        now: Now,
        from: NodeId,
        (request, page): (u64, usize),
        wants: Vec<Want>,
        out: &mut Vec<Effect>,
    ) {
        self.refresh_shared();
        let mut caught = Vec::new();
        let mut left = page;
        for want in wants.into_iter().take(MAX_WANTS) {
            if left == 0 {
                break;
            }
            let partition = want.partition;
            let is_shared = self.catch_up.shared.contains(from, partition);
            if is_shared {
                self.is_told(now, from, partition, want.clock.clone());
                self.catch_up.forget_contents(from, partition);
            }
            let part = match is_shared {
                true => self.supply(&want, &mut left, out),
                false => CaughtPart::Refused,
            };
            caught.push(Caught { partition, part });
        }
        out.push(Effect::Send {
            to: from,
            message: Message::CaughtUp { request, caught },
        });
    }

    fn supply(&mut self, want: &Want, left: &mut usize, out: &mut Vec<Effect>) -> CaughtPart {
        let partition = want.partition;
        let part = match &want.stream {
            None => self
                .replica
                .supply(partition, &want.clock, *left)
                .map(|supply| match supply {
                    Supply::LogShort => CaughtPart::LogShort,
                    Supply::Objects { clock, objects, more } => CaughtPart::Objects {
                        clock,
                        objects: objects.into_iter().map(caught_object).collect(),
                        more,
                    },
                }),
            Some(stream) => {
                let streamed = self
                    .replica
                    .stream(partition, stream.from.as_ref(), &stream.fingerprints, *left);
                streamed.map(|streamed| CaughtPart::Streamed {
                    clock: streamed.clock,
                    from: streamed.from,
                    until: streamed.until,
                    objects: streamed.objects.into_iter().map(caught_object).collect(),
                })
            }
        };
        match part {
            Ok(part) => {
                let objects = match &part {
                    CaughtPart::Objects { objects, .. } | CaughtPart::Streamed { objects, .. } => objects.as_slice(),
                    _ => &[],
                };
                self.counters.supplied_objects += objects.len() as u64;
                let bytes: usize = objects.iter().map(object_bytes).sum();
                self.counters.supplied_bytes += bytes as u64;
                *left = left.saturating_sub(bytes);
                part
            }
            Err(error) => {
                self.damaged(partition, &error, out);
                CaughtPart::Refused
            }
        }
    }
}

fn caught_object(supplied: Supplied) -> CaughtObject {
    CaughtObject {
        bucket: supplied.address.bucket,
        key: supplied.address.key,
        dots: supplied.dots,
        object: supplied.object,
    }
}

fn object_bytes(caught: &CaughtObject) -> usize {
    let versions = caught.object.versions().iter();
    let values: usize = versions.map(|(_, version)| version.value.len() + 64).sum();
    values + caught.key.as_bytes().len() + 64
}
