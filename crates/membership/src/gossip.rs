//! The one frame that members exchange every heartbeat: small while nothing changes, whole tables when something did.

use annulus_causality::{DecodeError, Instant, Reader, put_bytes, put_u8, put_varint};
use annulus_ring::{NodeName, Partitions};

use crate::hello::{decode_cluster, encode_cluster};
use crate::record::{ClusterId, MAX_MEMBERS, MIN_RECORD_BYTES, MemberRecord, decode_name};
use crate::secret::{Secret, array};
use crate::vote::{Digest, MAX_FOUNDERS};

/// What a node says every heartbeat to every peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip {
    /// The sayer's clock when it was said.
    pub clock: Instant,
    /// The sayer's incarnation: a frame of an earlier life, read late, must not speak for this one.
    pub incarnation: u64,
    /// The sayer's cluster; none before it is formed or joined.
    pub cluster: Option<ClusterId>,
    /// Whether the sayer hears the one it speaks to: where it does not, requests do not arrive either.
    pub hears_you: bool,
    /// What the sayer has of the ring and the buckets.
    pub advertised: Advertised,
    /// Of the sayer's table of members.
    pub members_fingerprint: u64,
    /// The whole table, where the other's last fingerprint was another.
    pub members: Option<Vec<MemberRecord>>,
    /// What it takes to form or join a cluster, as long as one of the two has none.
    pub formation: Option<Formation>,
}

/// What a node has of the things that spread beside membership, to be compared with what a peer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// The ring's epoch; 0 without a ring.
    pub epoch: u64,
    /// The ring's fingerprint.
    pub ring_fingerprint: u64,
    /// Of all bucket declarations.
    pub buckets_fingerprint: u64,
}

/// What it takes to form a cluster, or to join one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formation {
    /// The sayer would found a cluster.
    Candidate(Candidate),
    /// The sayer belongs to the frame's cluster, and lets the other in.
    Welcome {
        /// The cluster's key.
        key: Secret,
    },
}

/// A node that was started with `--bootstrap-expect` and has no cluster yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How many founders it expects, itself among them.
    pub expect: u32,
    /// The replication factor it was started with.
    pub replicas: u8,
    /// The number of partitions it was started with.
    pub partitions: Partitions,
    /// Its own share of the cluster's id and key.
    pub secret: Secret,
    /// What it would vote for now: exactly as many founders as it expects are in its sight.
    pub proposal: Option<Digest>,
    /// What it has voted for, which stays.
    pub vote: Option<ShownVote>,
}

/// A vote as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownVote {
    /// Of the vote.
    pub digest: Digest,
    /// The founders' names, sorted, for people to read where votes differ.
    pub founders: Vec<NodeName>,
}

const HEARS_YOU: u8 = 1;
const HAS_MEMBERS: u8 = 1 << 1;
const IS_CANDIDATE: u8 = 1 << 2;
const IS_WELCOME: u8 = 1 << 3;
const HAS_PROPOSAL: u8 = 1;
const HAS_VOTE: u8 = 1 << 1;

impl Gossip {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let formation = match &self.formation {
            None => 0,
            Some(Formation::Candidate(_)) => IS_CANDIDATE,
            Some(Formation::Welcome { .. }) => IS_WELCOME,
        };
        put_u8(
            out,
            flag(self.hears_you, HEARS_YOU) | flag(self.members.is_some(), HAS_MEMBERS) | formation,
        );
        put_varint(out, self.clock.nanos());
        put_varint(out, self.incarnation);
        encode_cluster(self.cluster, out);
        put_varint(out, self.advertised.epoch);
        for fingerprint in [
            self.advertised.ring_fingerprint,
            self.advertised.buckets_fingerprint,
            self.members_fingerprint,
        ] {
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
        if let Some(members) = &self.members {
            put_varint(out, members.len() as u64);
            members.iter().for_each(|record| record.encode(out));
        }
        match &self.formation {
            None => {}
            Some(Formation::Candidate(candidate)) => candidate.encode(out),
            Some(Formation::Welcome { key }) => key.encode(out),
        }
    }

    /// Reads what [`Gossip::encode`] wrote; tables of more than [`MAX_MEMBERS`] are refused.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.u8("gossip")?;
        let formation = flags & (IS_CANDIDATE | IS_WELCOME);
        if flags > IS_WELCOME | IS_CANDIDATE | HAS_MEMBERS | HEARS_YOU || formation == IS_CANDIDATE | IS_WELCOME {
            return Err(reader.malformed("gossip"));
        }
        Ok(Self {
            clock: Instant::from_nanos(reader.varint("clock")?),
            incarnation: reader.varint("incarnation")?,
            cluster: decode_cluster(reader)?,
            hears_you: flags & HEARS_YOU != 0,
            advertised: Advertised {
                epoch: reader.varint("epoch")?,
                ring_fingerprint: fingerprint(reader)?,
                buckets_fingerprint: fingerprint(reader)?,
            },
            members_fingerprint: fingerprint(reader)?,
            members: if flags & HAS_MEMBERS == 0 {
                None
            } else {
                Some(decode_table(reader)?)
            },
            formation: match formation {
                IS_CANDIDATE => Some(Formation::Candidate(Candidate::decode(reader)?)),
                IS_WELCOME => Some(Formation::Welcome {
                    key: Secret::decode(reader)?,
                }),
                _ => None,
            },
        })
    }
}

impl Candidate {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.expect));
        put_u8(out, self.replicas);
        put_varint(out, u64::from(self.partitions.count()));
        self.secret.encode(out);
        put_u8(
            out,
            flag(self.proposal.is_some(), HAS_PROPOSAL) | flag(self.vote.is_some(), HAS_VOTE),
        );
        if let Some(proposal) = &self.proposal {
            out.extend_from_slice(&proposal.0);
        }
        if let Some(vote) = &self.vote {
            out.extend_from_slice(&vote.digest.0);
            put_varint(out, vote.founders.len() as u64);
            vote.founders
                .iter()
                .for_each(|name| put_bytes(out, name.as_str().as_bytes()));
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let expect = u32::try_from(reader.varint("expected founders")?).map_err(|_| reader.malformed("candidate"))?;
        let replicas = reader.u8("replicas")?;
        let partitions = crate::vote::decode_partitions(reader)?;
        let secret = Secret::decode(reader)?;
        let flags = reader.u8("candidate")?;
        if flags > HAS_PROPOSAL | HAS_VOTE {
            return Err(reader.malformed("candidate"));
        }
        let proposal = if flags & HAS_PROPOSAL == 0 {
            None
        } else {
            Some(Digest(array(reader, "proposal")?))
        };
        let vote = if flags & HAS_VOTE == 0 {
            None
        } else {
            Some(ShownVote::decode(reader)?)
        };
        Ok(Self {
            expect,
            replicas,
            partitions,
            secret,
            proposal,
            vote,
        })
    }
}

impl ShownVote {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let digest = Digest(array(reader, "vote")?);
        let count = reader.count(2, "founders")?;
        if count > MAX_FOUNDERS {
            return Err(reader.malformed("founders"));
        }
        let founders = (0..count).map(|_| decode_name(reader)).collect::<Result<_, _>>()?;
        Ok(Self { digest, founders })
    }
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn fingerprint(reader: &mut Reader) -> Result<u64, DecodeError> {
    array(reader, "fingerprint").map(u64::from_le_bytes)
}

fn decode_table(reader: &mut Reader) -> Result<Vec<MemberRecord>, DecodeError> {
    let count = reader.count(MIN_RECORD_BYTES, "members")?;
    if count > MAX_MEMBERS {
        return Err(reader.malformed("members"));
    }
    (0..count).map(|_| MemberRecord::decode(reader)).collect()
}
