//! A node enters one cluster, once: the one that it knew, the one that it voted for, or the one that lets it in.

use std::collections::BTreeSet;

use annulus_causality::Instant;

use super::{Membership, Settings};
use crate::action::Action;
use crate::formation::{Founding, Obstacle, Sighting, Step};
use crate::peer::{Peer, Standing};
use crate::record::{ClusterId, MemberRecord};
use crate::secret::Secret;
use crate::vote::{Founder, MAX_FOUNDERS, Vote};

impl Membership {
    pub(super) fn remember(&mut self, members: Vec<MemberRecord>) {
        for record in members {
            if record.id() == self.me.id() {
                self.consider_own_record(&record);
            } else {
                let peer = Peer::new(record, Standing::Member, self.timing, Instant::ZERO);
                self.peers.insert(peer.id(), peer);
            }
        }
    }

    pub(super) fn prepare_to_found(&mut self, settings: &Settings, secret: Secret, vote: Option<Vote>) {
        let me = Founder {
            member: self.me.member.clone(),
            secret,
        };
        match (vote, settings.bootstrap_expect) {
            (Some(vote), _) if me.takes_part_in(&vote) => self.founding = Some(Founding::resume(me, vote)),
            (Some(_), _) => self.say(format!(
                "the vote stored in the data directory is not of {}: start the node by the name that it had",
                me.member.name
            )),
            (None, Some(expect)) if (1..=MAX_FOUNDERS).contains(&expect) => {
                self.founding = Some(Founding::new(me, expect, settings.replicas, settings.partitions));
                if expect > 1 && self.join.is_empty() {
                    self.say(format!(
                        "{expect} founders are expected, but the join list names no other node: this one can only be \
                         found by others; start every founder with --join and the addresses of all"
                    ));
                }
            }
            (None, Some(expect)) => {
                self.say(format!("--bootstrap-expect must be 1 to {MAX_FOUNDERS}, not {expect}"));
            }
            (None, None) if self.join.is_empty() => self.say(
                "this node has no cluster, none to found (--bootstrap-expect) and no address to join (--join): it can \
                 only wait to be found"
                    .to_owned(),
            ),
            (None, None) => {}
        }
    }

    fn say(&mut self, text: String) {
        self.pending.push(Action::Problem { text });
    }

    pub(super) fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        let addresses = self
            .join
            .iter()
            .chain(self.peers.values().map(|peer| &peer.record().peer));
        let addresses: BTreeSet<_> = addresses.filter(|address| **address != self.me.peer).cloned().collect();
        out.extend(addresses.into_iter().map(|address| Action::Connect { address }));
        // Silence counts from now on, not from the start of the machine's clock.
        self.peers.values_mut().for_each(|peer| peer.forgive_silence(now));
        self.schedule_silence();
    }

    pub(super) fn sightings(&self) -> Vec<Sighting<'_>> {
        self.peers.values().filter_map(Peer::sighting).collect()
    }

    pub(super) fn advance_formation(&mut self, out: &mut Vec<Action>) {
        let Some(founding) = &mut self.founding else { return };
        let seen: Vec<_> = self.peers.values().filter_map(Peer::sighting).collect();
        match founding.step(&seen) {
            Some(Step::Formed(vote)) => return self.form(vote, out),
            Some(Step::Persist(vote)) => out.push(Action::Persist { vote }),
            None => {}
        }
        let (announced, obstacle) = (Some(founding.announce(&seen)), founding.obstacle(&seen));
        if announced != self.announced {
            self.announced = announced;
            self.prompt.extend(self.peers.keys());
        }
        let problem = match obstacle {
            Obstacle::Problem(text) => Some(text),
            Obstacle::Waiting(_) => None,
        };
        if problem != self.problem {
            out.extend(problem.clone().map(|text| Action::Problem { text }));
            self.problem = problem;
        }
    }

    pub(super) fn form(&mut self, vote: Vote, out: &mut Vec<Action>) {
        for founder in vote.founders() {
            if let Some(peer) = self.peers.get_mut(&founder.member.id()) {
                peer.standing = Standing::Member;
            }
        }
        self.enter(vote.cluster(), vote.key());
        out.push(Action::Formed {
            cluster: vote.cluster(),
            key: vote.key(),
            members: vote.members(),
            replicas: vote.replicas(),
            partitions: vote.partitions(),
        });
    }

    pub(super) fn join(&mut self, cluster: ClusterId, key: Secret, out: &mut Vec<Action>) {
        self.enter(cluster, key);
        out.push(Action::Joined { cluster, key });
    }

    fn enter(&mut self, cluster: ClusterId, key: Secret) {
        self.cluster = Some((cluster, key));
        self.founding = None;
        self.announced = None;
        self.problem = None;
        self.refresh_fingerprint();
        self.prompt.extend(self.peers.keys());
    }
}
