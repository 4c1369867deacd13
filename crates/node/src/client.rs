//! What a client asks enters here: it is checked, given its terms, and handed to whoever coordinates it.

use std::time::Duration;

use annulus_causality::{ConflictPolicy, Object, TokenError};
use annulus_coordinator::{
    Answer, BucketConfig, ClusterView, Failure, KeyRequest, LocateView, MemberView, Operation, Options, Reply, Request,
    RingView,
};
use annulus_ring::{Address, Bucket, Key, NodeId, PartitionId, Ring};
use annulus_storage::Engine;

use crate::forwards::NewForward;
use crate::io::{ClientId, Effect};
use crate::node::{Node, scope};
use crate::passed_on::PassedOn;
use crate::reads::{Guarded, NewRead, Then};
use crate::settings::Now;
use crate::tasks::Requester;
use crate::terms::Terms;
use crate::typed::NewChange;
use crate::writes::NewWrite;

impl<E: Engine> Node<E> {
    pub(crate) fn on_client(&mut self, now: Now, id: ClientId, request: Request, out: &mut Vec<Effect>) {
        let requester = Requester::Client(id);
        self.catch_up.is_busy_at(now);
        match request {
            Request::Key(request) => self.start_key(now, requester, request, out),
            Request::InSession { token, request } => self.start_in_session(now, id, (token, request), out),
            Request::List(request) => self.when_ready(now, requester, out, |node, out| {
                node.start_list(now, requester, request, out)
            }),
            Request::DeclareBucket(bucket, spec) => self.when_ready(now, requester, out, |node, out| {
                node.declare_bucket(now, requester, bucket, &spec, out);
            }),
            Request::DropBucket(bucket) => {
                self.when_ready(now, requester, out, |node, out| {
                    node.drop_bucket(now, requester, bucket, out)
                });
            }
            Request::GetBucket(_) | Request::ListBuckets => {
                let reply = self.readiness().and_then(|()| self.get_bucket(&request));
                self.reply(now, requester, reply, out);
            }
            Request::Cluster => self.reply(now, requester, Ok(Answer::Cluster(self.cluster_view())), out),
            Request::Ring => {
                let reply = self.cluster().map(|cluster| Answer::Ring(ring_view(&cluster.ring)));
                self.reply(now, requester, reply, out);
            }
            Request::Locate(bucket, key) => {
                let reply = self.locate(&bucket, &key);
                self.reply(now, requester, reply, out);
            }
            Request::Replication | Request::Repair => {
                if request == Request::Repair {
                    self.repair_now(now, out);
                }
                let reply = self.cluster().map(|_| Answer::Replication(self.replication_view()));
                self.reply(now, requester, reply, out);
            }
            Request::Ready => {
                let reply = self.readiness().and_then(|()| self.is_whole()).map(|()| Answer::Ready);
                self.reply(now, requester, reply, out);
            }
        }
    }

    /// Whether nothing that this node owns is in doubt.
    fn is_whole(&self) -> Result<(), Failure> {
        let doubtful = self.doubtful().len();
        if doubtful == 0 {
            return Ok(());
        }
        Err(Failure::NotReady {
            reason: format!(
                "{doubtful} of its partitions are being refilled from their other owners, which serve them until then; it goes on by itself"
            ),
        })
    }

    fn when_ready(
        &mut self,
        now: Now,
        requester: Requester,
        out: &mut Vec<Effect>,
        then: impl FnOnce(&mut Self, &mut Vec<Effect>),
    ) {
        match self.admits() {
            Ok(()) => then(self, out),
            Err(failure) => self.reply(now, requester, Err(failure), out),
        }
    }

    /// A request about a key: coordinated here, or forwarded once to who coordinates it.
    pub(crate) fn start_key(&mut self, now: Now, requester: Requester, request: KeyRequest, out: &mut Vec<Effect>) {
        if let Err(failure) = self.try_key(now, requester, request, out) {
            self.reply(now, requester, Err(failure), out);
        }
    }

    fn try_key(
        &mut self,
        now: Now,
        requester: Requester,
        request: KeyRequest,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        self.admits()?;
        let config = self.bucket_config(&request.bucket);
        let terms = self.terms(now, &config, &request.options)?;
        refuse_misfit(&request, terms.policy)?;
        let address = self.address(&request.bucket, &request.key, config.n)?;
        let who = self.participants(&address);
        let is_read = request.operation == Operation::Get;
        let candidates = match is_read {
            // An owner reads by itself: its own object costs nothing.
            true if who.is_owner() && !self.is_in_doubt(address.partition) => vec![self.me],
            true => self.shuffled(who.live_owners().collect()),
            false => {
                let cluster = self.cluster()?;
                let preference = cluster.ring.preference_list(address.partition);
                who.coordinators(terms.mode, preference.nodes())
            }
        };
        if candidates.first() == Some(&self.me) {
            return self.try_coordinate(now, requester, (request, None), (address, terms), out);
        }
        // A context is checked where the client is: one that cannot be right goes no further.
        if let Operation::Write { token: Some(token), .. } | Operation::Change { token: Some(token), .. } =
            &request.operation
        {
            self.open_token(&address, token)?;
        }
        let required = if is_read { terms.r } else { terms.w };
        let is_write = matches!(request.operation, Operation::Write { .. });
        let identity = is_write.then(|| Box::new(self.identity(now, address.partition, terms.ttl)));
        let forward = NewForward {
            request,
            identity,
            partition: address.partition,
            candidates,
            n: who.n(),
            required,
            deadline: terms.deadline,
        };
        self.start_forward(now, requester, forward, out);
        Ok(())
    }

    /// Coordinates a request that this node admits, whoever else could.
    pub(crate) fn coordinate(
        &mut self,
        now: Now,
        requester: Requester,
        request: (KeyRequest, Option<Box<PassedOn>>),
        deadline: annulus_causality::Instant,
        out: &mut Vec<Effect>,
    ) {
        if let Err(failure) = self.try_passed_on(now, requester, request, deadline, out) {
            self.reply(now, requester, Err(failure), out);
        }
    }

    fn try_passed_on(
        &mut self,
        now: Now,
        requester: Requester,
        (request, passed_on): (KeyRequest, Option<Box<PassedOn>>),
        deadline: annulus_causality::Instant,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let config = self.bucket_config(&request.bucket);
        let terms = Terms {
            deadline,
            ..self.terms(now, &config, &request.options)?
        };
        let address = self.address(&request.bucket, &request.key, config.n)?;
        // Who passed it on found nothing amiss.
        let given = passed_on.as_deref().map(|passed_on| passed_on.identity.n);
        if given.is_some_and(|n| n != config.n)
            || request.seen.as_ref().is_some_and(|seen| seen.n != config.n)
            || request.operation.misfit(terms.policy).is_some()
        {
            let bucket = request.bucket.as_str();
            let reason = format!("the nodes differ about bucket {bucket}, which is being declared; try again");
            return Err(Failure::NotReady { reason });
        }
        self.try_coordinate(now, requester, (request, passed_on), (address, terms), out)
    }

    fn try_coordinate(
        &mut self,
        now: Now,
        requester: Requester,
        (request, passed_on): (KeyRequest, Option<Box<PassedOn>>),
        (address, terms): (Address, Terms),
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        if self.is_owner(&address) && self.is_in_doubt(address.partition) {
            return Err(Failure::NotReady {
                reason: format!(
                    "partition {} is being refilled here; the other owners serve it",
                    address.partition
                ),
            });
        }
        let seen = request.seen.map(|seen| seen.dots);
        match request.operation {
            Operation::Get => {
                let read = NewRead {
                    address,
                    terms,
                    seen,
                    then: Then::Reply,
                };
                self.start_read(now, requester, read, out);
            }
            Operation::Change { change, token } => {
                let context = token.map(|token| self.open_token(&address, &token)).transpose()?;
                let change = NewChange {
                    address,
                    change,
                    context,
                    found: None,
                    seen,
                    terms,
                };
                self.start_change(now, requester, change, out);
            }
            Operation::Write {
                value,
                token,
                condition,
            } => {
                let context = token.map(|token| self.open_token(&address, &token)).transpose()?;
                match condition {
                    None => self.start_write(
                        now,
                        requester,
                        NewWrite {
                            address,
                            value,
                            context,
                            passed_on,
                            found: Object::default(),
                            seen,
                            terms,
                        },
                        out,
                    ),
                    Some(condition) => {
                        self.check_room()?;
                        let guarded = Some(Box::new(Guarded {
                            value,
                            context,
                            condition,
                            passed_on,
                        }));
                        let read = NewRead {
                            address,
                            terms,
                            seen,
                            then: Then::Write(guarded),
                        };
                        self.start_read(now, requester, read, out);
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn terms(&self, now: Now, config: &BucketConfig, options: &Options) -> Result<Terms, Failure> {
        let owners = config.n.min(u8::try_from(self.members()).unwrap_or(u8::MAX));
        let timeout: Duration = options.timeout.unwrap_or(self.settings.timeout);
        Terms::new(config, options, owners, now.monotonic + timeout)
    }

    fn open_token(&self, address: &Address, token: &str) -> Result<annulus_causality::CausalContext, Failure> {
        let cluster = self.cluster()?;
        cluster
            .key
            .open(&scope(address), token)
            .map_err(|error: TokenError| Failure::InvalidContext {
                detail: error.to_string(),
            })
    }

    fn cluster_view(&self) -> ClusterView {
        let nodes = self.membership.members().into_iter().map(|state| MemberView {
            name: state.record.member.name.as_str().to_owned(),
            state: state.liveness.as_str(),
            http: state.record.http.clone(),
            peer: state.record.peer.clone(),
            region: state.record.member.region.clone(),
            zone: state.record.member.zone.clone(),
            capacity: state.record.member.capacity.as_f64(),
            version: state.record.version.clone(),
        });
        ClusterView {
            cluster: self
                .cluster
                .as_ref()
                .map(|cluster| cluster.id.to_string())
                .unwrap_or_default(),
            epoch: self.cluster.as_ref().map_or(0, |cluster| cluster.ring.epoch()),
            node: self.settings.name.as_str().to_owned(),
            nodes: nodes.collect(),
        }
    }

    fn locate(&self, bucket: &Bucket, key: &Key) -> Reply {
        let cluster = self.cluster()?;
        let address = self.address(bucket, key, self.bucket_config(bucket).n)?;
        let list = cluster.ring.preference_list(address.partition);
        let names = |nodes: &[NodeId]| nodes.iter().map(|&node| self.name_of(node)).collect();
        Ok(Answer::Located(LocateView {
            epoch: cluster.ring.epoch(),
            partition: address.partition.index,
            position: address.position.0,
            owners: names(list.owners),
            fallbacks: names(list.fallbacks),
        }))
    }
}

/// Counters, sets and maps are changed by operations, values are written.
fn refuse_misfit(request: &KeyRequest, policy: ConflictPolicy) -> Result<(), Failure> {
    match request.operation.misfit(policy) {
        Some(detail) => Err(Failure::WrongOperation {
            bucket: request.bucket.as_str().to_owned(),
            detail: detail.to_owned(),
        }),
        None => Ok(()),
    }
}

fn ring_view(ring: &Ring) -> RingView {
    let n = ring.replicas();
    let name = |node: &NodeId| {
        ring.member(*node)
            .map(|member| member.name.as_str().to_owned())
            .unwrap_or_default()
    };
    let owners = |index| {
        ring.preference_list(PartitionId { n, index })
            .owners
            .iter()
            .map(name)
            .collect()
    };
    RingView {
        epoch: ring.epoch(),
        partitions: ring.partitions().count(),
        n,
        owners: (0..ring.partitions().count()).map(owners).collect(),
    }
}
