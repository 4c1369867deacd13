//! The calls of the contract, one method each: arguments become a request, and an answer becomes a value or an error.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use crate::{
    admin::{Bucket, Cluster, Location, Readiness, Replication, Ring},
    answer::{CONTEXT, META_PREFIX, SESSION},
    batch::{Answer, Operation},
    error::Error,
    nodes::Nodes,
    options::{OnUnknown, Options, Page},
    path,
    problem::Problem,
    transport::{Call, Kind, Patience, Reply, Transport},
    value::{Condition, Context, Head, Listing, Put, Read, Written},
};

/// A client of one cluster. Cheap to clone; clones share connections and what is known about the nodes.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
    /// What the client has seen, as nodes last said it; the lock is held for the whole of a request.
    session: Option<Arc<Mutex<HeaderValue>>>,
}

/// How patient a client is.
///
/// ```
/// # use std::time::Duration;
/// use annulus_client::Client;
/// let client = Client::builder().deadline(Duration::from_secs(5)).attempts(3).build(["127.0.0.1:8101"]);
/// assert!(client.is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    patience: Patience,
}

impl Builder {
    /// The time for all attempts of a request together, unless it has one of its own. Default 30 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.patience.deadline = deadline;
        self
    }

    /// The time for one attempt, the connection included, unless the request carries a `timeout`. Default 5 s.
    #[must_use]
    pub fn attempt_limit(mut self, limit: Duration) -> Self {
        self.patience.attempt = limit;
        self
    }

    /// How often a request is sent at most; at least once. Default 8.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.patience.attempts = attempts.max(1);
        self
    }

    /// The pause after all nodes have failed, doubling from `first` to `longest`. Default 50 ms to 1 s.
    #[must_use]
    pub fn pause(mut self, first: Duration, longest: Duration) -> Self {
        self.patience.pause = (first, longest);
        self
    }

    /// A client of the cluster that these nodes belong to. They take turns.
    ///
    /// # Errors
    /// If there is no URL, or one that is none: `http://host:port`, or `host:port`.
    pub fn build<T: AsRef<str>>(self, urls: impl IntoIterator<Item = T>) -> Result<Client, Error> {
        let nodes = Nodes::parse(urls).map_err(|why| Error::invalid("client", why))?;
        Ok(Client {
            transport: Arc::new(Transport::new(nodes, self.patience)),
            session: None,
        })
    }
}

impl Client {
    /// A client with the default patience; see [`Builder::build`].
    ///
    /// # Errors
    /// If there is no URL, or one that is none.
    pub fn new<T: AsRef<str>>(urls: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        Self::builder().build(urls)
    }

    /// A client with a patience to be set.
    #[must_use]
    pub fn builder() -> Builder {
        let patience = Patience {
            deadline: Duration::from_secs(30),
            attempt: Duration::from_secs(5),
            attempts: 8,
            pause: (Duration::from_millis(50), Duration::from_secs(1)),
        };
        Builder { patience }
    }

    /// A client that is in a new session: what it has read or written it sees from then on through any node, also where one
    /// replica answers. Its clones are in the same session, and its requests go one after the other, as each says what the one before
    /// has seen. Listings and batches are in no session.
    ///
    /// ```no_run
    /// # use annulus_client::{Client, Options, Put, Quorum};
    /// # async fn example(client: Client) -> Result<(), annulus_client::Error> {
    /// let mine = client.in_new_session();
    /// let one = Options { r: Some(Quorum::One), w: Some(Quorum::One), ..Options::default() };
    /// mine.put("carts", "alice", Put::new("bread"), &one).await?;
    /// let read = mine.get("carts", "alice", &one).await?; // the bread, whichever replica answers
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn in_new_session(&self) -> Client {
        Client {
            transport: Arc::clone(&self.transport),
            session: Some(Arc::new(Mutex::new(HeaderValue::from_static("new")))),
        }
    }

    /// The session's token as the last answer gave it, to be handed on to another client; nothing outside of a session.
    pub async fn session(&self) -> Option<String> {
        let session = self.session.as_ref()?.lock().await;
        session.to_str().ok().map(str::to_owned)
    }

    /// Sends a request about a key, in the session if there is one.
    async fn call(&self, mut call: Call) -> Result<Reply, Error> {
        let Some(session) = &self.session else {
            return self.transport.call(call).await;
        };
        let mut session = session.lock().await;
        call.headers.insert(SESSION, session.clone());
        let reply = self.transport.call(call).await?;
        if let Some(seen) = reply.headers.get(SESSION) {
            session.clone_from(seen);
        }
        Ok(reply)
    }

    /// The URLs of the nodes that it asks.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.transport.nodes.urls()
    }

    /// Reads a key.
    ///
    /// # Errors
    /// If no node gave an answer in time, or one refused; a key that holds nothing is no error.
    pub async fn get(&self, bucket: &str, key: impl AsRef<[u8]>, options: &Options) -> Result<Read, Error> {
        self.read(Method::GET, bucket, key.as_ref(), options).await?.read()
    }

    /// Reads what a key holds, without the values.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn head(&self, bucket: &str, key: impl AsRef<[u8]>, options: &Options) -> Result<Head, Error> {
        self.read(Method::HEAD, bucket, key.as_ref(), options).await?.head()
    }

    async fn read(&self, method: Method, bucket: &str, key: &[u8], options: &Options) -> Result<Reply, Error> {
        let operation = named(&method, bucket, key);
        let mut path = path::key("/v1/kv", bucket, key).map_err(|why| Error::invalid(&operation, why))?;
        options.read_parameters(&mut path);
        let call = Call {
            timeout: options.timeout,
            deadline: options.deadline,
            attempts: options.attempts,
            ..call(operation, method, path)
        };
        self.call(call).await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// If the write was not acknowledged; [`Error::outcome`] says whether it may have taken effect nevertheless.
    pub async fn put(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
        put: Put,
        options: &Options,
    ) -> Result<Written, Error> {
        let operation = named(&Method::PUT, bucket, key.as_ref());
        let headers = put_headers(&put).map_err(|why| Error::invalid(&operation, why))?;
        self.write(
            operation,
            Method::PUT,
            (bucket, key.as_ref()),
            headers,
            put.bytes,
            options,
        )
        .await
    }

    /// Deletes a key; with a context, exactly what that has seen. Deleting what is not there is no error.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
        context: Option<&Context>,
        options: &Options,
    ) -> Result<Written, Error> {
        self.delete_if(bucket, key, context, &Condition::Always, options).await
    }

    /// Deletes a key under a condition.
    ///
    /// # Errors
    /// As [`put`](Self::put); status 412 if the condition does not hold.
    pub async fn delete_if(
        &self,
        bucket: &str,
        key: impl AsRef<[u8]>,
        context: Option<&Context>,
        condition: &Condition,
        options: &Options,
    ) -> Result<Written, Error> {
        let operation = named(&Method::DELETE, bucket, key.as_ref());
        let headers = guard_headers(context, condition).map_err(|why| Error::invalid(&operation, why))?;
        self.write(
            operation,
            Method::DELETE,
            (bucket, key.as_ref()),
            headers,
            Bytes::new(),
            options,
        )
        .await
    }

    async fn write(
        &self,
        operation: String,
        method: Method,
        (bucket, key): (&str, &[u8]),
        headers: HeaderMap,
        body: Bytes,
        options: &Options,
    ) -> Result<Written, Error> {
        let mut path = path::key("/v1/kv", bucket, key).map_err(|why| Error::invalid(&operation, why))?;
        options.write_parameters(&mut path);
        let guarded = headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH);
        let call = Call {
            kind: if guarded {
                Kind::GuardedWrite
            } else {
                write_kind(options)
            },
            headers,
            body,
            timeout: options.timeout,
            deadline: options.deadline,
            attempts: options.attempts,
            ..call(operation, method, path)
        };
        self.call(call).await?.written()
    }

    /// Lists a bucket's keys, in key order, a page at a time.
    ///
    /// # Errors
    /// If no node gave an answer in time, or one refused.
    pub async fn list(&self, bucket: &str, page: &Page) -> Result<Listing, Error> {
        let operation = format!("list {bucket}");
        let mut path = format!(
            "/v1/kv/{}",
            path::bucket(bucket).map_err(|why| Error::invalid(&operation, why))?
        );
        if !page.prefix.is_empty() {
            path::parameter(&mut path, "prefix", &page.prefix);
        }
        if let Some(start) = &page.start {
            path::parameter(&mut path, "start", start);
        }
        if let Some(limit) = page.limit {
            path::parameter(&mut path, "limit", limit.to_string());
        }
        self.transport.call(call(operation, Method::GET, path)).await?.listing()
    }

    /// Sends several operations at once. Each stands alone: one may fail while others do not. The answers are in order.
    ///
    /// # Errors
    /// If the batch as a whole was not answered; its writes may then have taken effect, all, some or none.
    pub async fn batch(&self, operations: &[Operation], options: &Options) -> Result<Vec<Answer>, Error> {
        let mut body = Vec::new();
        for operation in operations {
            serde_json::to_writer(&mut body, operation).map_err(|error| Error::invalid("batch", error.to_string()))?;
            body.push(b'\n');
        }
        let writes = operations.iter().any(Operation::is_write);
        let call = Call {
            kind: if writes { write_kind(options) } else { Kind::Read },
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))]),
            body: body.into(),
            deadline: options.deadline,
            attempts: options.attempts,
            ..call("batch".to_owned(), Method::POST, "/v1/batch".to_owned())
        };
        let reply = self.transport.call(call).await?.expect_success()?;
        let lines = reply.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let answers: Result<Vec<_>, _> = lines.map(Answer::decode).collect();
        match answers {
            Ok(answers) if answers.len() == operations.len() => Ok(answers),
            Ok(answers) => {
                Err(reply.unreadable(&format!("{} lines for {} operations", answers.len(), operations.len())))
            }
            Err(why) => Err(reply.unreadable(&why)),
        }
    }

    /// Declares a bucket, or changes its declaration.
    ///
    /// # Errors
    /// Status 409 if it holds keys and `n` or `conflicts` would change.
    pub async fn declare_bucket(&self, name: &str, bucket: &Bucket) -> Result<(), Error> {
        let operation = format!("declare bucket {name}");
        let body = serde_json::to_vec(bucket).map_err(|error| Error::invalid(&operation, error.to_string()))?;
        let call = Call {
            kind: Kind::Write,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
            body: body.into(),
            ..bucket_call(operation, Method::PUT, name)?
        };
        self.transport.call(call).await?.expect_success().map(drop)
    }

    /// A bucket's declaration.
    ///
    /// # Errors
    /// Status 404 if it was never declared.
    pub async fn bucket(&self, name: &str) -> Result<Bucket, Error> {
        let call = bucket_call(format!("bucket {name}"), Method::GET, name)?;
        let bucket: Bucket = self.transport.call(call).await?.expect_json()?;
        Ok(Bucket {
            name: name.to_owned(),
            ..bucket
        })
    }

    /// Removes an empty bucket's declaration.
    ///
    /// # Errors
    /// Status 409 if it holds keys.
    pub async fn delete_bucket(&self, name: &str) -> Result<(), Error> {
        let call = bucket_call(format!("delete bucket {name}"), Method::DELETE, name)?;
        self.transport
            .call(Call {
                kind: Kind::Write,
                ..call
            })
            .await?
            .expect_success()
            .map(drop)
    }

    /// All declared buckets.
    ///
    /// # Errors
    /// If no node gave an answer in time.
    pub async fn buckets(&self) -> Result<Vec<Bucket>, Error> {
        #[derive(Deserialize)]
        struct Buckets {
            buckets: Vec<Bucket>,
        }
        Ok(self
            .fetch::<Buckets>("list buckets", "/v1/buckets".to_owned())
            .await?
            .buckets)
    }

    /// Members, their liveness and the epoch, as the node that answers sees them.
    ///
    /// # Errors
    /// If no node gave an answer in time.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.fetch("cluster", "/v1/cluster".to_owned()).await
    }

    /// The ring: partitions and their owners.
    ///
    /// # Errors
    /// If no node gave an answer in time, or the cluster has not formed.
    pub async fn ring(&self) -> Result<Ring, Error> {
        self.fetch("ring", "/v1/ring".to_owned()).await
    }

    /// Where a key lives.
    ///
    /// # Errors
    /// As [`ring`](Self::ring).
    pub async fn locate(&self, bucket: &str, key: impl AsRef<[u8]>) -> Result<Location, Error> {
        let operation = named("locate", bucket, key.as_ref());
        let path = path::key("/v1/ring", bucket, key.as_ref()).map_err(|why| Error::invalid(&operation, why))?;
        self.fetch(&operation, path).await
    }

    /// How far the node that is asked and its co-owners are apart; ask through a client of that one node.
    ///
    /// # Errors
    /// If it gave no answer in time, or the cluster has not formed.
    pub async fn replication(&self) -> Result<Replication, Error> {
        self.fetch("replication", "/v1/replication".to_owned()).await
    }

    /// Has the node compare its clocks with all co-owners and check what it stores, at once; ask through a client of that one node.
    ///
    /// # Errors
    /// As [`replication`](Self::replication).
    pub async fn repair(&self) -> Result<Replication, Error> {
        let call = call("repair".to_owned(), Method::POST, "/v1/repair".to_owned());
        self.transport.call(call).await?.expect_json()
    }

    /// Whether the node's process lives. One attempt; ask through a client of that one node.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn health(&self) -> Result<(), Error> {
        self.probe("health").await?.expect_success().map(drop)
    }

    /// Whether the node serves its ranges. One attempt; ask through a client of that one node.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn ready(&self) -> Result<Readiness, Error> {
        let reply = self.probe("ready").await?;
        match reply.status {
            StatusCode::SERVICE_UNAVAILABLE => Ok(Readiness::NotReady(Problem::decode(reply.status, &reply.body))),
            _ => reply.expect_success().map(|_| Readiness::Ready),
        }
    }

    /// The node's metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self) -> Result<String, Error> {
        let call = call("metrics".to_owned(), Method::GET, "/metrics".to_owned());
        let reply = self.transport.call(call).await?.expect_success()?;
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    async fn probe(&self, name: &str) -> Result<Reply, Error> {
        let call = call(name.to_owned(), Method::GET, format!("/{name}"));
        self.transport
            .call(Call {
                kind: Kind::Probe,
                ..call
            })
            .await
    }

    async fn fetch<T: DeserializeOwned>(&self, operation: &str, path: String) -> Result<T, Error> {
        self.transport
            .call(call(operation.to_owned(), Method::GET, path))
            .await?
            .expect_json()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.urls()).finish()
    }
}

fn named(method: impl std::fmt::Display, bucket: &str, key: &[u8]) -> String {
    format!("{method} {bucket}/{}", key.escape_ascii())
}

/// A request that reads, without a body and with the client's patience.
fn call(operation: String, method: Method, path: String) -> Call {
    Call {
        operation,
        kind: Kind::Read,
        method,
        path,
        headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("*/*"))]),
        body: Bytes::new(),
        timeout: None,
        deadline: None,
        attempts: None,
    }
}

fn bucket_call(operation: String, method: Method, name: &str) -> Result<Call, Error> {
    let path = format!(
        "/v1/buckets/{}",
        path::bucket(name).map_err(|why| Error::invalid(&operation, why))?
    );
    Ok(call(operation, method, path))
}

fn write_kind(options: &Options) -> Kind {
    match options.on_unknown {
        OnUnknown::Retry => Kind::Write,
        OnUnknown::Report => Kind::GuardedWrite,
    }
}

fn put_headers(put: &Put) -> Result<HeaderMap, String> {
    let mut headers = guard_headers(put.context.as_ref(), &put.condition)?;
    if let Some(content_type) = &put.content_type {
        headers.insert(CONTENT_TYPE, header("content type", content_type)?);
    }
    for (name, value) in &put.meta {
        let header_name = HeaderName::try_from(format!("{META_PREFIX}{name}"))
            .map_err(|_| format!("{name:?} is no name for metadata: letters, digits and - . _ only"))?;
        headers.insert(header_name, header(name, value)?);
    }
    Ok(headers)
}

fn guard_headers(context: Option<&Context>, condition: &Condition) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if let Some(context) = context {
        headers.insert(CONTEXT, header("context", context.as_str())?);
    }
    match condition {
        Condition::Always => {}
        Condition::Matches(etag) => drop(headers.insert(IF_MATCH, header("entity tag", etag)?)),
        Condition::Absent => drop(headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"))),
    }
    Ok(headers)
}

fn header(what: &str, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| format!("{what} {value:?} holds a control character"))
}
