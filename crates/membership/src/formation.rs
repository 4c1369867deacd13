//! First formation without a coordinator: a founder votes once, and a cluster is what all its founders voted for.
//!
//! A founder *proposes* when exactly as many founders as it expects are in its sight, *votes* when all of them propose
//! the same, and *forms* when all have voted the same. Safety rests on the vote alone: it is stored before it is shown
//! and never changed, so of two sets that share a founder at most one can collect all its votes. The proposals only make
//! it unlikely that votes are spent on a set that somebody sees differently.

use annulus_ring::{Member, NodeName, Partitions};

use crate::gossip::{Candidate, ShownVote};
use crate::vote::{Digest, Founder, Vote};

/// A founder as another one sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting<'a> {
    pub(crate) member: &'a Member,
    pub(crate) candidate: &'a Candidate,
    /// Whether it lives, as far as is known. What it has voted for stays, even if it does not.
    pub(crate) in_sight: bool,
}

/// What follows from what was seen.
#[derive(Debug)]
pub(crate) enum Step {
    /// The vote is cast: it must be stored before it is shown.
    Persist(Vote),
    /// All have voted so.
    Formed(Vote),
}

/// Why there is no cluster yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// Time will tell.
    Waiting(String),
    /// It takes a person.
    Problem(String),
}

impl Obstacle {
    pub(crate) fn into_text(self) -> String {
        match self {
            Obstacle::Waiting(text) | Obstacle::Problem(text) => text,
        }
    }
}

#[derive(Debug)]
enum Ballot {
    Open,
    /// On its way to the disk.
    Cast(Vote),
    Stored(Vote),
}

/// What a founder knows and has done.
#[derive(Debug)]
pub(crate) struct Founding {
    me: Founder,
    expect: usize,
    replicas: u8,
    partitions: Partitions,
    ballot: Ballot,
}

impl Founding {
    pub(crate) fn new(me: Founder, expect: usize, replicas: u8, partitions: Partitions) -> Self {
        Self {
            me,
            expect,
            replicas,
            partitions,
            ballot: Ballot::Open,
        }
    }

    /// After a restart: what was voted holds, whatever the node is started with now.
    pub(crate) fn resume(me: Founder, vote: Vote) -> Self {
        Self {
            me,
            expect: vote.founders().len(),
            replicas: vote.replicas(),
            partitions: vote.partitions(),
            ballot: Ballot::Stored(vote),
        }
    }

    /// What was voted for, stored or not: it binds from the moment it is cast.
    pub(crate) fn vote(&self) -> Option<&Vote> {
        match &self.ballot {
            Ballot::Open => None,
            Ballot::Cast(vote) | Ballot::Stored(vote) => Some(vote),
        }
    }

    pub(crate) fn on_vote_stored(&mut self) {
        self.ballot = match std::mem::replace(&mut self.ballot, Ballot::Open) {
            Ballot::Open => Ballot::Open,
            Ballot::Cast(vote) | Ballot::Stored(vote) => Ballot::Stored(vote),
        };
    }

    pub(crate) fn step(&mut self, seen: &[Sighting<'_>]) -> Option<Step> {
        match &self.ballot {
            Ballot::Open => {
                let proposal = self.proposal(seen).ok()?;
                let digest = proposal.digest();
                let agreed = self
                    .others(&proposal, seen)
                    .all(|(_, sighting)| proposes(sighting, digest));
                agreed.then(|| {
                    self.ballot = Ballot::Cast(proposal.clone());
                    Step::Persist(proposal)
                })
            }
            Ballot::Cast(_) => None,
            Ballot::Stored(vote) => {
                let digest = vote.digest();
                let all = self
                    .others(vote, seen)
                    .all(|(_, sighting)| shown(sighting).is_some_and(|v| v.digest == digest));
                all.then(|| Step::Formed(vote.clone()))
            }
        }
    }

    /// What this founder says to others now.
    pub(crate) fn announce(&self, seen: &[Sighting<'_>]) -> Candidate {
        let (proposal, vote) = match &self.ballot {
            Ballot::Open => (self.proposal(seen).ok().map(|vote| vote.digest()), None),
            // Saying what it will vote for is no vote.
            Ballot::Cast(vote) => (Some(vote.digest()), None),
            Ballot::Stored(vote) => (Some(vote.digest()), Some(show(vote))),
        };
        let (expect, replicas, partitions) = (self.expect as u32, self.replicas, self.partitions);
        Candidate {
            expect,
            replicas,
            partitions,
            secret: self.me.secret,
            proposal,
            vote,
        }
    }

    /// How many founders are not in sight yet.
    pub(crate) fn missing(&self, seen: &[Sighting<'_>]) -> usize {
        self.expect
            .saturating_sub(1 + seen.iter().filter(|sighting| sighting.in_sight).count())
    }

    /// What stands between this founder and a cluster.
    pub(crate) fn obstacle(&self, seen: &[Sighting<'_>]) -> Obstacle {
        match (self.vote(), self.proposal(seen)) {
            (Some(vote), _) => self.obstacle_to_votes(vote, seen),
            (None, Ok(proposal)) => self.obstacle_to_agreement(&proposal, seen),
            (None, Err(obstacle)) => obstacle,
        }
    }

    /// All founders in sight, if they are as many as expected and started alike.
    fn proposal(&self, seen: &[Sighting<'_>]) -> Result<Vote, Obstacle> {
        let seen: Vec<_> = seen.iter().filter(|sighting| sighting.in_sight).collect();
        if let Some(text) = seen.iter().find_map(|sighting| self.started_otherwise(sighting)) {
            return Err(Obstacle::Problem(text));
        }
        let founders = seen
            .iter()
            .map(|sighting| Founder {
                member: sighting.member.clone(),
                secret: sighting.candidate.secret,
            })
            .chain([self.me.clone()])
            .collect::<Vec<_>>();
        let vote = Vote::new(founders, self.replicas, self.partitions);
        let (count, expect) = (vote.founders().len(), self.expect);
        let names = names(vote.founders().iter().map(|founder| &founder.member.name));
        match count {
            _ if count > expect => Err(Obstacle::Problem(format!(
                "{count} founders are in sight ({names}), but {expect} are expected: stop those that do not belong, or \
                 start them without --bootstrap-expect so that they join"
            ))),
            _ if count < expect => Err(Obstacle::Waiting(format!(
                "waiting for {} more of {expect} founders; in sight: {names}",
                expect - count
            ))),
            _ => Ok(vote),
        }
    }

    fn started_otherwise(&self, other: &Sighting<'_>) -> Option<String> {
        let (name, theirs) = (&other.member.name, other.candidate);
        let differs = |flag: &str, theirs: u64, ours: u64| {
            (theirs != ours).then(|| {
                format!(
                    "{name} was started with {flag} {theirs}, this node with {ours}: founders must be started alike"
                )
            })
        };
        differs("--bootstrap-expect", theirs.expect.into(), self.expect as u64)
            .or_else(|| differs("--replicas", theirs.replicas.into(), self.replicas.into()))
            .or_else(|| {
                differs(
                    "--partitions",
                    theirs.partitions.count().into(),
                    self.partitions.count().into(),
                )
            })
    }

    /// The other founders of a vote, and what is known of each.
    fn others<'a>(
        &'a self,
        vote: &'a Vote,
        seen: &'a [Sighting<'a>],
    ) -> impl Iterator<Item = (&'a Founder, Option<&'a Sighting<'a>>)> {
        let others = vote
            .founders()
            .iter()
            .filter(|founder| founder.member.name != self.me.member.name);
        others.map(|founder| {
            (
                founder,
                seen.iter().find(|sighting| sighting.member.name == founder.member.name),
            )
        })
    }

    fn obstacle_to_agreement(&self, proposal: &Vote, seen: &[Sighting<'_>]) -> Obstacle {
        let digest = proposal.digest();
        let voted_otherwise = self.others(proposal, seen).find_map(|(founder, sighting)| {
            let vote = shown(sighting).filter(|vote| vote.digest != digest)?;
            Some(other_vote(
                &founder.member.name,
                vote,
                &names(proposal.founders().iter().map(|f| &f.member.name)),
            ))
        });
        if let Some(text) = voted_otherwise {
            return Obstacle::Problem(text);
        }
        let behind = self
            .others(proposal, seen)
            .filter(|(_, sighting)| !proposes(*sighting, digest));
        Obstacle::Waiting(format!(
            "all {} founders are in sight; waiting for {} to see them too",
            self.expect,
            names(behind.map(|(founder, _)| &founder.member.name))
        ))
    }

    fn obstacle_to_votes(&self, vote: &Vote, seen: &[Sighting<'_>]) -> Obstacle {
        let digest = vote.digest();
        let founders = names(vote.founders().iter().map(|founder| &founder.member.name));
        for (founder, sighting) in self.others(vote, seen) {
            let name = &founder.member.name;
            match (sighting, shown(sighting)) {
                (_, Some(other)) if other.digest != digest => {
                    return Obstacle::Problem(other_vote(name, other, &founders));
                }
                (Some(sighting), _) if sighting.candidate.secret != founder.secret => {
                    return Obstacle::Problem(format!(
                        "{name} was started with an empty data directory after this node had voted to found a cluster \
                         with it: if no founder serves yet, empty the data directories of {founders} and start again"
                    ));
                }
                _ => {}
            }
        }
        let silent = self
            .others(vote, seen)
            .filter(|(_, sighting)| shown(*sighting).is_none());
        Obstacle::Waiting(format!(
            "this node has voted to found a cluster of {founders}; waiting for the votes of {}",
            names(silent.map(|(founder, _)| &founder.member.name))
        ))
    }
}

fn shown<'a>(sighting: Option<&'a Sighting<'a>>) -> Option<&'a ShownVote> {
    sighting?.candidate.vote.as_ref()
}

fn proposes(sighting: Option<&Sighting<'_>>, digest: Digest) -> bool {
    sighting.is_some_and(|sighting| sighting.candidate.proposal == Some(digest))
}

fn show(vote: &Vote) -> ShownVote {
    let founders = vote
        .founders()
        .iter()
        .map(|founder| founder.member.name.clone())
        .collect();
    ShownVote {
        digest: vote.digest(),
        founders,
    }
}

fn other_vote(name: &NodeName, vote: &ShownVote, ours: &str) -> String {
    format!(
        "{name} has voted to found a cluster of {} as they were started then, this node sees {ours}: if no founder serves \
         yet, correct the join lists, empty the founders' data directories and start again",
        names(vote.founders.iter())
    )
}

/// "n1, n2 and n3".
fn names<'a>(names: impl Iterator<Item = &'a NodeName>) -> String {
    let names: Vec<_> = names.map(NodeName::as_str).collect();
    match names.split_last() {
        None => "nobody".to_owned(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

impl Founder {
    /// Whether this founder is among those of a vote: the same name with another secret is not.
    pub(crate) fn takes_part_in(&self, vote: &Vote) -> bool {
        let same = |founder: &Founder| founder.member.name == self.member.name && founder.secret == self.secret;
        vote.founders().iter().any(same)
    }
}
