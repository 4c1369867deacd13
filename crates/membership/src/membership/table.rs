//! The table of members is a join of records: whoever hears the same, in whatever order, has the same.

use annulus_causality::Instant;

use super::Membership;
use crate::action::Action;
use crate::hello::HelloError;
use crate::peer::{Peer, Standing};
use crate::record::{MAX_MEMBERS, MemberRecord};

impl Membership {
    pub(super) fn table(&self) -> impl Iterator<Item = &Peer> {
        let formed = self.cluster.is_some();
        self.peers
            .values()
            .filter(move |peer| !formed || peer.standing == Standing::Member)
    }

    pub(super) fn table_records(&self) -> Vec<MemberRecord> {
        self.table().map(Peer::record).chain([&self.me]).cloned().collect()
    }

    pub(super) fn refresh_fingerprint(&mut self) {
        let fingerprint = self
            .table()
            .map(Peer::fingerprint)
            .fold(self.me.fingerprint(), u64::wrapping_add);
        // While a cluster forms, everybody waits for everybody to be known.
        if self.cluster.is_none() && fingerprint != self.table_fingerprint {
            self.prompt.extend(self.peers.keys());
        }
        self.table_fingerprint = fingerprint;
    }

    /// Takes in what a member says of all; before there is a cluster, what another node without one says.
    pub(super) fn merge(&mut self, now: Instant, records: Vec<MemberRecord>, out: &mut Vec<Action>) {
        let standing = if self.cluster.is_some() {
            Standing::Member
        } else {
            Standing::Stranger
        };
        for record in records {
            if record.id() == self.me.id() {
                self.consider_own_record(&record);
            } else {
                self.learn(now, record, standing, out);
            }
        }
        self.refresh_fingerprint();
    }

    /// Takes in a record of another node, if it is new or replaces the one that is known.
    pub(super) fn learn(&mut self, now: Instant, record: MemberRecord, standing: Standing, out: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&record.id()) else {
            return self.learn_new(now, record, standing, out);
        };
        let admitted = standing == Standing::Member && peer.standing == Standing::Stranger;
        if admitted {
            peer.standing = standing;
        }
        let known = peer.record().peer.clone();
        let replaced = record != *peer.record() && record.replaces(peer.record());
        let moved = replaced && record.peer != known;
        let second = moved && peer.is_linked_and_alive();
        if replaced {
            peer.replace_record(record);
        }
        let (record, standing) = (peer.record().clone(), peer.standing);
        if moved {
            out.push(Action::Connect {
                address: record.peer.clone(),
            });
        }
        if second {
            let (name, address) = (record.member.name.clone(), record.peer.clone());
            self.tell(HelloError::NameTaken { name, known, address }.to_string(), out);
        }
        if (replaced || admitted) && self.shows(standing) {
            out.push(Action::MemberAdded { record });
        }
    }

    fn learn_new(&mut self, now: Instant, record: MemberRecord, standing: Standing, out: &mut Vec<Action>) {
        if self.peers.len() + 1 >= MAX_MEMBERS {
            let name = record.member.name;
            return self.tell(HelloError::TooMany { name }.to_string(), out);
        }
        let peer = Peer::new(record.clone(), standing, self.timing, now);
        self.next_silence = self.next_silence.min(peer.next_change());
        self.peers.insert(peer.id(), peer);
        out.push(Action::Connect {
            address: record.peer.clone(),
        });
        if self.shows(standing) {
            out.push(Action::MemberAdded { record });
        }
    }

    /// Whether a peer of this standing is in the table.
    fn shows(&self, standing: Standing) -> bool {
        self.cluster.is_none() || standing == Standing::Member
    }

    /// What others have of this node must not be newer than what it has of itself.
    pub(super) fn consider_own_record(&mut self, record: &MemberRecord) {
        if *record == self.me || !record.replaces(&self.me) {
            return;
        }
        if record.peer != self.me.peer {
            let text = format!(
                "{} is known at {} in a later incarnation than this start of it at {}: if a node still runs there, one of \
                 the two must stop",
                record.member.name, record.peer, self.me.peer
            );
            if self.said.insert(text.clone()) {
                self.pending.push(Action::Problem { text });
            }
        }
        self.consider_seen(record.incarnation);
    }

    pub(super) fn consider_seen(&mut self, seen: u64) {
        if seen >= self.me.incarnation && seen > self.outlived {
            self.outlived = seen;
            self.pending.push(Action::Outlived { seen });
        }
    }
}
