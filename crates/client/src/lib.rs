//! The Rust client: it spreads requests over the nodes it knows, tries again what is safe to try again, carries causal
//! contexts, and never reports a write as done, or as not done, without knowing.
//!
//! ```no_run
//! use annulus_client::{Client, Options, Put, Read};
//!
//! # async fn example() -> Result<(), annulus_client::Error> {
//! let client = Client::new(["http://127.0.0.1:8101", "http://127.0.0.1:8102"])?;
//! let options = Options::default();
//! client.put("greetings", "hello", Put::new("world"), &options).await?;
//!
//! match client.get("greetings", "hello", &options).await? {
//!     Read::One(value) => println!("{} bytes", value.bytes.len()),
//!     Read::Siblings(values) => {
//!         // Writers were concurrent: merge, and replace all that was read by sending its context along.
//!         let merged = values.iter().map(|value| &value.bytes[..]).max().unwrap_or_default().to_vec();
//!         client.put("greetings", "hello", Put::new(merged).context(&values[0].context), &options).await?;
//!     }
//!     Read::None { .. } => println!("nothing there"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It speaks plain HTTP/1.1 over pooled connections, and runs on any tokio runtime, the current-thread one included.

mod admin;
mod answer;
mod batch;
mod client;
mod encoding;
mod error;
mod nodes;
mod options;
mod path;
mod problem;
mod transport;
mod value;

pub use admin::{
    Bucket, Cluster, Conflicts, Liveness, Location, Member, PartitionLag, PeerLag, Readiness, Replication, Ring,
};
pub use batch::{Answer, Operation};
pub use client::{Builder, Client};
pub use encoding::JsonKey;
pub use error::{Cause, Error};
pub use options::{Durability, InvalidQuorum, OnUnknown, Options, Page, Quorum};
pub use problem::{Outcome, Problem};
pub use value::{Condition, Context, Head, Listing, Put, Read, Replicas, Value, Written};
