//! Concurrent values in one response: as JSON, or one part a value for those who ask for `multipart/mixed`.

use std::collections::BTreeMap;

use annulus_causality::Version;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer};

use crate::{
    body::Body,
    response::{self, Response},
};

/// One value as JSON.
#[derive(Serialize)]
pub(crate) struct Sibling<'v> {
    content_type: &'v str,
    #[serde(serialize_with = "base64")]
    value: &'v [u8],
    meta: BTreeMap<&'v str, &'v str>,
    modified: String,
}

impl<'v> From<&'v Version> for Sibling<'v> {
    fn from(version: &'v Version) -> Self {
        Self {
            content_type: response::content_type(version),
            value: &version.value,
            meta: version
                .meta
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            modified: humantime::format_rfc3339_millis(response::wall(version.modified)).to_string(),
        }
    }
}

fn base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

/// The versions as JSON.
pub(crate) fn list(versions: &[Version]) -> Vec<Sibling<'_>> {
    versions.iter().map(Sibling::from).collect()
}

/// The `300` for several versions.
pub(crate) fn respond(versions: &[Version], etag: u128, form: Form) -> Response {
    match form {
        Form::Json => {
            #[derive(Serialize)]
            struct Siblings<'v> {
                siblings: Vec<Sibling<'v>>,
            }
            response::json(
                StatusCode::MULTIPLE_CHOICES,
                &Siblings {
                    siblings: list(versions),
                },
            )
        }
        Form::Multipart => multipart(versions, etag),
    }
}

/// How a client wants siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Multipart,
}

impl Form {
    /// `multipart/mixed` where it is asked for by name, and no less than JSON.
    pub(crate) fn of(headers: &HeaderMap) -> Form {
        let (mut multipart, mut json) = (0, 0);
        for line in headers.get_all(header::ACCEPT) {
            for range in line.to_str().unwrap_or_default().split(',') {
                let (media, quality) = media_range(range);
                match media.to_ascii_lowercase().as_str() {
                    "multipart/mixed" | "multipart/*" => multipart = quality.max(multipart),
                    "application/json" | "application/*" => json = quality.max(json),
                    _ => {}
                }
            }
        }
        if multipart > 0 && multipart >= json {
            Form::Multipart
        } else {
            Form::Json
        }
    }
}

/// A media range and its weight in thousandths; malformed weights count as 1, as most servers have it.
fn media_range(range: &str) -> (&str, u32) {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight
        .and_then(|weight| weight.parse::<f32>().ok())
        .filter(|weight| (0.0..=1.0).contains(weight));
    (media, weight.map_or(1000, |weight| (weight * 1000.0) as u32))
}

/// RFC 2046 §5.1.3.
fn multipart(versions: &[Version], etag: u128) -> Response {
    let boundary = boundary(versions, etag);
    let mut body = Vec::with_capacity(versions.iter().map(|version| version.value.len() + 512).sum());
    for version in versions {
        body.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        let mut headers = HeaderMap::new();
        response::describe(version, &mut headers);
        for (name, value) in &headers {
            body.extend_from_slice(name.as_str().as_bytes());
            body.extend_from_slice(b": ");
            body.extend_from_slice(value.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(&version.value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let mut response = response::new(StatusCode::MULTIPLE_CHOICES, Body::full(body));
    let content_type = HeaderValue::from_str(&format!("multipart/mixed; boundary={boundary}"));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type.expect("letters, digits and dashes"));
    response
}

/// The first of `annulus-<etag>-0`, `-1`, … that stands in no value.
fn boundary(versions: &[Version], etag: u128) -> String {
    let stands_in = |boundary: &str| {
        let boundary = boundary.as_bytes();
        versions
            .iter()
            .any(|version| version.value.windows(boundary.len()).any(|window| window == boundary))
    };
    (0u32..)
        .map(|attempt| format!("annulus-{etag:032x}-{attempt}"))
        .find(|boundary| !stands_in(boundary))
        .expect("values are finite, and there are four thousand million boundaries")
}

#[cfg(test)]
mod tests {
    use annulus_causality::Timestamp;

    use super::*;

    fn version(value: &str) -> Version {
        Version::new(
            value.as_bytes().to_vec().into(),
            None,
            vec![],
            Timestamp { millis: 0, logical: 0 },
            None,
        )
    }

    #[test]
    fn the_form_follows_the_accept_header() {
        let form = |accept: &'static str| {
            Form::of(&HeaderMap::from_iter([(
                header::ACCEPT,
                HeaderValue::from_static(accept),
            )]))
        };
        for multipart in [
            "multipart/mixed",
            "Multipart/Mixed; q=0.1, */*",
            "application/json;q=0.5, multipart/*",
        ] {
            assert_eq!(form(multipart), Form::Multipart, "{multipart}");
        }
        for json in [
            "*/*",
            "",
            "multipart/mixed;q=0",
            "application/json, multipart/mixed;q=0.9",
            "text/html",
        ] {
            assert_eq!(form(json), Form::Json, "{json}");
        }
    }

    #[test]
    fn a_boundary_stands_in_no_value() {
        let versions = [
            version(&boundary(&[], 7)),
            version("annulus-00000000000000000000000000000007-1"),
        ];
        assert_eq!(boundary(&versions, 7), "annulus-00000000000000000000000000000007-2");
    }
}
