//! One page of a bucket's keys, in key order.

use std::rc::Rc;

use annulus_coordinator::{Answer, ListRequest, MAX_PAGE, Options, Page, Request};
use annulus_ring::Bucket;
use bytes::Bytes;
use http::{StatusCode, request::Parts};
use serde::Serialize;
use serde_json::Value;

use super::unexpected;
use crate::{
    listing,
    parameters::{self, invalid, text},
    problem::{Problem, json_bytes},
    response,
    route::Handled,
    server::{Connection, Service},
};

/// `GET /v1/kv/{bucket}`.
pub(crate) async fn page<S: Service>(connection: &Rc<Connection<S>>, bucket: Bucket, head: Parts) -> Handled {
    let request = parse(bucket, head.uri.query())?;
    super::kv::refuse_session(&head.headers)?;
    drop(head);
    match connection.server.service.call(Request::List(request)).await? {
        Answer::Page(page) => Ok(response::json(StatusCode::OK, &PageJson::from(&page))),
        _ => Err(unexpected()),
    }
}

fn parse(bucket: Bucket, query: Option<&str>) -> Result<ListRequest, Problem> {
    let [prefix, start, limit, r, timeout] = parameters::parse(query, ["prefix", "start", "limit", "r", "timeout"])?;
    let limit = match limit {
        Some(value) => limit_of(&text("limit", &value)?)?,
        None => MAX_PAGE,
    };
    let options = Options {
        r: r.map(|value| parameters::level("r", &text("r", &value)?)).transpose()?,
        timeout: timeout
            .map(|value| parameters::timeout(&text("timeout", &value)?))
            .transpose()?,
        ..Options::default()
    };
    let prefix = prefix.map_or_else(Bytes::new, |prefix| prefix.into_owned().into());
    let start = start.map_or_else(Bytes::new, |start| listing::start(&start));
    Ok(ListRequest {
        bucket,
        prefix,
        start,
        limit,
        options,
    })
}

fn limit_of(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
    limit.ok_or_else(|| invalid("limit", &format!("it must be a number from 1 to {MAX_PAGE}")))
}

#[derive(Serialize)]
struct PageJson {
    keys: Vec<Value>,
    next: Option<String>,
}

impl From<&Page> for PageJson {
    fn from(page: &Page) -> Self {
        Self {
            keys: page.keys.iter().map(|key| json_bytes(key.as_bytes())).collect(),
            next: page.next.as_deref().map(listing::token),
        }
    }
}
