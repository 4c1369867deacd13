//! A vote names the founders of a cluster by their secrets, and the cluster's id and key follow from it.

use annulus_causality::{DecodeError, Reader, put_u8, put_varint};
use annulus_ring::{Member, Partitions};

use crate::record::{ClusterId, decode_member, encode_member};
use crate::secret::Secret;

/// More founders than this are refused: form with a few, and add the others to the ring.
pub const MAX_FOUNDERS: usize = 256;

/// The format of a stored vote.
const FORMAT: u8 = 1;

/// A founder, by name and by the secret that its data directory was made with: a node that lost its directory is
/// another founder, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Name, region, zone and capacity: the first ring is planned from them.
    pub member: Member,
    /// Its share of the cluster's id and key.
    pub secret: Secret,
}

/// What a founder votes for, once: these founders and no others, and all that the first ring is planned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    founders: Vec<Founder>,
    replicas: u8,
    partitions: Partitions,
}

/// Names a [`Vote`] in 32 bytes: equal only where everything in it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Vote {
    /// A vote for these founders, in whatever order they come.
    pub(crate) fn new(mut founders: Vec<Founder>, replicas: u8, partitions: Partitions) -> Self {
        founders.sort_by(|a, b| a.member.name.cmp(&b.member.name));
        Self {
            founders,
            replicas,
            partitions,
        }
    }

    /// The founders, sorted by name.
    pub fn founders(&self) -> &[Founder] {
        &self.founders
    }

    /// The replication factor.
    pub fn replicas(&self) -> u8 {
        self.replicas
    }

    /// The number of partitions.
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The founders as members, sorted by name.
    pub fn members(&self) -> Vec<Member> {
        self.founders.iter().map(|founder| founder.member.clone()).collect()
    }

    /// Names the vote.
    pub fn digest(&self) -> Digest {
        Digest(self.derive("annulus 2026 first formation: vote"))
    }

    /// The id of the cluster that is formed when all founders have voted so.
    pub fn cluster(&self) -> ClusterId {
        let derived = self.derive("annulus 2026 first formation: cluster id");
        let mut id = [0; 16];
        id.copy_from_slice(&derived[..16]);
        ClusterId(id)
    }

    /// The key of that cluster: who knows all secrets, and only who does, can compute it.
    pub fn key(&self) -> Secret {
        Secret::new(self.derive("annulus 2026 first formation: cluster key"))
    }

    fn derive(&self, domain: &str) -> [u8; 32] {
        let mut encoded = Vec::new();
        self.encode(&mut encoded);
        blake3::derive_key(domain, &encoded)
    }

    /// Appends the encoding, which holds the founders' secrets.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, FORMAT);
        put_u8(out, self.replicas);
        put_varint(out, u64::from(self.partitions.count()));
        put_varint(out, self.founders.len() as u64);
        for founder in &self.founders {
            encode_member(&founder.member, out);
            founder.secret.encode(out);
        }
    }

    /// Reads what [`Vote::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        if reader.u8("vote")? != FORMAT {
            return Err(reader.malformed("vote's format"));
        }
        let replicas = reader.u8("replicas")?;
        let partitions = decode_partitions(reader)?;
        let count = reader.count(37, "founders")?;
        if count > MAX_FOUNDERS {
            return Err(reader.malformed("founders"));
        }
        let founders = (0..count)
            .map(|_| {
                Ok(Founder {
                    member: decode_member(reader)?,
                    secret: Secret::decode(reader)?,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if !founders.is_sorted_by(|a, b| a.member.name < b.member.name) {
            return Err(reader.malformed("founders"));
        }
        Ok(Self {
            founders,
            replicas,
            partitions,
        })
    }
}

pub(crate) fn decode_partitions(reader: &mut Reader) -> Result<Partitions, DecodeError> {
    u32::try_from(reader.varint("partitions")?)
        .ok()
        .and_then(|count| Partitions::new(count).ok())
        .ok_or_else(|| reader.malformed("partitions"))
}
