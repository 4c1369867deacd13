//! What happened before what: actors, dots, causal contexts, siblings and the one join.
//!
//! This crate is pure: time comes in as an argument, nothing is read from the outside, and every function gives the
//! same answer on every node. What it keeps true:
//!
//! - A [`Dot`] names one write for ever; its counter is at least 1.
//! - A [`CausalContext`] is a set of dots with one canonical form: equal sets are equal values and equal bytes.
//! - [`Object::join`] is the only merge. It is commutative, associative and idempotent, whatever the bucket's
//!   [`ConflictPolicy`], so replicas that have incorporated the same writes hold the same live versions.
//! - [`Object::strip`] and [`Object::filled`] undo each other under one clock: what the clock already says of an
//!   object's past is not stored with it.
//! - Nothing decoded from outside panics, allocates more than a small multiple of what was received, or loops over
//!   counters or incarnations.
//!
//! The theory is that of dotted version vectors (Preguiça et al. 2010; Almeida et al. 2014) and of node-wide dot-based
//! clocks (Gonçalves et al., "Anti-Entropy without Merkle Trees, Deletes without Tombstones", SRDS 2017).

mod codec;
mod context;
mod dot;
mod expiry;
mod object;
mod run;
mod time;
mod token;
mod typed;
mod version;

pub use codec::{DecodeError, DecodeErrorKind, Reader, put_bytes, put_u8, put_varint};
pub use context::CausalContext;
pub use dot::{Actor, Dot};
pub use object::{ConflictPolicy, Object, etag};
pub use run::Span;
pub use time::{HybridClock, Instant, MAX_SKEW, SkewError, Timestamp};
pub use token::{MAX_TOKEN_BYTES, TokenError, TokenKey, sealed_bytes};
pub use typed::{
    Change, ChangeError, Contribution, Element, Field, MAX_COLLECTION_BYTES, MAX_ELEMENT_BYTES, MAX_ENTRIES,
    MAX_FIELD_BYTES, Standing,
};
pub use version::Version;
