//! A node in this process and in memory: the data routes of the contract, and a script that may answer in its place.

#![allow(dead_code)] // Not every test uses all of it.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

/// What a script does with a request.
pub(crate) enum Act {
    /// Serve it as a good node would.
    Serve,
    /// Answer with this instead.
    Answer(Response<Full<Bytes>>),
    /// Close the connection without an answer.
    Cut,
    /// Serve it, and then close the connection without an answer.
    ServeAndCut,
    /// Never answer.
    Hang,
}

/// A request as the script sees it.
pub(crate) struct Seen {
    pub(crate) nth: usize,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Script = Box<dyn Fn(&Seen) -> Act + Send + Sync>;

pub(crate) struct Fake {
    address: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    script: Script,
    seen: Mutex<Vec<String>>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Default)]
struct Bucket {
    writes: u64,
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
}

#[derive(Clone)]
struct Version {
    write: u64,
    headers: HeaderMap,
    body: Bytes,
}

impl Fake {
    pub(crate) async fn good() -> Self {
        Self::scripted(|_| Act::Serve).await
    }

    pub(crate) async fn scripted(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            buckets: Mutex::default(),
        });
        let server = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `METHOD path?query` of every request, in the order of arrival.
    pub(crate) fn seen(&self) -> Vec<String> {
        lock(&self.state.seen).clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

pub(crate) fn problem(status: u16, body: &'static str) -> Act {
    Act::Answer(response(
        status,
        &[("content-type", "application/problem+json")],
        body.into(),
    ))
}

pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: Bytes) -> Response<Full<Bytes>> {
    let builder = headers
        .iter()
        .fold(Response::builder().status(status), |builder, (name, value)| {
            builder.header(*name, *value)
        });
    builder.body(Full::new(body)).expect("valid headers")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // A connection that the script cuts ends in an error here; the client's side is what is tested.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let nth = {
        let mut seen = lock(&state.seen);
        seen.push(format!("{} {}", parts.method, parts.uri));
        seen.len() - 1
    };
    let seen = Seen {
        nth,
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
    };
    let cut = || Err(std::io::Error::other("cut by the script"));
    match (state.script)(&seen) {
        Act::Serve => Ok(state.serve(&seen)),
        Act::Answer(response) => Ok(response),
        Act::Cut => cut(),
        Act::ServeAndCut => {
            state.serve(&seen);
            cut()
        }
        Act::Hang => std::future::pending::<Result<_, Infallible>>()
            .await
            .map_err(|never| match never {}),
    }
}

impl State {
    fn serve(&self, seen: &Seen) -> Response<Full<Bytes>> {
        let Some(rest) = seen.uri.path().strip_prefix("/v1/kv/") else {
            return response(
                404,
                &[],
                r#"{"type":"no-such-route","title":"No such route","status":404}"#.into(),
            );
        };
        let mut buckets = lock(&self.buckets);
        let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = buckets.entry(name.to_owned()).or_default();
        let key: Vec<u8> = percent_encoding::percent_decode_str(key).collect();
        match seen.method {
            Method::GET if key.is_empty() => bucket.list(seen.uri.query().unwrap_or_default()),
            Method::GET => bucket.read(&key),
            // hyper sends the headers of this and leaves the body out.
            Method::HEAD => bucket.read(&key),
            Method::PUT => bucket.write(&key, seen, Some(seen.body.clone())),
            Method::DELETE => bucket.write(&key, seen, None),
            _ => response(405, &[], Bytes::new()),
        }
    }
}

impl Bucket {
    fn read(&self, key: &[u8]) -> Response<Full<Bytes>> {
        let versions = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let context = format!("seen-{}", self.writes);
        let count = versions.len().to_string();
        let mut response = match versions {
            [] => response(
                404,
                &[],
                r#"{"type":"no-such-key","title":"No such key","status":404}"#.into(),
            ),
            [one] => {
                let mut response = Response::new(Full::new(one.body.clone()));
                response.headers_mut().extend(one.headers.clone());
                response
            }
            several => {
                let siblings: Vec<_> = several.iter().map(Version::json).collect();
                response(300, &[], serde_json::json!({ "siblings": siblings }).to_string().into())
            }
        };
        for (name, value) in [
            ("annulus-context", &*context),
            ("annulus-siblings", &count),
            ("annulus-replicas", "2/3"),
        ] {
            response
                .headers_mut()
                .insert(name, value.parse().expect("a valid header"));
        }
        response
    }

    /// A token is the number of the bucket's last write when it was given out: it covers all versions up to that.
    fn write(&mut self, key: &[u8], seen: &Seen, body: Option<Bytes>) -> Response<Full<Bytes>> {
        let token = seen
            .headers
            .get("annulus-context")
            .map(|token| token.to_str().expect("ASCII").to_owned());
        let covered = token.map_or(self.writes, |token| {
            token.trim_start_matches("seen-").parse().expect("a token")
        });
        self.writes += 1;
        let versions = self.keys.entry(key.to_vec()).or_default();
        versions.retain(|version| version.write > covered);
        let kept = |name: &str| name == "content-type" || name.starts_with("annulus-meta-");
        let headers = seen.headers.iter().filter(|(name, _)| kept(name.as_str()));
        let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
        versions.extend(body.map(|body| Version {
            write: self.writes,
            headers,
            body,
        }));
        if versions.is_empty() {
            self.keys.remove(key);
        }
        let context = format!("seen-{}", self.writes);
        response(
            204,
            &[("annulus-context", &context), ("annulus-replicas", "2/3")],
            Bytes::new(),
        )
    }

    fn list(&self, query: &str) -> Response<Full<Bytes>> {
        let parameters: HashMap<_, Vec<u8>> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, percent_encoding::percent_decode_str(value).collect()))
            .collect();
        let number = |name| {
            parameters
                .get(name)
                .and_then(|text| String::from_utf8_lossy(text).parse().ok())
        };
        let (start, limit) = (number("start").unwrap_or(0), number("limit").unwrap_or(1000));
        let prefix = parameters.get("prefix").cloned().unwrap_or_default();
        let matching: Vec<_> = self.keys.keys().filter(|key| key.starts_with(&prefix)).collect();
        let page: Vec<_> = matching
            .iter()
            .skip(start)
            .take(limit)
            .map(|key| json_key(key))
            .collect();
        let next = (start + limit < matching.len()).then(|| (start + limit).to_string());
        response(
            200,
            &[],
            serde_json::json!({ "keys": page, "next": next }).to_string().into(),
        )
    }
}

impl Version {
    fn json(&self) -> serde_json::Value {
        let text = |name| self.headers.get(name).map(|value| value.to_str().expect("ASCII"));
        let meta: HashMap<_, _> = self
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().strip_prefix("annulus-meta-")?, value.to_str().ok()?)))
            .collect();
        serde_json::json!({ "content_type": text("content-type"), "value": STANDARD.encode(&self.body), "meta": meta })
    }
}

fn json_key(key: &[u8]) -> serde_json::Value {
    std::str::from_utf8(key).map_or_else(|_| serde_json::json!({ "base64": STANDARD.encode(key) }), Into::into)
}
