//! The binary form of a ring: what is encoded is decoded as the same ring, and hostile bytes cost no more than their length.
//!
//! Numbers are little-endian. Format `u8`, epoch `u64`, replicas `u8`, partitions `u32`, members `u16`; then for each
//! member name, region and zone (each a length `u8` and UTF-8) and capacity in hundredths `u32`; then for each
//! partition its owners' indexes among the members, `u16` each.

use crate::member::{Capacity, Member, NodeName};
use crate::position::Partitions;
use crate::ring::{Parts, Ring, RingError, check_members, copies};

/// The format that this version writes and reads.
pub(crate) const FORMAT: u8 = 1;

/// Three empty strings and a capacity.
const MIN_MEMBER_BYTES: usize = 3 + 4;

pub(crate) fn encode(ring: &Ring, out: &mut Vec<u8>) {
    out.push(FORMAT);
    out.extend(ring.epoch().to_le_bytes());
    out.push(ring.replicas());
    out.extend(ring.partitions().count().to_le_bytes());
    out.extend((ring.members().len() as u16).to_le_bytes());
    for member in ring.members() {
        for text in [member.name.as_str(), &member.region, &member.zone] {
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        }
        out.extend(member.capacity.hundredths().to_le_bytes());
    }
    out.reserve(ring.table().len() * 2);
    out.extend(ring.table().iter().flat_map(|owner| owner.to_le_bytes()));
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Parts, RingError> {
    let mut reader = Reader { rest: bytes };
    let [format] = reader.array()?;
    if format != FORMAT {
        return Err(RingError::Format { got: format });
    }
    let epoch = u64::from_le_bytes(reader.array()?);
    let [replicas] = reader.array()?;
    let partitions = Partitions::new(u32::from_le_bytes(reader.array()?))?;
    let count = usize::from(u16::from_le_bytes(reader.array()?));
    reader.require(count * MIN_MEMBER_BYTES)?;
    let members = (0..count)
        .map(|index| reader.member(index))
        .collect::<Result<Vec<_>, _>>()?;
    check_members(replicas, &members)?;
    let table = reader.table(partitions.count() as usize * copies(replicas, members.len()))?;
    Ok(Parts {
        epoch,
        replicas,
        partitions,
        members,
        table,
    })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn require(&self, expected: usize) -> Result<(), RingError> {
        match self.rest.len() {
            got if got < expected => Err(RingError::Length { expected, got }),
            _ => Ok(()),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RingError> {
        self.require(length)?;
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RingError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(RingError::Length {
            expected: N,
            got: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(*head)
    }

    fn text(&mut self, index: usize, field: &'static str) -> Result<&'a str, RingError> {
        let [length] = self.array()?;
        std::str::from_utf8(self.take(usize::from(length))?).map_err(|_| RingError::Member { index, field })
    }

    fn member(&mut self, index: usize) -> Result<Member, RingError> {
        let flawed = |field| RingError::Member { index, field };
        let name = NodeName::parse(self.text(index, "name")?).map_err(|_| flawed("name"))?;
        let region = self.text(index, "region")?.to_owned();
        let zone = self.text(index, "zone")?.to_owned();
        let hundredths = u32::from_le_bytes(self.array()?);
        let capacity = Capacity::from_hundredths(hundredths).ok_or_else(|| flawed("capacity"))?;
        Ok(Member {
            name,
            region,
            zone,
            capacity,
        })
    }

    /// The rest of the bytes, which must be exactly the table.
    fn table(&mut self, slots: usize) -> Result<Vec<u16>, RingError> {
        if self.rest.len() != slots * 2 {
            return Err(RingError::Length {
                expected: slots * 2,
                got: self.rest.len(),
            });
        }
        Ok(self
            .rest
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect())
    }
}
