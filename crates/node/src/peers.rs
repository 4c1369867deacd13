//! Peers come, go and spread what they know; whatever waits for one that went is told at once.

use annulus_causality::{Instant, TokenKey};
use annulus_membership::{Action, Advertised, ClusterId, Gossip, Hello, Liveness, Secret, next_incarnation};
use annulus_protocol::Message;
use annulus_ring::{NodeId, PlanError, Ring, plan};
use annulus_storage::Engine;
use rand::RngExt;

use crate::buckets::Stored;
use crate::durable::Completion;
use crate::io::{Effect, Level};
use crate::memory::{self, Cluster};
use crate::node::Node;
use crate::settings::Now;
use crate::tasks::Work;

impl<E: Engine> Node<E> {
    pub(crate) fn on_link_up(&mut self, now: Now, hello: &Hello, out: &mut Vec<Effect>) {
        self.check_witness(hello, out);
        self.membership_event(now, out, |membership, now, actions| {
            membership.on_link_up(now, hello, actions)
        });
    }

    /// A peer that has seen more of this directory than there is proves that it was restored, cloned, wiped, or lost by the disk.
    fn check_witness(&mut self, hello: &Hello, out: &mut Vec<Effect>) {
        if self.witness.contradicts(self.incarnation, hello.witnessed) {
            let name = &hello.record.member.name;
            let text = format!(
                "{name} has seen a later state of this node's data directory than it holds: it was restored from a backup, cloned or \
                 emptied, or the disk has lost something. All of it answers for nothing until it has caught up with the other owners, \
                 which goes on by itself."
            );
            self.warn_once("witness", text, out);
            self.doubt_all();
        }
    }

    pub(crate) fn on_accepted(&mut self, now: Now, hello: &Hello, out: &mut Vec<Effect>) {
        self.check_witness(hello, out);
        self.membership_event(now, out, |membership, now, actions| {
            membership.on_accepted(now, hello, actions)
        });
    }

    pub(crate) fn on_link_down(&mut self, now: Now, peer: NodeId, out: &mut Vec<Effect>) {
        self.membership_event(now, out, |membership, now, actions| {
            membership.on_link_down(now, peer, actions)
        });
        self.on_unreachable(now, peer, out);
    }

    /// Spreads what differs: the older ring is answered with the newer, other buckets with all of them.
    pub(crate) fn on_gossip(&mut self, now: Now, from: NodeId, gossip: Gossip, out: &mut Vec<Effect>) {
        let theirs = gossip.advertised;
        self.membership_event(now, out, |membership, now, actions| {
            membership.on_gossip(now, from, gossip, actions)
        });
        let Some(cluster) = &self.cluster else { return };
        let ours = self.advertised();
        if theirs.epoch < ours.epoch {
            let mut ring = Vec::new();
            cluster.ring.encode(&mut ring);
            out.push(Effect::Send {
                to: from,
                message: Message::Ring(ring.into()),
            });
        } else if theirs.epoch == ours.epoch && theirs.ring_fingerprint != ours.ring_fingerprint {
            let name = self.name_of(from);
            let text = format!(
                "{name} has another ring for epoch {}: one epoch has one content. Stop it and look at its data directory.",
                ours.epoch
            );
            self.warn_once("epoch", text, out);
        }
        if theirs.buckets_fingerprint != ours.buckets_fingerprint && ours.buckets_fingerprint != 0 {
            out.push(Effect::Send {
                to: from,
                message: Message::Buckets(self.buckets.records()),
            });
        }
    }

    /// The ring of a later epoch.
    pub(crate) fn on_ring(&mut self, now: Now, bytes: &[u8], out: &mut Vec<Effect>) {
        let ring = match Ring::decode(bytes) {
            Ok(ring) => ring,
            Err(error) => return self.warn_once("ring", format!("A peer sent a ring that is none: {error}."), out),
        };
        let (Some(id), Some(key)) = (self.membership.cluster(), self.membership.key()) else {
            return;
        };
        if self
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.ring.epoch() >= ring.epoch())
        {
            return;
        }
        self.adopt(now, (id, key), ring, out);
    }

    /// Runs membership on an event, and does what it wants done.
    pub(crate) fn membership_event(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        event: impl FnOnce(&mut annulus_membership::Membership, Instant, &mut Vec<Action>),
    ) {
        let mut actions = std::mem::take(&mut self.actions);
        event(&mut self.membership, now.monotonic, &mut actions);
        for action in actions.drain(..) {
            self.on_action(now, action, out);
        }
        self.actions = actions;
    }

    fn on_action(&mut self, now: Now, action: Action, out: &mut Vec<Effect>) {
        match action {
            Action::Send { to, gossip } => out.push(Effect::Send {
                to,
                message: Message::Gossip(gossip),
            }),
            Action::Connect { address } => out.push(Effect::Connect { address }),
            Action::Changed { node, liveness } => self.on_changed(now, node, liveness, out),
            Action::MemberAdded { record } => {
                self.persist_members();
                let text = format!("{} is there, at {}.", record.member.name, record.peer);
                out.push(Effect::Log {
                    level: Level::Info,
                    text,
                });
            }
            Action::Persist { vote } => {
                memory::put_vote(&mut self.replica, &vote);
                self.durable.after_sync(Completion::Vote);
            }
            Action::Formed {
                cluster,
                key,
                members,
                replicas,
                partitions,
            } => {
                self.on_formed(now, (cluster, key), plan(None, members, partitions, replicas), out);
            }
            Action::Joined { cluster, key } => {
                memory::put_cluster(&mut self.replica, cluster, &key);
                self.persist_members();
                // It may own partitions that it knows nothing of: it was not there when the cluster formed.
                self.doubt_all();
                out.push(Effect::Formed {
                    cluster: cluster.to_string(),
                });
            }
            Action::Outlived { seen } => self.take_incarnation(now, seen, out),
            Action::Problem { text } => out.push(Effect::Log {
                level: Level::Warn,
                text,
            }),
        }
    }

    fn on_formed(
        &mut self,
        now: Now,
        (id, key): (ClusterId, Secret),
        planned: Result<Ring, PlanError>,
        out: &mut Vec<Effect>,
    ) {
        match planned {
            Ok(ring) => {
                memory::put_cluster(&mut self.replica, id, &key);
                self.adopt(now, (id, key), ring, out);
            }
            Err(error) => {
                let text = format!(
                    "The cluster's first ring cannot be planned: {error}. Correct the founders' settings and start them anew."
                );
                out.push(Effect::Log {
                    level: Level::Error,
                    text,
                });
            }
        }
    }

    /// Serves by this ring from now on.
    fn adopt(&mut self, now: Now, (id, key): (ClusterId, Secret), ring: Ring, out: &mut Vec<Effect>) {
        memory::put_ring(&mut self.replica, &ring);
        let text = format!(
            "Serving in cluster {id} by the ring of epoch {} with {} members.",
            ring.epoch(),
            ring.members().len()
        );
        out.push(Effect::Log {
            level: Level::Info,
            text,
        });
        out.push(Effect::Formed {
            cluster: id.to_string(),
        });
        self.cluster = Some(Cluster {
            id,
            key: TokenKey::new(*key.bytes()),
            ring,
        });
        self.persist_members();
        self.advertise();
        self.settle(now);
    }

    fn on_changed(&mut self, now: Now, node: NodeId, liveness: Liveness, out: &mut Vec<Effect>) {
        let level = match liveness {
            Liveness::Alive => Level::Info,
            _ => Level::Warn,
        };
        // One that lives and cannot be reached yet is told of once it can be.
        if liveness != Liveness::Alive || self.is_reachable(node) {
            let text = format!("{} is {}.", self.name_of(node), liveness.as_str());
            out.push(Effect::Log { level, text });
        }
        if self.is_reachable(node) {
            self.settle(now);
            self.catch_up_with(node, out);
            self.on_forward_link_up(now, node, out);
        } else {
            self.on_unreachable(now, node, out);
        }
    }

    /// Nothing more is expected of `peer`: others are asked in its place.
    fn on_unreachable(&mut self, now: Now, peer: NodeId, out: &mut Vec<Effect>) {
        self.handoff.on_link_down(peer);
        self.drop_co_owner(peer);
        self.closing.interrupt(peer);
        for id in self.tasks.awaiting(peer) {
            match self.tasks.kind(id) {
                Some(Work::Write(_)) => self.on_write_failure(now, id, peer, out),
                Some(Work::Read(_)) => self.on_read_failure(now, id, peer, out),
                Some(Work::Forward(_)) => self.on_forward_failure(now, id, peer, out),
                Some(Work::List(_)) => self.on_list_failure(now, id, out),
                Some(Work::Declare(_)) => self.on_declared(now, id, peer, Stored::No, out),
                None => {}
            }
        }
    }

    /// A directory of yesterday must not speak for what came after it: this node is another actor from now on.
    fn take_incarnation(&mut self, now: Now, seen: u64, out: &mut Vec<Effect>) {
        self.incarnation = next_incarnation(seen.max(self.incarnation), self.rng.random());
        self.witness.reopen(self.replica.last_batch());
        self.doubt_all();
        memory::put_incarnation(&mut self.replica, self.incarnation);
        let incarnation = self.incarnation;
        self.membership_event(now, out, |membership, now, actions| {
            membership.set_incarnation(now, incarnation, actions)
        });
        let text = "A peer has seen a later life of this node than its directory knows: it was restored from a backup, or cloned. \
                    It goes on as a new actor, and answers for nothing until it has caught up with the other owners.";
        out.push(Effect::Log {
            level: Level::Warn,
            text: text.into(),
        });
    }

    pub(crate) fn advertised(&self) -> Advertised {
        Advertised {
            epoch: self.cluster.as_ref().map_or(0, |cluster| cluster.ring.epoch()),
            ring_fingerprint: self.cluster.as_ref().map_or(0, |cluster| cluster.ring.fingerprint()),
            buckets_fingerprint: self.buckets.fingerprint(),
        }
    }

    pub(crate) fn advertise(&mut self) {
        let advertised = self.advertised();
        self.membership.advertise(advertised);
    }

    pub(crate) fn persist_buckets(&mut self) {
        memory::put_buckets(&mut self.replica, &self.buckets.records());
    }

    fn persist_members(&mut self) {
        let members = self.membership.members();
        memory::put_members(&mut self.replica, members.iter().map(|state| state.record));
    }
}
