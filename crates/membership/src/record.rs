//! What a node says of itself to all others: the record with the greatest incarnation is the one that holds.

use std::fmt;

use annulus_causality::{DecodeError, Reader, put_bytes, put_varint};
use annulus_ring::{Capacity, MAX_NAME_BYTES, Member, NodeId, NodeName};
use xxhash_rust::xxh3::xxh3_64;

/// The longest address (`host:port`): a host name has at most 253 bytes.
pub const MAX_ADDRESS_BYTES: usize = 260;
/// The longest version.
pub const MAX_VERSION_BYTES: usize = 64;
/// A table of more members is refused: every node speaks to every other, and all planning is measured below this.
pub const MAX_MEMBERS: usize = 4096;

/// Random low bits of an incarnation.
const ENTROPY_BITS: u32 = 20;

/// A cluster's identity. Displayed as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id has 32 hexadecimal digits")]
pub struct ClusterIdError;

impl ClusterId {
    /// Reads what `Display` wrote.
    ///
    /// ```
    /// use annulus_membership::ClusterId;
    ///
    /// let id = ClusterId::parse("00112233445566778899aabbccddeeff")?;
    /// assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
    /// # Ok::<(), annulus_membership::ClusterIdError>(())
    /// ```
    pub fn parse(text: &str) -> Result<ClusterId, ClusterIdError> {
        // Without the check of every byte, `+1` would pass for a digit.
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ClusterIdError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| ClusterIdError)?;
        Ok(ClusterId(number.to_be_bytes()))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The incarnation for a start of a node after the greatest one that it or any peer has seen (0 before the first).
///
/// The low 20 bits are random: a node started from yesterday's copy of its directory would count to the number that it
/// already had yesterday, and must not be taken for the same actor.
///
/// ```
/// use annulus_membership::next_incarnation;
///
/// let first = next_incarnation(0, 0xdead_beef);
/// assert!(next_incarnation(first, 0) > first);
/// ```
pub const fn next_incarnation(last: u64, random: u64) -> u64 {
    let mask = (1 << ENTROPY_BITS) - 1;
    (((last >> ENTROPY_BITS) + 1) << ENTROPY_BITS) | (random & mask)
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Name, region, zone and capacity.
    pub member: Member,
    /// Where clients reach it, `host:port`.
    pub http: String,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Its program's version.
    pub version: String,
    /// Which start of the node this is; see [`next_incarnation`].
    pub incarnation: u64,
}

impl MemberRecord {
    /// The id of the node's name.
    pub fn id(&self) -> NodeId {
        self.member.id()
    }

    /// Whether this record replaces `other` of the same node. A total order, so that a table is a join.
    pub(crate) fn replaces(&self, other: &MemberRecord) -> bool {
        (self.incarnation, self.encoded()) > (other.incarnation, other.encoded())
    }

    /// A table's fingerprint is the sum of its records': the order does not matter.
    pub(crate) fn fingerprint(&self) -> u64 {
        xxh3_64(&self.encoded())
    }

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.encode(&mut out);
        out
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_member(&self.member, out);
        for text in [&self.http, &self.peer, &self.version] {
            put_bytes(out, text.as_bytes());
        }
        put_varint(out, self.incarnation);
    }

    /// Reads what [`MemberRecord::encode`] wrote; texts beyond their bounds are refused.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            member: decode_member(reader)?,
            http: text(reader, MAX_ADDRESS_BYTES, "HTTP address")?,
            peer: text(reader, MAX_ADDRESS_BYTES, "peer address")?,
            version: text(reader, MAX_VERSION_BYTES, "version")?,
            incarnation: reader.varint("incarnation")?,
        })
    }
}

/// Name, region, zone and an incarnation cannot take fewer bytes than this.
pub(crate) const MIN_RECORD_BYTES: usize = 9;

pub(crate) fn encode_member(member: &Member, out: &mut Vec<u8>) {
    for text in [member.name.as_str(), &member.region, &member.zone] {
        put_bytes(out, text.as_bytes());
    }
    put_varint(out, u64::from(member.capacity.hundredths()));
}

pub(crate) fn decode_member(reader: &mut Reader) -> Result<Member, DecodeError> {
    let name = decode_name(reader)?;
    let region = text(reader, MAX_NAME_BYTES, "region")?;
    let zone = text(reader, MAX_NAME_BYTES, "zone")?;
    let hundredths = u32::try_from(reader.varint("capacity")?).map_err(|_| reader.malformed("capacity"))?;
    let capacity = Capacity::parse(f64::from(hundredths) / 100.0).map_err(|_| reader.malformed("capacity"))?;
    Ok(Member {
        name,
        region,
        zone,
        capacity,
    })
}

pub(crate) fn decode_name(reader: &mut Reader) -> Result<NodeName, DecodeError> {
    NodeName::parse(&reader.string("node name")?).map_err(|_| reader.malformed("node name"))
}

fn text(reader: &mut Reader, most: usize, what: &'static str) -> Result<String, DecodeError> {
    let text = reader.string(what)?;
    // Control characters would let a stranger write lines of his own into logs and tables.
    if text.len() > most || text.chars().any(char::is_control) {
        Err(reader.malformed(what))
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(incarnation: u64, peer: &str) -> MemberRecord {
        let name = NodeName::parse("n1").expect("a short plain name");
        let member = Member {
            name,
            region: String::new(),
            zone: String::new(),
            capacity: Capacity::default(),
        };
        MemberRecord {
            member,
            http: String::new(),
            peer: peer.into(),
            version: String::new(),
            incarnation,
        }
    }

    #[test]
    fn of_two_different_records_exactly_one_replaces_the_other() {
        let records = [record(1, "a:1"), record(1, "b:1"), record(2, "a:1"), record(300, "a:1")];
        for a in &records {
            for b in &records {
                assert_eq!(a.replaces(b) ^ b.replaces(a), a != b);
                assert!(a.incarnation <= b.incarnation || a.replaces(b));
            }
        }
    }
}
