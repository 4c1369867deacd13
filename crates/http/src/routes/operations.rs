//! What operators and orchestrators ask: does it live, does it serve, what did it do.

use std::rc::Rc;

use annulus_coordinator::{Answer, Request};
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde_json::json;

use super::unexpected;
use crate::{
    body::Body,
    parameters,
    problem::NOT_IMPLEMENTED,
    response,
    route::{Handled, Verb, not_allowed},
    server::{Connection, Service},
};

/// An operator's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Health,
    Ready,
    Metrics,
    OpenApi,
    Dashboard,
}

impl Operation {
    pub(crate) fn of(path: &str) -> Option<Operation> {
        match path {
            "/health" => Some(Operation::Health),
            "/ready" => Some(Operation::Ready),
            "/metrics" => Some(Operation::Metrics),
            "/openapi.json" => Some(Operation::OpenApi),
            "/" => Some(Operation::Dashboard),
            _ => None,
        }
    }
}

pub(crate) async fn handle<S: Service>(connection: &Rc<Connection<S>>, operation: Operation, head: &Parts) -> Handled {
    if Verb::of(&head.method) != Verb::Get {
        return Err(not_allowed("GET, HEAD"));
    }
    parameters::none(head.uri.query())?;
    match operation {
        Operation::Health => Ok(response::json(StatusCode::OK, &json!({ "status": "alive" }))),
        Operation::Ready => match connection.server.service.call(Request::Ready).await? {
            Answer::Ready => Ok(response::json(StatusCode::OK, &json!({ "status": "ready" }))),
            _ => Err(unexpected()),
        },
        Operation::Metrics => Ok(metrics(connection)),
        Operation::OpenApi => Err(NOT_IMPLEMENTED.because("the OpenAPI description comes later")),
        Operation::Dashboard => Err(NOT_IMPLEMENTED.because("the dashboard comes later")),
    }
}

fn metrics<S: Service>(connection: &Rc<Connection<S>>) -> response::Response {
    let server = &connection.server;
    let mut text = server.service.metrics();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&server.metrics.render(server.connections(), &server.gate));
    let mut response = response::new(StatusCode::OK, Body::full(text));
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
