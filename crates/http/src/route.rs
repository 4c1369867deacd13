//! A path and a method become one of the routes; what they do is theirs.

use std::{rc::Rc, time::Instant};

use annulus_coordinator::Request;
use annulus_ring::{Bucket, Key};
use http::{HeaderValue, Method, header, request::Parts};
use hyper::body::Incoming;

use crate::{
    activity::Phase,
    body::RequestBody,
    gate::Entered,
    metrics::Route,
    percent::{BadEscape, decode_path},
    problem::{
        INVALID_BUCKET, INVALID_KEY, METHOD_NOT_ALLOWED, NO_SUCH_ROUTE, NOT_IMPLEMENTED, OVERLOADED, Problem,
        json_bytes,
    },
    request_head,
    response::Response,
    routes::{batch, buckets, change, cluster, kv, list, operations, replication},
    server::{Connection, Service},
};

pub(crate) type Handled = Result<Response, Problem>;

/// Answers one request, whatever it is.
pub(crate) async fn answer<S: Service>(connection: Rc<Connection<S>>, request: http::Request<Incoming>) -> Response {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let body = RequestBody::new(body, Rc::clone(&connection.activity));
    let (route, handled) = admit(&connection, head, body).await;
    let mut response = handled.unwrap_or_else(Problem::into_response);
    if connection.activity.is_cut_short() {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    connection
        .server
        .metrics
        .request(route, response.status().as_u16(), began.elapsed());
    if connection.activity.phase() != Phase::Stream {
        connection.activity.enter(Phase::Answering);
    }
    response
}

async fn admit<S: Service>(connection: &Rc<Connection<S>>, head: Parts, body: RequestBody) -> (Route, Handled) {
    if let Err(problem) = request_head::check(&head, &connection.activity) {
        connection.activity.cut_short();
        return (Route::None, Err(problem));
    }
    let target = match Target::of(head.uri.path()) {
        Ok(target) => target,
        Err(problem) => return (Route::None, Err(problem)),
    };
    if let Target::Operation(operation) = target {
        // Never shed: whoever looks after an overloaded node needs them.
        return (
            Route::Operations,
            operations::handle(connection, operation, &head).await,
        );
    }
    match connection.server.gate.enter() {
        Some(entered) => dispatch(connection, target, head, body, entered).await,
        None => {
            let problem = OVERLOADED
                .because("as many requests are in progress as may be")
                .fact("outcome", "none");
            (Route::None, Err(problem))
        }
    }
}

async fn dispatch<S: Service>(
    connection: &Rc<Connection<S>>,
    target: Target,
    head: Parts,
    body: RequestBody,
    entered: Entered,
) -> (Route, Handled) {
    let verb = Verb::of(&head.method);
    match (target, verb) {
        (Target::Key(bucket, key), Verb::Get) => (Route::ReadKey, kv::read(connection, bucket, key, head).await),
        (Target::Key(bucket, key), Verb::Put) => (Route::WriteKey, kv::put(connection, bucket, key, head, body).await),
        (Target::Key(bucket, key), Verb::Delete) => (Route::DeleteKey, kv::delete(connection, bucket, key, head).await),
        (Target::Key(bucket, key), Verb::Post) => (
            Route::WriteKey,
            Box::pin(change::post(connection, bucket, key, head, body)).await,
        ),
        // The rarer ones in boxes: the future of a connection is as large as its largest.
        (Target::List(bucket), Verb::Get) => (Route::List, Box::pin(list::page(connection, bucket, head)).await),
        (Target::Batch, Verb::Post) => (
            Route::Batch,
            Box::pin(batch::run(connection, head, body, entered)).await,
        ),
        (Target::Bucket(bucket), verb @ (Verb::Get | Verb::Put | Verb::Delete)) => (
            Route::Buckets,
            Box::pin(buckets::one(connection, bucket, verb, head, body)).await,
        ),
        (Target::Buckets, Verb::Get) => (Route::Buckets, Box::pin(buckets::all(connection, head)).await),
        (Target::Cluster, Verb::Get) => (Route::Cluster, Box::pin(cluster::members(connection, head)).await),
        (Target::Ring, Verb::Get) => (Route::Cluster, Box::pin(cluster::ring(connection, head)).await),
        (Target::RingPath(rest), Verb::Get) => {
            (Route::Cluster, Box::pin(cluster::locate(connection, rest, head)).await)
        }
        (Target::Replication, Verb::Get) => (
            Route::Cluster,
            Box::pin(replication::ask(connection, Request::Replication, head)).await,
        ),
        (Target::Repair, Verb::Post) => (
            Route::Cluster,
            Box::pin(replication::ask(connection, Request::Repair, head)).await,
        ),
        (Target::RingPath(_), Verb::Post) => (Route::Cluster, Err(ring_change())),
        (target, _) => (Route::None, Err(not_allowed(target.allowed()))),
    }
}

fn ring_change() -> Problem {
    NOT_IMPLEMENTED.because("the ring cannot be changed over HTTP yet")
}

/// `405` with what the path takes instead.
pub(crate) fn not_allowed(allowed: &'static str) -> Problem {
    let detail = format!("this path takes {allowed}");
    METHOD_NOT_ALLOWED
        .because(detail)
        .header(header::ALLOW, HeaderValue::from_static(allowed))
}

/// What a method asks for; HEAD is GET, and hyper leaves the body out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Put,
    Post,
    Delete,
    Other,
}

impl Verb {
    pub(crate) fn of(method: &Method) -> Verb {
        match *method {
            Method::GET | Method::HEAD => Verb::Get,
            Method::PUT => Verb::Put,
            Method::POST => Verb::Post,
            Method::DELETE => Verb::Delete,
            _ => Verb::Other,
        }
    }
}

/// What a path names.
enum Target {
    Key(Bucket, Key),
    List(Bucket),
    Batch,
    Bucket(Bucket),
    Buckets,
    Cluster,
    Ring,
    /// Below `/v1/ring/`.
    RingPath(String),
    Replication,
    Repair,
    Operation(operations::Operation),
}

impl Target {
    fn of(path: &str) -> Result<Target, Problem> {
        if let Some(rest) = path.strip_prefix("/v1/kv/") {
            return match rest.split_once('/') {
                Some((name, rest)) => Ok(Target::Key(bucket(name)?, key(rest)?)),
                None => Ok(Target::List(bucket(rest)?)),
            };
        }
        if let Some(name) = path.strip_prefix("/v1/buckets/") {
            return Ok(Target::Bucket(bucket(name)?));
        }
        if let Some(rest) = path.strip_prefix("/v1/ring/") {
            return Ok(Target::RingPath(rest.to_owned()));
        }
        match path {
            "/v1/batch" => Ok(Target::Batch),
            "/v1/buckets" => Ok(Target::Buckets),
            "/v1/cluster" => Ok(Target::Cluster),
            "/v1/ring" => Ok(Target::Ring),
            "/v1/replication" => Ok(Target::Replication),
            "/v1/repair" => Ok(Target::Repair),
            _ => operations::Operation::of(path)
                .map(Target::Operation)
                .ok_or_else(no_such_route),
        }
    }

    fn allowed(&self) -> &'static str {
        match self {
            Target::Key(..) => "GET, HEAD, PUT, POST, DELETE",
            Target::Bucket(_) => "GET, HEAD, PUT, DELETE",
            Target::Batch | Target::Repair => "POST",
            Target::RingPath(_) => "GET, HEAD, POST",
            Target::List(_)
            | Target::Buckets
            | Target::Cluster
            | Target::Ring
            | Target::Replication
            | Target::Operation(_) => "GET, HEAD",
        }
    }
}

pub(crate) fn no_such_route() -> Problem {
    NO_SUCH_ROUTE.because("see the documentation for what is served where")
}

/// A bucket's name as it stands in a path.
pub(crate) fn bucket(text: &str) -> Result<Bucket, Problem> {
    let problem = |detail: String, name: &[u8]| INVALID_BUCKET.because(detail).fact("bucket", json_bytes(name));
    let name = decode_path(text).map_err(|bad| problem(escape(bad), text.as_bytes()))?;
    let name = std::str::from_utf8(&name).map_err(|_| problem("the name is not UTF-8".to_owned(), &name))?;
    Bucket::parse(name).map_err(|error| problem(error.to_string(), name.as_bytes()))
}

/// A key as it stands in a path: every byte of it counts, empty segments too.
pub(crate) fn key(text: &str) -> Result<Key, Problem> {
    let bytes = decode_path(text).map_err(|bad| INVALID_KEY.because(escape(bad)))?;
    Key::parse(bytes.into_owned()).map_err(|error| {
        INVALID_KEY
            .because(error.to_string())
            .fact("limit", annulus_ring::MAX_KEY_BYTES)
    })
}

fn escape(BadEscape(at): BadEscape) -> String {
    format!("the percent sign at byte {at} does not begin an escape such as %2F")
}
