//! One key: PUT, GET, HEAD and DELETE, with everything that their headers say. (POST: see `change.rs`.)

use std::rc::Rc;

use annulus_coordinator::{Answer, Failure, Found, KeyRequest, NewValue, Operation, Options, Request, Written};
use annulus_ring::{Bucket, Key};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};

use super::unexpected;
use crate::{
    body::{Body, RequestBody},
    conditions::{self, ReadConditions, Verdict},
    limits::{MAX_CONTENT_TYPE_BYTES, MAX_META_BYTES, MAX_META_COUNT},
    parameters,
    problem::{
        self, HEADERS_TOO_LARGE, INVALID_CONTEXT, INVALID_HEADER, INVALID_SESSION, Kind, NO_SUCH_KEY, Problem,
        UNSUPPORTED_CONTENT_ENCODING, UNSUPPORTED_CONTENT_TYPE, json_bytes,
    },
    response::{self, META_PREFIX, Response},
    route::Handled,
    server::{Connection, Service},
    siblings::{self, Form},
};

/// GET and HEAD.
pub(crate) async fn read<S: Service>(connection: &Rc<Connection<S>>, bucket: Bucket, key: Key, head: Parts) -> Handled {
    let options = parameters::options(head.uri.query())?;
    let conditions = ReadConditions::of(&head.headers)?;
    let session = Session::of(&head.headers)?;
    let form = Form::of(&head.headers);
    // The head holds on to the connection's read buffer, which hyper can use again once it is gone.
    drop(head);
    let request = KeyRequest {
        bucket: bucket.clone(),
        key: key.clone(),
        operation: Operation::Get,
        options,
        seen: None,
    };
    match call(connection, session, request, (&bucket, &key)).await? {
        (Answer::Found(found), session) => {
            let mut response = respond(found, &conditions, form, (&bucket, &key));
            response.headers_mut().extend(session);
            Ok(response)
        }
        _ => Err(unexpected()),
    }
}

/// The answer, and in a session its header.
async fn call<S: Service>(
    connection: &Rc<Connection<S>>,
    session: Session,
    request: KeyRequest,
    (bucket, key): (&Bucket, &Key),
) -> Result<(Answer, Option<(HeaderName, HeaderValue)>), Problem> {
    let reply = connection.server.service.call(session.with(request)).await;
    match reply.map_err(|failure| about(failure, bucket, key))? {
        Answer::InSession { token, answer } => Ok((*answer, Some((response::SESSION, response::token(token))))),
        answer => Ok((answer, None)),
    }
}

fn respond(found: Found, conditions: &ReadConditions, form: Form, address: (&Bucket, &Key)) -> Response {
    let mut response = match (&found.versions[..], conditions.judge(found.etag)) {
        ([], _) if conditions.wants_a_value() => problem::condition_failed(None).into_response(),
        ([], _) => no_such_key(address.0, address.1).into_response(),
        (_, Verdict::Failed) => problem::condition_failed(Some(found.etag)).into_response(),
        (_, Verdict::NotModified) => response::new(StatusCode::NOT_MODIFIED, Body::empty()),
        ([version], Verdict::Send) => {
            let mut response = response::new(StatusCode::OK, Body::full(version.value.clone()));
            response::describe(version, response.headers_mut());
            // A stored value is what its writer says it is, and never what a browser makes of its bytes.
            let nosniff = HeaderValue::from_static("nosniff");
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
            // hyper says it of any other body, also to HEAD.
            if version.value.is_empty() {
                let none = HeaderValue::from_static("0");
                response.headers_mut().insert(header::CONTENT_LENGTH, none);
            }
            response
        }
        (versions, Verdict::Send) => {
            let mut response = siblings::respond(versions, found.etag, form);
            response
                .headers_mut()
                .insert(header::VARY, HeaderValue::from_static("accept"));
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(response::SIBLINGS, count(found.versions.len()));
    headers.insert(response::REPLICAS, response::replicas(found.answered, found.n));
    headers.insert(header::ETAG, response::etag(found.etag));
    headers.insert(response::CONTEXT, response::token(found.token));
    response
}

fn count(siblings: usize) -> HeaderValue {
    match siblings {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        more => HeaderValue::from(more),
    }
}

/// A failure with the key that it is about: whoever collects problems sees no request beside them.
fn about(failure: Failure, bucket: &Bucket, key: &Key) -> Problem {
    Problem::from(failure)
        .fact("bucket", bucket.as_str())
        .fact("key", json_bytes(key.as_bytes()))
}

pub(crate) fn no_such_key(bucket: &Bucket, key: &Key) -> Problem {
    let detail = format!("bucket {bucket} holds no value for this key");
    NO_SUCH_KEY
        .because(detail)
        .fact("bucket", bucket.as_str())
        .fact("key", json_bytes(key.as_bytes()))
}

/// PUT.
pub(crate) async fn put<S: Service>(
    connection: &Rc<Connection<S>>,
    bucket: Bucket,
    key: Key,
    head: Parts,
    body: RequestBody,
) -> Handled {
    let options = parameters::options(head.uri.query())?;
    let condition = conditions::of_write(&head.headers)?;
    let token = context(&head.headers)?;
    let session = Session::of(&head.headers)?;
    let content_type = content_type(&head.headers)?;
    refuse_encoding(&head.headers)?;
    let meta = meta(&head.headers)?;
    drop(head);
    let server = &connection.server;
    let (value, _held) = body.read(server.limits.max_value_bytes, &server.gate).await?;
    let value = Some(NewValue {
        value,
        content_type,
        meta,
    });
    write(
        connection,
        bucket,
        key,
        Operation::Write {
            value,
            token,
            condition,
        },
        (options, session),
    )
    .await
}

/// DELETE.
pub(crate) async fn delete<S: Service>(
    connection: &Rc<Connection<S>>,
    bucket: Bucket,
    key: Key,
    head: Parts,
) -> Handled {
    let options = parameters::options(head.uri.query())?;
    let condition = conditions::of_write(&head.headers)?;
    let token = context(&head.headers)?;
    let session = Session::of(&head.headers)?;
    drop(head);
    write(
        connection,
        bucket,
        key,
        Operation::Write {
            value: None,
            token,
            condition,
        },
        (options, session),
    )
    .await
}

pub(super) async fn write<S: Service>(
    connection: &Rc<Connection<S>>,
    bucket: Bucket,
    key: Key,
    operation: Operation,
    (options, session): (Options, Session),
) -> Handled {
    let request = KeyRequest {
        bucket: bucket.clone(),
        key: key.clone(),
        operation,
        options,
        seen: None,
    };
    match call(connection, session, request, (&bucket, &key)).await? {
        (Answer::Written(written), session) => {
            let mut response = no_content(written);
            response.headers_mut().extend(session);
            Ok(response)
        }
        _ => Err(unexpected()),
    }
}

fn no_content(written: Written) -> Response {
    let mut response = response::new(StatusCode::NO_CONTENT, Body::empty());
    let headers = response.headers_mut();
    headers.insert(response::CONTEXT, response::token(written.token));
    headers.insert(response::REPLICAS, response::replicas(written.answered, written.n));
    if written.fallbacks > 0 {
        headers.insert(response::FALLBACKS, HeaderValue::from(u16::from(written.fallbacks)));
    }
    response
}

/// `Annulus-Session`: whether a request is one of a session, and of which.
pub(super) enum Session {
    No,
    New,
    Token(String),
}

impl Session {
    pub(super) fn of(headers: &HeaderMap) -> Result<Session, Problem> {
        let token = token(headers, &response::SESSION, INVALID_SESSION)?;
        Ok(match token {
            None => Session::No,
            Some(token) if token == "new" => Session::New,
            Some(token) => Session::Token(token),
        })
    }

    fn with(self, request: KeyRequest) -> Request {
        let token = match self {
            Session::No => return Request::Key(request),
            Session::New => None,
            Session::Token(token) => Some(token),
        };
        Request::InSession { token, request }
    }
}

/// What a session would not hold for is not done as if it did.
pub(crate) fn refuse_session(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.contains_key(response::SESSION) {
        true => Err(INVALID_SESSION.because("listings and batches are in no session: ask for each key by itself")),
        false => Ok(()),
    }
}

/// `Annulus-Context`, at most once; the node knows whether it is genuine.
pub(crate) fn context(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    token(headers, &response::CONTEXT, INVALID_CONTEXT)
}

/// A header that is a token, at most once.
fn token(headers: &HeaderMap, name: &HeaderName, invalid: Kind) -> Result<Option<String>, Problem> {
    let mut tokens = headers.get_all(name).iter();
    let Some(token) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() {
        return Err(invalid.because(format!("{name} is given more than once")));
    }
    let token = token
        .to_str()
        .map_err(|_| invalid.because(format!("{name} is no token: not ASCII")))?;
    Ok(Some(token.to_owned()))
}

/// `Content-Type`, at most once: it is stored as it is, so it must be one.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = types.next() else { return Ok(None) };
    let text = value
        .to_str()
        .ok()
        .filter(|text| types.next().is_none() && is_content_type(text));
    text.map(|text| Some(text.to_owned()))
        .ok_or_else(unreadable_content_type)
}

pub(crate) fn unreadable_content_type() -> Problem {
    let detail =
        format!("it must be one `type/subtype`, with parameters or without, in {MAX_CONTENT_TYPE_BYTES} bytes");
    UNSUPPORTED_CONTENT_TYPE.because(detail)
}

/// RFC 9110 §8.3.1, without looking into the parameters.
pub(crate) fn is_content_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    text.len() <= MAX_CONTENT_TYPE_BYTES && visible && is_token(kind) && is_token(subtype)
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// A value is returned as it came, and readers could not know that it was encoded.
pub(crate) fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(UNSUPPORTED_CONTENT_ENCODING.because("a value with Content-Encoding cannot be stored; send it plain"))
        }
        _ => Ok(()),
    }
}

/// `Annulus-Meta-*`, sorted by name; lines of one name are one value, as RFC 9110 §5.3 joins them.
pub(crate) fn meta(headers: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let mut meta: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(META_PREFIX) else {
            continue;
        };
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| bad_meta(name, "its value is not UTF-8"))?;
        if name.is_empty() {
            return Err(bad_meta(name, "it has no name"));
        }
        match meta.iter_mut().find(|(known, _)| known == name) {
            Some((_, joined)) => *joined = format!("{joined}, {value}"),
            None => meta.push((name.to_owned(), value.to_owned())),
        }
    }
    meta.sort_unstable();
    check_meta_size(&meta)?;
    Ok(meta)
}

pub(crate) fn bad_meta(name: &str, why: &str) -> Problem {
    INVALID_HEADER
        .because(format!("{META_PREFIX}{name}: {why}"))
        .fact("header", format!("{META_PREFIX}{name}"))
}

pub(crate) fn check_meta_size(meta: &[(String, String)]) -> Result<(), Problem> {
    let bytes: usize = meta.iter().map(|(name, value)| name.len() + value.len()).sum();
    if meta.len() > MAX_META_COUNT {
        let detail = format!("a value has at most {MAX_META_COUNT} Annulus-Meta-* headers");
        return Err(HEADERS_TOO_LARGE.because(detail).fact("limit", MAX_META_COUNT));
    }
    if bytes > MAX_META_BYTES {
        let detail = format!("a value's Annulus-Meta-* headers have at most {MAX_META_BYTES} bytes");
        return Err(HEADERS_TOO_LARGE.because(detail).fact("limit", MAX_META_BYTES));
    }
    Ok(())
}
