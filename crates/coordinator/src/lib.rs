//! One client request: quorum reads and writes, read repair and hinted handoff, decided without I/O.

mod quorum;
mod read;
mod request;
mod session;
mod write;

pub use quorum::{Quorum, Verdict};
pub use read::{ReadRound, ReadStep, ReadVerdict};
pub use request::{
    Answer, BucketConfig, BucketSpec, ClusterView, Condition, Durability, Failure, Found, KeyRequest, Level,
    ListRequest, LocateView, MAX_PAGE, MemberView, Mode, NewValue, Operation, Options, Outcome, Page, PartitionLag,
    PeerLag, ReplicationView, Reply, Request, RingView, Seen, Written,
};
pub use session::{MAX_SESSION_BYTES, Session};
pub use write::{Participants, WriteRound, WriteStep};
