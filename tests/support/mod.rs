//! Local clusters of the binary under test, each on loopback addresses of its own, and a plain HTTP client that hides nothing.

mod http;
mod process;

pub(crate) use http::{Connection, Response};
pub(crate) use process::{BINARY, Cluster, eventually, free_ports, run};
