//! A session is what one client has seen, partition by partition, and it comes back from its client: no node remembers it.
//!
//! What it gives are the session guarantees of Terry et al. ("Session Guarantees for Weakly Consistent Replicated Data",
//! 1994), kept by asking of each read that what it merged covers what the session has seen in the key's partition.

use annulus_causality::{CausalContext, Reader, TokenError, TokenKey, put_u8, put_varint, sealed_bytes};
use annulus_ring::PartitionId;

/// The longest `Annulus-Session` that is given out, in characters: with the longest `Annulus-Context`, half of what a request's
/// headers may have.
pub const MAX_SESSION_BYTES: usize = 12 * 1024;

/// What seals a session. A key's scope begins with its bucket's name, which is never empty: neither token opens as the other.
const SCOPE: &[u8] = b"\0session";

/// What one client has seen: dots by partition, the partition that it used last first.
///
/// ```
/// use annulus_causality::{Actor, CausalContext, Dot, TokenKey};
/// use annulus_coordinator::Session;
/// use annulus_ring::PartitionId;
///
/// let cluster = TokenKey::new([7; 32]);
/// let (here, elsewhere) = (PartitionId { n: 3, index: 17 }, PartitionId { n: 3, index: 18 });
/// let written = CausalContext::from_iter([Dot::new(Actor { node: 1, incarnation: 1 }, 5)]);
/// let mut session = Session::default();
/// session.add(here, &written);
///
/// let (token, left_out) = session.seal(&cluster);
/// let session = Session::open(&cluster, &token)?;
/// assert_eq!((session.seen(here), session.seen(elsewhere)), (written, CausalContext::new()));
/// assert_eq!(left_out, 0);
/// # Ok::<(), annulus_causality::TokenError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Each partition once, none without dots.
    partitions: Vec<(PartitionId, CausalContext)>,
}

impl Session {
    /// What was seen in a partition.
    pub fn seen(&self, partition: PartitionId) -> CausalContext {
        let of = self.partitions.iter().find(|(of, _)| *of == partition);
        of.map(|(_, seen)| seen.clone()).unwrap_or_default()
    }

    /// Adds what was seen in a partition, which is now the one that was used last.
    pub fn add(&mut self, partition: PartitionId, seen: &CausalContext) {
        let place = self.partitions.iter().position(|(of, _)| *of == partition);
        let mut all = place.map(|place| self.partitions.remove(place).1).unwrap_or_default();
        all.union(seen);
        if !all.is_empty() {
            self.partitions.insert(0, (partition, all));
        }
    }

    /// The token, at most [`MAX_SESSION_BYTES`] long, and how many partitions it had no room for: those used last go first.
    pub fn seal(&self, key: &TokenKey) -> (String, usize) {
        let mut content = Vec::new();
        let mut left_out = 0;
        for (partition, seen) in &self.partitions {
            let before = content.len();
            put_u8(&mut content, partition.n);
            put_varint(&mut content, u64::from(partition.index));
            seen.encode(&mut content);
            if content.len() > sealed_bytes(MAX_SESSION_BYTES) {
                content.truncate(before);
                left_out += 1;
            }
        }
        (key.seal_bytes(SCOPE, &content), left_out)
    }

    /// The session of a token that [`Session::seal`] gave in this cluster.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(key: &TokenKey, token: &str) -> Result<Session, TokenError> {
        let mut reader = Reader::new(key.open_bytes(SCOPE, token)?);
        let mut session = Session::default();
        while !reader.is_empty() {
            let (partition, seen) = read_partition(&mut reader).ok_or(TokenError::Malformed)?;
            session.partitions.push((partition, seen));
        }
        Ok(session)
    }
}

/// What was sealed here is trusted as far as its form goes: a partition that stood there twice would only be looked at once.
fn read_partition(reader: &mut Reader) -> Option<(PartitionId, CausalContext)> {
    let n = reader.u8("replicas").ok()?;
    let index = u32::try_from(reader.varint("partition").ok()?).ok()?;
    Some((PartitionId { n, index }, CausalContext::decode(reader).ok()?))
}
