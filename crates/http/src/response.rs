//! Responses and the headers of the contract: names are static, values are made in one place.

use std::time::{Duration, SystemTime};

use annulus_causality::{Timestamp, Version};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::body::Body;

pub(crate) type Response = http::Response<Body>;

pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("annulus-context");
pub(crate) const SESSION: HeaderName = HeaderName::from_static("annulus-session");
pub(crate) const SIBLINGS: HeaderName = HeaderName::from_static("annulus-siblings");
pub(crate) const REPLICAS: HeaderName = HeaderName::from_static("annulus-replicas");
pub(crate) const FALLBACKS: HeaderName = HeaderName::from_static("annulus-fallbacks");
/// In front of the names of a value's own headers.
pub(crate) const META_PREFIX: &str = "annulus-meta-";
/// What a value is that was stored without a type.
pub(crate) const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";

pub(crate) fn new(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = new(status, Body::full(to_json(value)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// JSON of a value of ours: string keys, finite numbers.
pub(crate) fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("its maps have string keys, and writing to memory cannot fail")
        .into()
}

/// A token that the node made: visible ASCII.
pub(crate) fn token(token: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(token)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A strong entity tag (RFC 9110 §8.8.3).
pub(crate) fn etag(etag: u128) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'"'; 34];
    for (at, byte) in etag.to_be_bytes().into_iter().enumerate() {
        text[1 + 2 * at] = DIGITS[usize::from(byte >> 4)];
        text[2 + 2 * at] = DIGITS[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits between quotes")
}

/// `Annulus-Replicas`.
pub(crate) fn replicas(answered: u8, n: u8) -> HeaderValue {
    HeaderValue::from_str(&format!("{answered}/{n}")).expect("digits and a slash")
}

/// The stored content type, or that of bytes.
pub(crate) fn content_type(version: &Version) -> &str {
    version.content_type.as_deref().unwrap_or(DEFAULT_CONTENT_TYPE)
}

/// `Content-Type`, `Annulus-Meta-*` and `Last-Modified` of one value. All were checked when it was written.
pub(crate) fn describe(version: &Version, headers: &mut HeaderMap) {
    let content_type = match &version.content_type {
        None => HeaderValue::from_static(DEFAULT_CONTENT_TYPE),
        Some(text) => HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(DEFAULT_CONTENT_TYPE)),
    };
    headers.insert(header::CONTENT_TYPE, content_type);
    for (name, value) in &version.meta {
        let name = HeaderName::from_bytes(format!("{META_PREFIX}{name}").as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(wall(version.modified))) {
        headers.insert(header::LAST_MODIFIED, date);
    }
}

/// When a stamp was given, by the wall clock; no later than dates of four digits a year can say.
pub(crate) fn wall(stamp: Timestamp) -> SystemTime {
    const LAST_MILLISECOND_OF_9999: u64 = 253_402_300_799_999;
    SystemTime::UNIX_EPOCH + Duration::from_millis(stamp.millis.min(LAST_MILLISECOND_OF_9999))
}
