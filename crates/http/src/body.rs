//! Request bodies are read up to a bound that is reserved first; response bodies are handed on without a copy.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    activity::{Activity, Phase},
    gate::{Gate, Held},
    problem::{MALFORMED_REQUEST, OVERLOADED, Problem, VALUE_TOO_LARGE},
};

/// A body that is made while it is sent.
pub(crate) type Stream = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Infallible>>>;

/// A response's body.
pub(crate) enum Body {
    Full(Bytes),
    Stream(Stream),
}

impl Body {
    pub(crate) fn empty() -> Body {
        Body::Full(Bytes::new())
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
        Body::Full(bytes.into())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Body::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

/// A request's body; if it is dropped before its end the connection closes after the response.
pub(crate) struct RequestBody {
    incoming: Incoming,
    activity: Rc<Activity>,
    ended: bool,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, activity: Rc<Activity>) -> Self {
        let ended = incoming.is_end_stream();
        Self {
            incoming,
            activity,
            ended,
        }
    }

    /// All of it, with the reservation to keep as long as it is in use.
    ///
    /// `413` where it is longer than `limit`: at once if its length was declared, so that a client that waits for
    /// `100 Continue` need not send it. `429` where there is no room.
    pub(crate) async fn read(mut self, limit: usize, gate: &Rc<Gate>) -> Result<(Bytes, Held), Problem> {
        let declared = self
            .incoming
            .size_hint()
            .exact()
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if declared.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let mut held = gate.hold(declared.unwrap_or(0)).ok_or_else(no_room)?;
        if self.ended {
            return Ok((Bytes::new(), held));
        }
        self.activity.enter(Phase::Body);
        let mut value = Vec::new();
        while let Some(data) = self.data().await? {
            if value.len() + data.len() > limit {
                return Err(too_large(limit));
            }
            if declared.is_none() && !held.grow(data.len()) {
                return Err(no_room());
            }
            if value.is_empty() {
                value.reserve_exact(declared.unwrap_or(data.len()));
            }
            // One copy into a buffer of the right size: the value outlives the request, its read buffers should not.
            value.extend_from_slice(&data);
        }
        self.activity.enter(Phase::Working);
        Ok((value.into(), held))
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Problem> {
        std::future::poll_fn(|cx| self.poll_data(cx)).await
    }

    /// What came next; `None` at the end. Trailers are skipped.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Problem>> {
        while !self.ended {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => self.ended = true,
                Some(Err(_)) => return Poll::Ready(Err(MALFORMED_REQUEST.because("the body did not come whole"))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
            }
        }
        Poll::Ready(Ok(None))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended {
            self.activity.cut_short();
        }
    }
}

fn too_large(limit: usize) -> Problem {
    VALUE_TOO_LARGE
        .because(format!("the body is longer than {limit} bytes"))
        .fact("limit", limit)
}

pub(crate) fn no_room() -> Problem {
    OVERLOADED
        .because("the bodies of requests in progress take all the memory they may")
        .fact("outcome", "none")
}
