//! Every bound on what a client may send, hold or wait for, in one table.

use std::time::Duration;

/// What a node grants its clients. The defaults are those of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value, in bytes; a larger one is `413`.
    pub max_value_bytes: usize,
    /// A request that makes no progress, and a response that its client does not read, are closed after this.
    pub request_timeout: Duration,
    /// A connection without a request is closed after this.
    pub idle_timeout: Duration,
    /// The request line and all headers together, in bytes; more is `431`.
    pub max_header_bytes: usize,
    /// Open connections; further ones are answered `503` and closed.
    pub max_connections: usize,
    /// Request bodies in memory over all connections, in bytes; a request that would exceed it is `429`.
    pub max_inflight_bytes: usize,
    /// Requests in progress over all connections; a further one is `429`.
    pub max_inflight_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_value_bytes: 1 << 20,
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            max_header_bytes: 64 << 10,
            max_connections: 20_000,
            max_inflight_bytes: 256 << 20,
            max_inflight_requests: 8192,
        }
    }
}

/// The longest path and query: a key of 1024 bytes that are all escaped, and a prefix and a page token as long.
pub(crate) const MAX_URI_BYTES: usize = 16 << 10;

/// `Annulus-Meta-*` headers of one value.
pub(crate) const MAX_META_COUNT: usize = 64;

/// Names and values of all `Annulus-Meta-*` headers of one value: they are stored and sent with it everywhere.
pub(crate) const MAX_META_BYTES: usize = 8 << 10;

/// The longest `Content-Type`.
pub(crate) const MAX_CONTENT_TYPE_BYTES: usize = 256;

/// The body of a bucket's declaration.
pub(crate) const MAX_DECLARATION_BYTES: usize = 16 << 10;

/// What a line of a batch may have beyond its value: key, context, metadata, names.
pub(crate) const BATCH_LINE_OVERHEAD: usize = 64 << 10;

/// Operations of one batch in progress at once: bounds what one connection can ask of the node, and its results.
pub(crate) const BATCH_WINDOW: usize = 16;

/// A body slower than this on average, in bytes a second beyond the first `request_timeout`, is taken for an attack.
pub(crate) const MIN_BODY_RATE: u64 = 4 << 10;

/// How much hyper may buffer of one connection beyond a request's head, in bytes.
pub(crate) const READ_BUFFER_BYTES: usize = 128 << 10;
