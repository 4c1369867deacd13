//! How far the owners of what a node holds are apart.

use std::rc::Rc;

use annulus_coordinator::{Answer, PartitionLag, PeerLag, ReplicationView, Request};
use http::{StatusCode, request::Parts};
use serde::Serialize;

use super::unexpected;
use crate::{
    parameters, response,
    route::Handled,
    server::{Connection, Service},
};

/// `GET /v1/replication`, and `POST /v1/repair`, which answers with the same.
pub(crate) async fn ask<S: Service>(connection: &Rc<Connection<S>>, request: Request, head: Parts) -> Handled {
    parameters::none(head.uri.query())?;
    match connection.server.service.call(request).await? {
        Answer::Replication(view) => Ok(response::json(StatusCode::OK, &Replication::from(&view))),
        _ => Err(unexpected()),
    }
}

#[derive(Serialize)]
struct Replication<'v> {
    node: &'v str,
    log_entries: usize,
    partitions_in_doubt: usize,
    peers: Vec<Peer<'v>>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Peer<'v> {
    name: &'v str,
    behind: u64,
    ahead: u64,
    partitions: u64,
}

#[derive(Serialize)]
struct Partition {
    n: u8,
    partition: u32,
    log_entries: usize,
    log_age_seconds: u64,
    in_doubt: bool,
    behind: u64,
    ahead: u64,
}

impl<'v> From<&'v ReplicationView> for Replication<'v> {
    fn from(view: &'v ReplicationView) -> Self {
        Self {
            node: &view.node,
            log_entries: view.log_entries,
            partitions_in_doubt: view.partitions_in_doubt,
            peers: view.peers.iter().map(Peer::from).collect(),
            partitions: view.partitions.iter().map(Partition::from).collect(),
        }
    }
}

impl<'v> From<&'v PeerLag> for Peer<'v> {
    fn from(lag: &'v PeerLag) -> Self {
        Self {
            name: &lag.name,
            behind: lag.behind,
            ahead: lag.ahead,
            partitions: lag.partitions,
        }
    }
}

impl From<&PartitionLag> for Partition {
    fn from(lag: &PartitionLag) -> Self {
        Self {
            n: lag.n,
            partition: lag.partition,
            log_entries: lag.log_entries,
            log_age_seconds: lag.log_age_seconds,
            in_doubt: lag.in_doubt,
            behind: lag.behind,
            ahead: lag.ahead,
        }
    }
}
