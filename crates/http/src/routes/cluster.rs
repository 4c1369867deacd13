//! Who is in the cluster, and where keys live.

use std::rc::Rc;

use annulus_coordinator::{Answer, ClusterView, LocateView, MemberView, Request, RingView};
use http::{StatusCode, request::Parts};
use serde::Serialize;

use super::unexpected;
use crate::{
    parameters, response,
    route::{self, Handled},
    server::{Connection, Service},
};

/// `GET /v1/cluster`.
pub(crate) async fn members<S: Service>(connection: &Rc<Connection<S>>, head: Parts) -> Handled {
    parameters::none(head.uri.query())?;
    match connection.server.service.call(Request::Cluster).await? {
        Answer::Cluster(view) => Ok(response::json(StatusCode::OK, &Cluster::from(&view))),
        _ => Err(unexpected()),
    }
}

/// `GET /v1/ring`.
pub(crate) async fn ring<S: Service>(connection: &Rc<Connection<S>>, head: Parts) -> Handled {
    parameters::none(head.uri.query())?;
    match connection.server.service.call(Request::Ring).await? {
        Answer::Ring(view) => Ok(response::json(StatusCode::OK, &Ring::from(&view))),
        _ => Err(unexpected()),
    }
}

/// `GET /v1/ring/{bucket}/{key}`.
pub(crate) async fn locate<S: Service>(connection: &Rc<Connection<S>>, path: String, head: Parts) -> Handled {
    let (bucket, key) = path.split_once('/').ok_or_else(route::no_such_route)?;
    let (bucket, key) = (route::bucket(bucket)?, route::key(key)?);
    parameters::none(head.uri.query())?;
    match connection.server.service.call(Request::Locate(bucket, key)).await? {
        Answer::Located(view) => Ok(response::json(StatusCode::OK, &Located::from(&view))),
        _ => Err(unexpected()),
    }
}

#[derive(Serialize)]
struct Cluster<'v> {
    cluster: &'v str,
    epoch: u64,
    node: &'v str,
    nodes: Vec<Member<'v>>,
}

impl<'v> From<&'v ClusterView> for Cluster<'v> {
    fn from(view: &'v ClusterView) -> Self {
        Self {
            cluster: &view.cluster,
            epoch: view.epoch,
            node: &view.node,
            nodes: view.nodes.iter().map(Member::from).collect(),
        }
    }
}

#[derive(Serialize)]
struct Member<'v> {
    name: &'v str,
    state: &'v str,
    http: &'v str,
    peer: &'v str,
    region: &'v str,
    zone: &'v str,
    capacity: f64,
    version: &'v str,
}

impl<'v> From<&'v MemberView> for Member<'v> {
    fn from(view: &'v MemberView) -> Self {
        Self {
            name: &view.name,
            state: view.state,
            http: &view.http,
            peer: &view.peer,
            region: &view.region,
            zone: &view.zone,
            capacity: view.capacity,
            version: &view.version,
        }
    }
}

#[derive(Serialize)]
struct Ring<'v> {
    epoch: u64,
    partitions: u32,
    n: u8,
    owners: &'v [Vec<String>],
}

impl<'v> From<&'v RingView> for Ring<'v> {
    fn from(view: &'v RingView) -> Self {
        Self {
            epoch: view.epoch,
            partitions: view.partitions,
            n: view.n,
            owners: &view.owners,
        }
    }
}

#[derive(Serialize)]
struct Located<'v> {
    epoch: u64,
    partition: u32,
    /// As sixteen hexadecimal digits: JSON's numbers do not hold 64 bits everywhere.
    position: String,
    owners: &'v [String],
    fallbacks: &'v [String],
}

impl<'v> From<&'v LocateView> for Located<'v> {
    fn from(view: &'v LocateView) -> Self {
        Self {
            epoch: view.epoch,
            partition: view.partition,
            position: format!("{:016x}", view.position),
            owners: &view.owners,
            fallbacks: &view.fallbacks,
        }
    }
}
