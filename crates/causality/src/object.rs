//! A key's live versions and their causal context, and the one join by which all replicas come to agree on them.
//!
//! Why last-write-wins is a way to read and not a way to join: a join that dropped the losers would not be
//! associative. Take concurrent writes `a` and `b`, where `b` is the later, and a delete by someone who has seen only
//! `b`. A replica that gets them in the order `a`, `b`, delete would drop `a` as the loser, then `b`, and hold nothing; one
//! that gets `a`, delete, `b` would hold `a`. Both have seen the same dots, so no catch-up would ever compare them
//! again. Keeping the losers until a write or delete replaces them makes what is stored the same under every policy, and
//! the winner is a function of what is stored.

use annulus_mutants::{Mutant, planted};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::codec::{DecodeError, Reader, put_varint};
use crate::context::CausalContext;
use crate::dot::Dot;
use crate::version::Version;

/// What becomes of concurrent versions. Replicas store and join them alike under each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConflictPolicy {
    /// Readers get them all; a write replaces what its client's context covers.
    #[default]
    #[serde(rename = "siblings")]
    Siblings,
    /// Readers get the one with the greatest (modified, dot); a write replaces all that its coordinator knows.
    ///
    /// Exactly: two replicas that have incorporated the same writes show the same version, whatever order they came in.
    /// As long as a coordinator knows its own writes, a key holds at most one version an actor. A loser that no write has
    /// replaced shows again if the winner is deleted by someone who had not seen it: to that delete it is concurrent.
    #[serde(rename = "lww")]
    LastWriteWins,
    /// The versions are what actors have added; readers get their sum. See [`crate::Change`].
    #[serde(rename = "counter")]
    Counter,
    /// The versions are elements; readers get them all in one array, and adding wins over removing.
    #[serde(rename = "set")]
    Set,
    /// The versions are fields' values; readers get them in one object, of each field the last.
    #[serde(rename = "map")]
    Map,
}

impl ConflictPolicy {
    /// Whether keys are changed by operations, and not written.
    pub const fn is_typed(self) -> bool {
        matches!(self, Self::Counter | Self::Set | Self::Map)
    }
}

/// A key's live versions, each under its dot, and a causal context: a dot in it without a live version was superseded or
/// deleted.
///
/// At rest an object is *stripped*: its context lacks what the partition's clock says anyway. On the way to a client
/// or a peer it is *filled*, and its context then covers at least the dots of its versions.
///
/// ```
/// use annulus_causality::{Actor, CausalContext, ConflictPolicy, Dot, Object, Timestamp, Version};
///
/// let dot = Dot::new(Actor { node: 7, incarnation: 1 }, 1);
/// let version = Version::new("value".into(), None, Vec::new(), Timestamp::default(), None);
/// let mut clock = CausalContext::new();
///
/// let delta = Object::default().filled(&clock).write(dot, Some(version), None, ConflictPolicy::Siblings);
/// clock.insert(dot);
/// let stored = delta.clone().strip(&clock);
/// assert!(stored.context().is_empty());
/// assert_eq!(stored.filled(&clock), delta);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Ascending by dot, each dot once.
    versions: Vec<(Dot, Version)>,
    context: CausalContext,
}

impl Object {
    /// An object of these versions (in any order; of two with one dot the first counts) and this context.
    pub fn new(mut versions: Vec<(Dot, Version)>, context: CausalContext) -> Self {
        versions.sort_by_key(|(dot, _)| *dot);
        versions.dedup_by_key(|(dot, _)| *dot);
        Self { versions, context }
    }

    /// The live versions, ascending by dot, expired ones included.
    pub fn versions(&self) -> &[(Dot, Version)] {
        &self.versions
    }

    /// The causal context as it stands: only a part of it where the object is stripped.
    pub fn context(&self) -> &CausalContext {
        &self.context
    }

    /// The versions, ascending by dot, and the context.
    pub fn into_parts(self) -> (Vec<(Dot, Version)>, CausalContext) {
        (self.versions, self.context)
    }

    /// What goes out of a replica with this clock: the versions, and all that the replica has incorporated as their
    /// context.
    ///
    /// Without the clock a peer could not tell a version that was deleted here from one that never arrived.
    pub fn filled(&self, clock: &CausalContext) -> Self {
        self.clone().fill(clock)
    }

    /// [`Object::filled`] without a copy.
    pub fn fill(mut self, clock: &CausalContext) -> Self {
        self.context.union(clock);
        self.context.extend(self.versions.iter().map(|(dot, _)| *dot));
        self
    }

    /// What is stored by a replica with this clock: the versions, and that part of their context which the clock does
    /// not have. [`Object::filled`] with the same or a later clock restores it.
    ///
    /// The clock must cover the dots of the versions: seen means incorporated.
    pub fn strip(self, clock: &CausalContext) -> Self {
        debug_assert!(
            self.dots().all(|dot| clock.contains(dot)),
            "a stored version's dot is in the clock"
        );
        Self {
            context: self.context.difference(clock),
            versions: self.versions,
        }
    }

    /// Neither versions nor context: the clock alone says all that is known, and no record need be stored. The record of a
    /// deleted key stays until the clock has its context.
    pub fn is_absent(&self) -> bool {
        self.versions.is_empty() && self.context.is_empty()
    }

    /// The one merge: of a write, a hint, a catch-up, a stream, a read. Both sides are filled.
    ///
    /// A version lives on if the other side has it too, or has not heard of it; the contexts unite. So of any number of
    /// objects joined in any order, grouping and repetition, a version survives exactly if one holds it and
    /// none covers it without holding it.
    pub fn join(self, other: Self) -> Self {
        let nothing = CausalContext::new();
        self.join_stripped(&nothing, other, &nothing)
    }

    /// [`Object::join`] of two stripped objects, each with the clock of its replica, without filling them: what both clocks have is left out of
    /// the context, as whoever has both would strip it again.
    pub fn join_stripped(self, my_clock: &CausalContext, other: Self, their_clock: &CausalContext) -> Self {
        let Self {
            versions: mine,
            context: my_context,
        } = self;
        let Self {
            versions: theirs,
            context: their_context,
        } = other;
        let i_know = |dot: Dot| my_context.contains(dot) || my_clock.contains(dot);
        let they_know = |dot: Dot| their_context.contains(dot) || their_clock.contains(dot);
        let mut versions = Vec::with_capacity(mine.len() + theirs.len());
        let mut theirs = theirs.into_iter().peekable();
        for (dot, version) in mine {
            while let Some(their) = theirs.next_if(|their| their.0 < dot) {
                if !i_know(their.0) {
                    versions.push(their);
                }
            }
            if theirs.next_if(|their| their.0 == dot).is_some() || !they_know(dot) {
                versions.push((dot, version));
            }
        }
        versions.extend(theirs.filter(|their| !i_know(their.0)));
        if planted(Mutant::JoinDropsSibling) {
            versions.truncate(1);
        }
        let mut context = my_context;
        context.union(&their_context);
        Self { versions, context }
    }

    /// The delta of one write (`None` deletes), to be stored here and sent to the other owners, where `self` is all that
    /// the coordinator knows of the key, filled.
    ///
    /// Replaced are the versions that `context` covers: what the client has seen, or without one (and under
    /// [`ConflictPolicy::LastWriteWins`] always) what is known here. `dot` is new: never used, and in neither context. For the
    /// latest write to win, the coordinator's clock must have observed the stamps of the versions it knows.
    pub fn write(
        &self,
        dot: Dot,
        version: Option<Version>,
        context: Option<&CausalContext>,
        policy: ConflictPolicy,
    ) -> Self {
        debug_assert!(dot.counter > 0, "0 is not a dot");
        let mut versions = match (policy, context) {
            (ConflictPolicy::LastWriteWins, _) | (_, None) => Vec::new(),
            (_, Some(seen)) => self
                .versions
                .iter()
                .filter(|(dot, _)| !seen.contains(*dot))
                .cloned()
                .collect(),
        };
        if let Some(version) = version {
            let index = versions.partition_point(|(other, _)| *other < dot);
            versions.insert(index, (dot, version));
        }
        let mut known = self.context.clone();
        known.extend(self.dots());
        if let Some(seen) = context {
            known.union(seen);
        }
        known.insert(dot);
        Self {
            versions,
            context: known,
        }
    }

    /// The dots of the live versions, ascending.
    pub fn dots(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.versions.iter().map(|(dot, _)| *dot)
    }

    /// `xxh3_64` over the live dots, for reads that need not carry values; that of no version is fixed.
    ///
    /// A dot names one write for ever, so replicas with equal digests hold equal versions.
    pub fn digest(&self) -> u64 {
        let mut dots = Vec::with_capacity(self.versions.len() * 24);
        for Dot { actor, counter } in self.dots() {
            for part in [actor.node, actor.incarnation, counter] {
                dots.extend_from_slice(&part.to_be_bytes());
            }
        }
        xxh3_64(&dots)
    }

    /// What a reader sees at this wall-clock time (milliseconds since the Unix epoch), the same on every node: the
    /// oldest first, those of one age by content hash, and versions equal in content once (as the oldest of them).
    ///
    /// Under [`ConflictPolicy::LastWriteWins`] that is the winner, or nothing where the winner has expired: the passing
    /// of time never brings an older version back.
    ///
    /// Of a counter, a set or a map: every version that contributes to what [`Object::shown`] makes of them.
    pub fn visible(&self, wall_ms: u64, policy: ConflictPolicy) -> Vec<&Version> {
        let mut visible: Vec<&Version> = match policy {
            ConflictPolicy::Siblings => self.versions.iter().map(|(_, version)| version).collect(),
            ConflictPolicy::LastWriteWins => self.winner().into_iter().collect(),
            // They never expire, and two that are equal count twice.
            typed => return self.contributions(typed),
        };
        visible.retain(|version| !version.is_expired(wall_ms) || planted(Mutant::ExpiredShown));
        visible.sort_by_key(|version| (version.content_hash(), version.modified));
        visible.dedup_by(|next, kept| next.same_content(kept));
        visible.sort_by_key(|version| version.modified);
        visible
    }

    pub(crate) fn winner(&self) -> Option<&Version> {
        self.versions
            .iter()
            .max_by_key(|(dot, version)| (version.modified, *dot))
            .map(|(_, version)| version)
    }

    /// Appends the encoding: the versions under their dots, then the context.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.versions.len() as u64);
        for (dot, version) in &self.versions {
            dot.encode(out);
            version.encode(out);
        }
        self.context.encode(out);
    }

    /// Reads what [`Object::encode`] wrote; the values are slices of the reader's bytes.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let count = reader.count(LEAST_VERSION_BYTES, "object")?;
        let mut versions: Vec<(Dot, Version)> = Vec::with_capacity(count);
        for _ in 0..count {
            let dot = Dot::decode(reader)?;
            if versions.last().is_some_and(|(last, _)| *last >= dot) {
                return Err(reader.malformed("object"));
            }
            versions.push((dot, Version::decode(reader)?));
        }
        let context = CausalContext::decode(reader)?;
        Ok(Self { versions, context })
    }

    /// Reads an object that is all of `bytes`.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let object = Self::decode(&mut reader)?;
        reader.finish("object")?;
        Ok(object)
    }

    /// The encoding as bytes of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.into()
    }
}

/// Three varints of the dot, five fields of the version, two of them varints of one stamp.
const LEAST_VERSION_BYTES: usize = 9;

/// An entity tag: equal exactly where the set of visible values (with their types and metadata) is equal.
pub fn etag(visible: &[&Version]) -> u128 {
    let mut contents: Vec<u128> = visible.iter().map(|version| version.content_hash()).collect();
    contents.sort_unstable();
    contents.dedup();
    let bytes: Vec<u8> = contents.into_iter().flat_map(u128::to_be_bytes).collect();
    xxh3_128(&bytes)
}
