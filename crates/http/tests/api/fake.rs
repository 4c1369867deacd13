//! A node in a map: just enough to tell what reached it, and to answer with everything that a node can answer.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
};

use annulus_causality::{ConflictPolicy, Timestamp, Version, etag};
use annulus_coordinator::{
    Answer, BucketConfig, BucketSpec, ClusterView, Condition, Durability, Failure, Found, KeyRequest, Level,
    ListRequest, LocateView, MemberView, Mode, NewValue, Operation, Outcome, Page, PeerLag, ReplicationView, Reply,
    Request, RingView, Written,
};
use annulus_http::Service;
use annulus_ring::{Bucket, Key};
use bytes::Bytes;
use tokio::sync::Semaphore;

type Address = (String, Vec<u8>);

/// The node.
#[derive(Default)]
pub(crate) struct Fake {
    values: RefCell<BTreeMap<Address, Vec<Version>>>,
    buckets: RefCell<BTreeMap<String, BucketConfig>>,
    /// Everything that was asked, in order.
    pub(crate) requests: RefCell<Vec<Request>>,
    writes: Cell<u64>,
    /// Requests about bucket `slow` wait for one permit each.
    pub(crate) permits: Rc<Permits>,
    pub(crate) unready: Cell<bool>,
}

/// Lets requests through one by one, and tells when they wait.
pub(crate) struct Permits {
    permits: Semaphore,
    arrived: Semaphore,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(0),
            arrived: Semaphore::new(0),
        }
    }
}

impl Permits {
    async fn pass(&self) {
        self.arrived.add_permits(1);
        self.permits.acquire().await.expect("never closed").forget();
    }

    /// Waits until a request waits.
    pub(crate) async fn arrival(&self) {
        self.arrived.acquire().await.expect("never closed").forget();
    }

    pub(crate) fn release(&self, requests: usize) {
        self.permits.add_permits(requests);
    }
}

impl Service for Fake {
    fn call(&self, request: Request) -> impl Future<Output = Reply> + 'static {
        self.requests.borrow_mut().push(request.clone());
        let slow = matches!(&request, Request::Key(request) if request.bucket.as_str() == "slow");
        let permits = Rc::clone(&self.permits);
        let reply = self.reply(request);
        let wait: Pin<Box<dyn Future<Output = ()>>> = if slow {
            Box::pin(async move { permits.pass().await })
        } else {
            Box::pin(std::future::ready(()))
        };
        async move {
            wait.await;
            reply
        }
    }

    fn metrics(&self) -> String {
        "# HELP fake_up Whether it is there.\n# TYPE fake_up gauge\nfake_up 1\n".to_owned()
    }
}

impl Fake {
    /// The request about a key that came last.
    pub(crate) fn last(&self) -> KeyRequest {
        match self.requests.borrow().last() {
            Some(Request::Key(request) | Request::InSession { request, .. }) => request.clone(),
            other => panic!("not about a key: {other:?}"),
        }
    }

    fn reply(&self, request: Request) -> Reply {
        match request {
            Request::Key(request) => self.key(request),
            Request::InSession { token, .. } if token.as_deref() == Some("forged") => Err(Failure::InvalidSession {
                detail: "its seal is broken".to_owned(),
            }),
            Request::InSession { token, request } => {
                let token = token.map_or_else(|| "first".to_owned(), |token| format!("{token}-next"));
                let answer = Box::new(self.key(request)?);
                Ok(Answer::InSession { token, answer })
            }
            Request::List(request) => self.list(&request),
            Request::DeclareBucket(bucket, spec) => self.declare(bucket, &spec),
            Request::GetBucket(bucket) => match self.buckets.borrow().get(bucket.as_str()) {
                Some(config) => Ok(Answer::Bucket(bucket, config.clone())),
                None => Err(Failure::NoSuchBucket {
                    bucket: bucket.to_string(),
                }),
            },
            Request::DropBucket(bucket) if bucket.as_str() == "full" => Err(Failure::BucketHoldsKeys {
                bucket: "full".to_owned(),
                detail: "delete them first".to_owned(),
            }),
            Request::DropBucket(bucket) => {
                self.buckets.borrow_mut().remove(bucket.as_str());
                Ok(Answer::Dropped)
            }
            Request::ListBuckets => {
                let buckets = self.buckets.borrow();
                let parse = |name: &String| Bucket::parse(name).expect("it was one");
                Ok(Answer::Buckets(
                    buckets
                        .iter()
                        .map(|(name, config)| (parse(name), config.clone()))
                        .collect(),
                ))
            }
            Request::Cluster => Ok(Answer::Cluster(cluster())),
            Request::Ring => {
                let owners = vec![vec!["n1".to_owned(), "n2".to_owned()]; 2];
                Ok(Answer::Ring(RingView {
                    epoch: 1,
                    partitions: 2,
                    n: 2,
                    owners,
                }))
            }
            Request::Locate(..) => Ok(Answer::Located(LocateView {
                epoch: 1,
                partition: 17,
                position: 0xab,
                owners: vec!["n2".to_owned()],
                fallbacks: vec!["n5".to_owned()],
            })),
            Request::Ready if self.unready.get() => Err(Failure::NotReady {
                reason: "two of three nodes are missing".to_owned(),
            }),
            Request::Replication | Request::Repair => Ok(Answer::Replication(ReplicationView {
                node: "n1".to_owned(),
                log_entries: 7,
                peers: vec![PeerLag {
                    name: "n2".to_owned(),
                    behind: 7,
                    ..PeerLag::default()
                }],
                ..ReplicationView::default()
            })),
            Request::Ready => Ok(Answer::Ready),
        }
    }

    fn declare(&self, bucket: Bucket, spec: &BucketSpec) -> Reply {
        if spec.n == Some(9) {
            return Err(Failure::Invalid {
                parameter: "n",
                detail: "9 is more than 3".to_owned(),
            });
        }
        let config = BucketConfig {
            n: spec.n.unwrap_or(3),
            r: spec.r.unwrap_or(Level::Quorum),
            w: spec.w.unwrap_or(Level::Quorum),
            mode: spec.mode.unwrap_or(Mode::Sloppy),
            durability: spec.durability.unwrap_or(Durability::Disk),
            conflicts: spec.conflicts.unwrap_or(ConflictPolicy::Siblings),
            ttl: spec.ttl,
            max_siblings: spec.max_siblings.unwrap_or(64),
        };
        self.buckets
            .borrow_mut()
            .insert(bucket.as_str().to_owned(), config.clone());
        Ok(Answer::Bucket(bucket, config))
    }

    fn key(&self, request: KeyRequest) -> Reply {
        if let Some(failure) = failure(request.bucket.as_str()) {
            return Err(failure);
        }
        let address = (request.bucket.as_str().to_owned(), request.key.as_bytes().to_vec());
        match request.operation {
            Operation::Get => {
                let versions = self.values.borrow().get(&address).cloned().unwrap_or_default();
                let etag = etag(&versions.iter().collect::<Vec<_>>());
                Ok(Answer::Found(Found {
                    versions,
                    etag,
                    token: self.token(),
                    answered: 2,
                    n: 3,
                    seen: None,
                }))
            }
            Operation::Write {
                value,
                token,
                condition,
            } => self.write(address, value, token, condition),
            // It keeps no counters: what matters here is what it was asked.
            Operation::Change { .. } => Ok(Answer::Written(Written {
                token: self.token(),
                answered: 2,
                n: 3,
                fallbacks: 0,
                seen: None,
            })),
        }
    }

    fn write(
        &self,
        address: Address,
        value: Option<NewValue>,
        token: Option<String>,
        condition: Option<Condition>,
    ) -> Reply {
        let fallbacks = u8::from(address.0 == "thin");
        let mut values = self.values.borrow_mut();
        let versions = values.entry(address).or_default();
        let now = (!versions.is_empty()).then(|| etag(&versions.iter().collect::<Vec<_>>()));
        let holds = match condition {
            None => true,
            Some(Condition::Absent) => now.is_none(),
            Some(Condition::Exists) => now.is_some(),
            Some(Condition::Match(etags)) => now.is_some_and(|now| etags.contains(&now)),
        };
        if !holds {
            return Err(Failure::ConditionFailed { etag: now });
        }
        match token.as_deref() {
            Some("forged") => {
                return Err(Failure::InvalidContext {
                    detail: "its seal is broken".to_owned(),
                });
            }
            Some("stale") => {}
            _ => versions.clear(),
        }
        self.writes.set(self.writes.get() + 1);
        let modified = Timestamp {
            millis: 1_700_000_000_000 + self.writes.get(),
            logical: 0,
        };
        versions.extend(value.map(|new| Version::new(new.value, new.content_type, new.meta, modified, None)));
        Ok(Answer::Written(Written {
            token: self.token(),
            answered: 2,
            n: 3,
            fallbacks,
            seen: None,
        }))
    }

    fn token(&self) -> String {
        format!("token-{}", self.writes.get())
    }

    fn list(&self, request: &ListRequest) -> Reply {
        let values = self.values.borrow();
        let mut keys = values
            .iter()
            .filter(|((bucket, key), versions)| {
                bucket == request.bucket.as_str()
                    && !versions.is_empty()
                    && key.starts_with(&request.prefix)
                    && key[..] >= request.start[..]
            })
            .map(|((_, key), _)| key.clone());
        let page = keys
            .by_ref()
            .take(request.limit)
            .map(|key| Key::parse(key).expect("it was one"))
            .collect();
        Ok(Answer::Page(Page {
            keys: page,
            next: keys.next().map(Bytes::from),
        }))
    }
}

/// Buckets by which every failure can be had.
fn failure(bucket: &str) -> Option<Failure> {
    let (required, answered, n) = (2, 1, 3);
    Some(match bucket {
        "fail-level" => Failure::Invalid {
            parameter: "w",
            detail: "5 is more than n, 3".to_owned(),
        },
        "fail-operation" => Failure::WrongOperation {
            bucket: "fail-operation".to_owned(),
            detail: "its keys are counters".to_owned(),
        },
        "fail-limit" => Failure::LimitReached {
            detail: "it would hold more than 10000 entries".to_owned(),
        },
        "fail-siblings" => Failure::TooManySiblings {
            siblings: 65,
            limit: 64,
        },
        "fail-quorum" => Failure::QuorumUnreachable {
            required,
            answered,
            n,
            outcome: Outcome::Unknown,
        },
        "fail-session" => Failure::SessionBehind {
            partition: 17,
            missing: 2,
            answered,
            n,
        },
        "fail-late" => Failure::TimedOut {
            required,
            answered,
            outcome: Outcome::Unknown,
        },
        "fail-unready" => Failure::NotReady {
            reason: "draining".to_owned(),
        },
        "fail-disk" => Failure::StorageUnavailable {
            detail: "no space left".to_owned(),
        },
        "fail-load" => Failure::Overloaded {
            detail: "the queue is full".to_owned(),
        },
        "fail-damage" => Failure::Damaged {
            detail: "checksum".to_owned(),
        },
        _ => return None,
    })
}

fn cluster() -> ClusterView {
    ClusterView {
        cluster: "c1".to_owned(),
        epoch: 1,
        node: "n1".to_owned(),
        nodes: vec![MemberView {
            name: "n1".to_owned(),
            state: "alive",
            http: "127.0.0.1:8101".to_owned(),
            peer: "127.0.0.1:7101".to_owned(),
            region: "eu".to_owned(),
            zone: "a".to_owned(),
            capacity: 1.0,
            version: "0.1.0".to_owned(),
        }],
    }
}
