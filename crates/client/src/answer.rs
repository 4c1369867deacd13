//! Answers about a key become values; what the contract does not have is an error, never a guess.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED},
};
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    encoding::{self, JsonKey},
    error::{Cause, Error},
    problem::Problem,
    transport::Reply,
    value::{Context, Head, Listing, Read, Value, Written},
};

pub(crate) const CONTEXT: &str = "annulus-context";
pub(crate) const META_PREFIX: &str = "annulus-meta-";
pub(crate) const SESSION: &str = "annulus-session";
const REPLICAS: &str = "annulus-replicas";
const FALLBACKS: &str = "annulus-fallbacks";
const SIBLINGS: &str = "annulus-siblings";

/// A value as it stands in JSON: in a `300` answer, in a batch, and in what the command line prints.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sibling {
    content_type: Option<String>,
    #[serde(with = "encoding")]
    value: Bytes,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    modified: Option<String>,
}

impl Sibling {
    pub(crate) fn into_value(self, context: &Context, headers: &HeaderMap) -> Value {
        Value {
            bytes: self.value,
            content_type: self.content_type,
            meta: self.meta,
            modified: self.modified,
            context: context.clone(),
            etag: text(headers, ETAG.as_str()),
            replicas: number(headers, REPLICAS),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sibling = Sibling {
            content_type: self.content_type.clone(),
            value: self.bytes.clone(),
            meta: self.meta.clone(),
            modified: self.modified.clone(),
        };
        sibling.serialize(serializer)
    }
}

impl Reply {
    pub(crate) fn read(self) -> Result<Read, Error> {
        match self.status {
            StatusCode::OK => Ok(Read::One(Value {
                context: self.context()?,
                content_type: text(&self.headers, CONTENT_TYPE.as_str()),
                meta: meta(&self.headers),
                modified: text(&self.headers, LAST_MODIFIED.as_str()),
                etag: text(&self.headers, ETAG.as_str()),
                replicas: number(&self.headers, REPLICAS),
                bytes: self.body,
            })),
            StatusCode::MULTIPLE_CHOICES => self.siblings(),
            StatusCode::NOT_FOUND if self.is_about_a_key() => Ok(Read::None {
                context: self.context()?,
            }),
            _ => Err(self.refused()),
        }
    }

    fn siblings(self) -> Result<Read, Error> {
        #[derive(Deserialize)]
        struct Body {
            siblings: Vec<Sibling>,
        }
        let context = self.context()?;
        let body: Body = self.json()?;
        let values: Vec<_> = body
            .siblings
            .into_iter()
            .map(|sibling| sibling.into_value(&context, &self.headers))
            .collect();
        if values.is_empty() {
            return Err(self.unreadable("300 without a sibling"));
        }
        Ok(Read::Siblings(values))
    }

    pub(crate) fn head(self) -> Result<Head, Error> {
        let siblings = match self.status {
            StatusCode::OK => 1,
            StatusCode::MULTIPLE_CHOICES => number(&self.headers, SIBLINGS).unwrap_or(2),
            StatusCode::NOT_FOUND if self.is_about_a_key() => 0,
            _ => return Err(self.refused()),
        };
        let one = siblings == 1;
        Ok(Head {
            siblings,
            length: number(&self.headers, CONTENT_LENGTH.as_str()).filter(|_| one),
            content_type: text(&self.headers, CONTENT_TYPE.as_str()).filter(|_| one),
            meta: if one { meta(&self.headers) } else { BTreeMap::new() },
            etag: text(&self.headers, ETAG.as_str()),
            context: self.context()?,
        })
    }

    pub(crate) fn written(self) -> Result<Written, Error> {
        if !self.status.is_success() {
            return Err(self.refused());
        }
        Ok(Written {
            context: self.context()?,
            replicas: number(&self.headers, REPLICAS),
            fallbacks: number(&self.headers, FALLBACKS).unwrap_or(0),
        })
    }

    pub(crate) fn listing(self) -> Result<Listing, Error> {
        #[derive(Deserialize)]
        struct Body {
            keys: Vec<JsonKey>,
            next: Option<String>,
        }
        let body: Body = self.expect_json()?;
        Ok(Listing {
            keys: body.keys.into_iter().map(|JsonKey(key)| key).collect(),
            next: body.next,
        })
    }

    /// A JSON body under a status of success.
    pub(crate) fn expect_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        if self.status.is_success() {
            self.json()
        } else {
            Err(self.refused())
        }
    }

    pub(crate) fn expect_success(self) -> Result<Self, Error> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(self.refused())
        }
    }

    fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(&format!("its JSON: {error}")))
    }

    /// The node's refusal as an error. A write's outcome stands in it, whatever the attempts before have left.
    pub(crate) fn refused(&self) -> Error {
        let problem = Box::new(Problem::decode(self.status, &self.body));
        let error = if self.status.is_success() || self.status.is_redirection() || self.status.is_informational() {
            self.unreadable(&format!("unexpected status {}", self.status))
        } else {
            Error::at(&self.operation, &self.node, Cause::Answered(problem))
        };
        error.after(self.attempts).leaving(self.outcome)
    }

    pub(crate) fn unreadable(&self, why: &str) -> Error {
        Error::at(&self.operation, &self.node, Cause::Unreadable(why.to_owned()))
            .after(self.attempts)
            .leaving(self.outcome)
    }

    /// A `404` for a key carries a token; one for a route does not.
    fn is_about_a_key(&self) -> bool {
        self.headers.contains_key(CONTEXT)
    }

    fn context(&self) -> Result<Context, Error> {
        text(&self.headers, CONTEXT)
            .map(Context::new)
            .ok_or_else(|| self.unreadable("no Annulus-Context header; is this an annulus node?"))
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn meta(headers: &HeaderMap) -> BTreeMap<String, String> {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let name = name.as_str().strip_prefix(META_PREFIX)?;
        Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    };
    headers.iter().filter_map(pair).collect()
}
