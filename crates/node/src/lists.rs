//! A page of keys comes from a smallest set of nodes that covers every partition `r` times; where they differ, the key is read.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::Instant;
use annulus_coordinator::{Answer, Failure, KeyRequest, ListRequest, Mode, Operation, Options, Outcome, Page, Reply};
use annulus_protocol::{Message, Refusal};
use annulus_ring::{Key, NodeId, PartitionId};
use annulus_storage::{Engine, EngineError};
use bytes::Bytes;

use crate::io::Effect;
use crate::node::Node;
use crate::settings::Now;
use crate::tasks::{Requester, Task, TaskId, Work};

/// What one node holds: keys in order, and from where it would go on.
type Part = (Vec<Key>, Option<Bytes>);

/// A listing that this node puts together.
#[derive(Debug)]
pub(crate) struct ListWork {
    request: ListRequest,
    /// Nodes that refused: asked again, they would refuse again.
    refused: BTreeSet<NodeId>,
    /// Nodes that are asked, until they answer.
    waiting: BTreeSet<NodeId>,
    parts: BTreeMap<NodeId, Part>,
    /// Candidates of the page, in order: whether each is listed, `None` while it is being read.
    keys: Vec<(Key, Option<bool>)>,
    /// Where the merged keys stop being complete.
    cut: Option<Bytes>,
    /// Reads of disputed keys that are under way.
    reading: usize,
}

impl ListWork {
    pub(crate) fn awaits(&self, peer: NodeId) -> bool {
        self.waiting.contains(&peer)
    }
}

impl<E: Engine> Node<E> {
    pub(crate) fn start_list(&mut self, now: Now, requester: Requester, request: ListRequest, out: &mut Vec<Effect>) {
        self.list_without(now, requester, request, BTreeSet::new(), out);
    }

    fn list_without(
        &mut self,
        now: Now,
        requester: Requester,
        request: ListRequest,
        refused: BTreeSet<NodeId>,
        out: &mut Vec<Effect>,
    ) {
        if let Err(failure) = self.try_list(now, requester, request, refused, out) {
            self.reply(now, requester, Err(failure), out);
        }
    }

    fn try_list(
        &mut self,
        now: Now,
        requester: Requester,
        request: ListRequest,
        refused: BTreeSet<NodeId>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let config = self.bucket_config(&request.bucket);
        let terms = self.terms(now, &config, &request.options)?;
        let coverage = self.coverage(config.n, terms.r, terms.mode, &refused)?;
        let id = self.tasks.number();
        let mut work = ListWork {
            waiting: coverage,
            parts: BTreeMap::new(),
            keys: Vec::new(),
            cut: None,
            reading: 0,
            refused,
            request,
        };
        if work.waiting.remove(&self.me) {
            let request = &work.request;
            let part = self.local_part(
                now,
                &request.bucket,
                &request.prefix,
                &request.start,
                request.limit + 1,
                out,
            );
            let part = part.map_err(|detail| Failure::Damaged { detail })?;
            work.parts.insert(self.me, part);
        }
        for &node in &work.waiting {
            out.push(Effect::Send {
                to: node,
                message: self.list_message(now, id, node, &work.request, terms.deadline),
            });
        }
        self.counters.lists += 1;
        let task = Task::new(requester, now.monotonic, terms.deadline, Work::List(Box::new(work)));
        self.advance_list(now, id, task, out);
        Ok(())
    }

    fn list_message(&self, now: Now, id: TaskId, to: NodeId, request: &ListRequest, deadline: Instant) -> Message {
        Message::List {
            request: id,
            deadline: self.on_clock_of(to, now, deadline),
            bucket: request.bucket.clone(),
            prefix: request.prefix.clone(),
            start: request.start.clone(),
            limit: u32::try_from(request.limit + 1).unwrap_or(u32::MAX),
        }
    }

    /// A page of what this node holds.
    pub(crate) fn local_part(
        &mut self,
        now: Now,
        bucket: &annulus_ring::Bucket,
        prefix: &[u8],
        start: &[u8],
        limit: usize,
        out: &mut Vec<Effect>,
    ) -> Result<Part, String> {
        match self.replica.list(bucket, prefix, start, limit, now.wall_millis) {
            Ok(page) => Ok((page.keys, page.resume.map(|key| key.bytes().clone()))),
            Err(error) => {
                if let EngineError::Damaged { key, .. } = &error {
                    self.damaged_index(bucket, key, &error, out);
                }
                Err(error.to_string())
            }
        }
    }

    /// The nodes to ask so that every partition is covered. Greedy set cover: the node that covers most of what is still uncovered comes next (Chvátal 1979).
    fn coverage(
        &self,
        n: u8,
        required: u8,
        mode: Mode,
        refused: &BTreeSet<NodeId>,
    ) -> Result<BTreeSet<NodeId>, Failure> {
        let cluster = self.cluster()?;
        let is_whole = |node: NodeId| node != self.me || !self.replica.has_doubts();
        let answers = |node: NodeId| self.is_reachable(node) && !refused.contains(&node) && is_whole(node);
        let partitions = cluster.ring.partitions().count();
        let mut needs: Vec<u8> = Vec::with_capacity(partitions as usize);
        let mut covers: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        let mut thin = false;
        for index in 0..partitions {
            let owners = cluster.ring.preference_list(PartitionId { n, index }).owners;
            let live: Vec<NodeId> = owners.iter().copied().filter(|&owner| answers(owner)).collect();
            let answered = u8::try_from(live.len()).unwrap_or(u8::MAX);
            thin |= answered < required;
            if answered == 0 || (answered < required && mode == Mode::Strict) {
                let n = u8::try_from(owners.len()).unwrap_or(u8::MAX);
                return Err(Failure::QuorumUnreachable {
                    required,
                    answered,
                    n,
                    outcome: Outcome::None,
                });
            }
            needs.push(required.min(answered));
            live.into_iter()
                .for_each(|owner| covers.entry(owner).or_default().push(index));
        }
        if thin {
            // Fallbacks may hold hints of keys that the few owners left have not got: everybody is asked.
            let nodes = cluster
                .ring
                .members()
                .iter()
                .map(annulus_ring::Member::id)
                .filter(|&node| answers(node));
            return Ok(nodes.collect());
        }
        Ok(set_cover(needs, covers, self.me))
    }

    /// A node's part of the page came, or does not come.
    pub(crate) fn on_listed(
        &mut self,
        now: Now,
        id: TaskId,
        from: NodeId,
        result: Result<Part, Refusal>,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::List(_))) else {
            return;
        };
        let Work::List(work) = &mut task.work else { return };
        if !work.waiting.remove(&from) {
            // It has answered already: what is being made of that stays.
            let deadline = task.deadline;
            return self.tasks.keep(id, task, deadline);
        }
        match result {
            Ok(part) => {
                work.parts.insert(from, part);
                self.advance_list(now, id, task, out);
            }
            Err(_) => {
                work.refused.insert(from);
                self.restart_list(now, task, out);
            }
        }
    }

    /// The link to a node that was asked is down: the page is put together anew without it.
    pub(crate) fn on_list_failure(&mut self, now: Now, id: TaskId, out: &mut Vec<Effect>) {
        if let Some(task) = self.tasks.take_if(id, |work| matches!(work, Work::List(_))) {
            self.restart_list(now, task, out);
        }
    }

    fn restart_list(&mut self, now: Now, task: Task, out: &mut Vec<Effect>) {
        let Work::List(work) = task.work else { return };
        let mut request = work.request;
        let left = task.deadline.saturating_duration_since(now.monotonic);
        if left.is_zero() {
            let failure = Failure::TimedOut {
                required: 1,
                answered: 0,
                outcome: Outcome::None,
            };
            return self.reply(now, task.requester, Err(failure), out);
        }
        request.options.timeout = Some(left);
        self.list_without(now, task.requester, request, work.refused, out);
    }

    pub(crate) fn on_list_deadline(&mut self, now: Now, task: &Task, out: &mut Vec<Effect>) {
        let Work::List(work) = &task.work else { return };
        let asked = work.waiting.len() + work.parts.len();
        let count = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let failure = Failure::TimedOut {
            required: count(asked),
            answered: count(work.parts.len()),
            outcome: Outcome::None,
        };
        self.reply(now, task.requester, Err(failure), out);
    }

    fn advance_list(&mut self, now: Now, id: TaskId, mut task: Task, out: &mut Vec<Effect>) {
        let deadline = task.deadline;
        let Work::List(work) = &mut task.work else { return };
        if !work.waiting.is_empty() || work.reading > 0 {
            return self.tasks.keep(id, task, deadline);
        }
        if !work.parts.is_empty() {
            let disputed = self.merge_parts(work);
            work.reading = disputed.len();
            if !disputed.is_empty() {
                let options = Options {
                    timeout: Some(deadline.saturating_duration_since(now.monotonic)),
                    ..work.request.options
                };
                let bucket = work.request.bucket.clone();
                self.tasks.keep(id, task, deadline);
                for (place, key) in disputed {
                    let request = KeyRequest {
                        bucket: bucket.clone(),
                        key,
                        operation: Operation::Get,
                        options,
                        seen: None,
                    };
                    self.start_key(now, Requester::Task(id, place), request, out);
                }
                return;
            }
        }
        let reply = Ok(Answer::Page(page(work)));
        self.reply(now, task.requester, reply, out);
    }

    /// Merges the parts into candidates; says which of them not all of their owners that were asked hold.
    fn merge_parts(&self, work: &mut ListWork) -> Vec<(usize, Key)> {
        let parts = std::mem::take(&mut work.parts);
        let n = self.bucket_config(&work.request.bucket).n;
        work.cut = parts.values().filter_map(|(_, resume)| resume.clone()).min();
        let mut holders: BTreeMap<&Key, Vec<NodeId>> = BTreeMap::new();
        for (node, (keys, _)) in &parts {
            keys.iter().for_each(|key| holders.entry(key).or_default().push(*node));
        }
        let complete = |key: &Key| work.cut.as_ref().is_none_or(|cut| key.as_bytes() < &cut[..]);
        let mut disputed = Vec::new();
        let merged: Vec<(&Key, Vec<NodeId>)> = holders.into_iter().filter(|(key, _)| complete(key)).collect();
        if let Some((key, _)) = merged.get(work.request.limit + 1) {
            work.cut = Some(key.bytes().clone());
        }
        for (key, nodes) in merged.into_iter().take(work.request.limit + 1) {
            let owners = self
                .address(&work.request.bucket, key, n)
                .ok()
                .map(|address| self.participants(&address).owners);
            let expected = owners
                .iter()
                .flatten()
                .filter(|owner| parts.contains_key(owner))
                .count();
            let agreed =
                nodes.len() == expected && owners.is_some_and(|owners| nodes.iter().all(|node| owners.contains(node)));
            if !agreed {
                disputed.push((work.keys.len(), key.clone()));
            }
            work.keys.push((key.clone(), agreed.then_some(true)));
        }
        disputed
    }

    /// A disputed key was read.
    pub(crate) fn on_list_read(&mut self, now: Now, id: TaskId, place: usize, reply: Reply, out: &mut Vec<Effect>) {
        let Some(mut task) = self.tasks.take_if(id, |work| matches!(work, Work::List(_))) else {
            return;
        };
        let Work::List(work) = &mut task.work else { return };
        match reply {
            Ok(Answer::Found(found)) => {
                work.reading = work.reading.saturating_sub(1);
                if let Some((_, listed)) = work.keys.get_mut(place) {
                    *listed = Some(!found.versions.is_empty());
                }
                self.advance_list(now, id, task, out);
            }
            Ok(_) => {}
            Err(failure) => self.reply(now, task.requester, Err(failure), out),
        }
    }
}

/// The page out of the decided candidates.
fn page(work: &mut ListWork) -> Page {
    let limit = work.request.limit;
    let mut listed = std::mem::take(&mut work.keys).into_iter();
    let keys: Vec<Key> = listed
        .by_ref()
        .filter(|(_, listed)| *listed == Some(true))
        .map(|(key, _)| key)
        .take(limit)
        .collect();
    // A candidate that is left, decided or not, is where the next page begins; else where the parts stopped.
    let next = listed
        .next()
        .map(|(key, _)| key.bytes().clone())
        .or_else(|| work.cut.take());
    Page { keys, next }
}

fn set_cover(mut needs: Vec<u8>, mut covers: BTreeMap<NodeId, Vec<u32>>, me: NodeId) -> BTreeSet<NodeId> {
    let mut chosen = BTreeSet::new();
    let mut next = covers.contains_key(&me).then_some(me);
    while needs.iter().any(|&need| need > 0) {
        let gain = |partitions: &Vec<u32>| partitions.iter().filter(|&&index| needs[index as usize] > 0).count();
        let best = next.take().or_else(|| {
            covers
                .iter()
                .max_by_key(|(_, partitions)| gain(partitions))
                .map(|(&node, _)| node)
        });
        let Some(best) = best else { break };
        for index in covers.remove(&best).unwrap_or_default() {
            needs[index as usize] = needs[index as usize].saturating_sub(1);
        }
        chosen.insert(best);
    }
    chosen
}
