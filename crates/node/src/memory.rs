//! What a node must know of itself after a restart, beside its data: kept in the engine, in the same batches.

use std::collections::BTreeMap;

use annulus_causality::{Reader, TokenKey, put_varint};
use annulus_membership::{ClusterId, Known, MemberRecord, Secret, Vote, Witnessed};
use annulus_protocol::BucketRecord;
use annulus_ring::{NodeId, Ring};
use annulus_storage::{Engine, Replica};
use bytes::Bytes;

use crate::buckets::Registry;

const INCARNATION: &str = "incarnation";
const SECRET: &str = "founder-secret";
const VOTE: &str = "vote";
const CLUSTER: &str = "cluster";
const RING: &str = "ring";
const MEMBERS: &str = "members";
const BUCKETS: &str = "buckets";
const WITNESS: &str = "witness";

/// Why a node cannot start from its directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine could not be read.
    #[error("the node's own records cannot be read: {0}")]
    Storage(String),
    /// A record is there, but not in a form that this version reads.
    #[error(
        "the node's own record `{name}` cannot be read: {detail}; nothing was changed; a newer version may have written it"
    )]
    Record {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// The cluster that the node belongs to.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) key: TokenKey,
    pub(crate) ring: Ring,
}

/// What was remembered.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) incarnation: u64,
    pub(crate) secret: Option<Secret>,
    pub(crate) vote: Option<Vote>,
    pub(crate) known: Option<Known>,
    pub(crate) ring: Option<Ring>,
    pub(crate) buckets: Registry,
    pub(crate) witness: BTreeMap<NodeId, Witnessed>,
}

impl Memory {
    pub(crate) fn load<E: Engine>(replica: &Replica<E>) -> Result<Memory, OpenError> {
        let get = |name| {
            replica
                .get_meta(name)
                .map_err(|error| OpenError::Storage(error.to_string()))
        };
        let mut memory = Memory::default();
        if let Some(bytes) = get(INCARNATION)? {
            memory.incarnation = u64::from_be_bytes(array(INCARNATION, &bytes)?);
        }
        memory.secret = get(SECRET)?
            .map(|bytes| array(SECRET, &bytes).map(Secret::new))
            .transpose()?;
        memory.vote = get(VOTE)?.map(|bytes| read(VOTE, bytes, Vote::decode)).transpose()?;
        memory.ring = get(RING)?
            .map(|bytes| {
                Ring::decode(&bytes).map_err(|error| OpenError::Record {
                    name: RING,
                    detail: error.to_string(),
                })
            })
            .transpose()?;
        let members = get(MEMBERS)?
            .map(|bytes| read(MEMBERS, bytes, decode_members))
            .transpose()?
            .unwrap_or_default();
        memory.known = get(CLUSTER)?.map(|bytes| decode_cluster(&bytes, members)).transpose()?;
        memory.witness = get(WITNESS)?
            .map(|bytes| read(WITNESS, bytes, decode_witness))
            .transpose()?
            .unwrap_or_default();
        for record in get(BUCKETS)?
            .map(|bytes| read(BUCKETS, bytes, decode_buckets))
            .transpose()?
            .unwrap_or_default()
        {
            memory.buckets.merge(record);
        }
        Ok(memory)
    }
}

pub(crate) fn put_incarnation<E: Engine>(replica: &mut Replica<E>, incarnation: u64) {
    replica.put_meta(INCARNATION, &incarnation.to_be_bytes());
}

pub(crate) fn put_secret<E: Engine>(replica: &mut Replica<E>, secret: &Secret) {
    replica.put_meta(SECRET, secret.bytes());
}

pub(crate) fn put_vote<E: Engine>(replica: &mut Replica<E>, vote: &Vote) {
    replica.put_meta(VOTE, &encoded(|out| vote.encode(out)));
}

pub(crate) fn put_cluster<E: Engine>(replica: &mut Replica<E>, id: ClusterId, key: &Secret) {
    let bytes = [&id.0[..], &key.bytes()[..]].concat();
    replica.put_meta(CLUSTER, &bytes);
}

pub(crate) fn put_ring<E: Engine>(replica: &mut Replica<E>, ring: &Ring) {
    replica.put_meta(RING, &encoded(|out| ring.encode(out)));
}

pub(crate) fn put_members<'a, E: Engine>(replica: &mut Replica<E>, members: impl Iterator<Item = &'a MemberRecord>) {
    replica.put_meta(MEMBERS, &encoded(|out| members.for_each(|member| member.encode(out))));
}

pub(crate) fn put_buckets<E: Engine>(replica: &mut Replica<E>, records: &[BucketRecord]) {
    replica.put_meta(
        BUCKETS,
        &encoded(|out| records.iter().for_each(|record| record.encode(out))),
    );
}

pub(crate) fn put_witness<E: Engine>(replica: &mut Replica<E>, peers: &BTreeMap<NodeId, Witnessed>) {
    let bytes = encoded(|out| {
        for (peer, said) in peers {
            put_varint(out, peer.0);
            put_varint(out, said.incarnation);
            put_varint(out, said.batch);
        }
    });
    replica.put_meta(WITNESS, &bytes);
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn array<const N: usize>(name: &'static str, bytes: &[u8]) -> Result<[u8; N], OpenError> {
    bytes.try_into().map_err(|_| OpenError::Record {
        name,
        detail: format!("{} bytes instead of {N}", bytes.len()),
    })
}

fn read<T>(
    name: &'static str,
    bytes: Bytes,
    decode: impl FnOnce(&mut Reader) -> Result<T, annulus_causality::DecodeError>,
) -> Result<T, OpenError> {
    decode(&mut Reader::new(bytes)).map_err(|error| OpenError::Record {
        name,
        detail: error.to_string(),
    })
}

fn decode_members(reader: &mut Reader) -> Result<Vec<MemberRecord>, annulus_causality::DecodeError> {
    let mut members = Vec::new();
    while !reader.is_empty() {
        members.push(MemberRecord::decode(reader)?);
    }
    Ok(members)
}

fn decode_witness(reader: &mut Reader) -> Result<BTreeMap<NodeId, Witnessed>, annulus_causality::DecodeError> {
    let mut peers = BTreeMap::new();
    while !reader.is_empty() {
        let peer = NodeId(reader.varint("node")?);
        let (incarnation, batch) = (reader.varint("incarnation")?, reader.varint("batch")?);
        peers.insert(peer, Witnessed { incarnation, batch });
    }
    Ok(peers)
}

fn decode_buckets(reader: &mut Reader) -> Result<Vec<BucketRecord>, annulus_causality::DecodeError> {
    let mut records = Vec::new();
    while !reader.is_empty() {
        records.push(BucketRecord::decode(reader)?);
    }
    Ok(records)
}

fn decode_cluster(bytes: &[u8], members: Vec<MemberRecord>) -> Result<Known, OpenError> {
    let bytes: [u8; 48] = array(CLUSTER, bytes)?;
    let (id, key) = bytes.split_at(16);
    Ok(Known {
        cluster: ClusterId(array(CLUSTER, id)?),
        key: Secret::new(array(CLUSTER, key)?),
        members,
    })
}
