//! A body is cut into lines as it comes, and no line takes more memory than its bound.

use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};

use crate::{
    body::RequestBody,
    problem::{Problem, VALUE_TOO_LARGE},
};

/// The lines of a body, each within a bound.
pub(super) struct Lines {
    body: RequestBody,
    buffer: BytesMut,
    /// Up to here there is no line feed in `buffer`.
    scanned: usize,
    max_line_bytes: usize,
    /// The line that is coming was refused already.
    skipping: bool,
    ended: bool,
}

impl Lines {
    pub(super) fn new(body: RequestBody, max_line_bytes: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            scanned: 0,
            max_line_bytes,
            skipping: false,
            ended: false,
        }
    }

    /// The next line that says something; one that is too long is refused once, and the rest of it is skipped.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Problem>>> {
        loop {
            while let Some(line) = self.take_line() {
                let skipped = std::mem::take(&mut self.skipping);
                if line.len() > self.max_line_bytes && !skipped {
                    return Poll::Ready(Some(Err(self.too_long())));
                }
                if !skipped && !line.trim_ascii().is_empty() {
                    return Poll::Ready(Some(Ok(line)));
                }
            }
            if self.buffer.len() > self.max_line_bytes {
                self.buffer.clear();
                self.scanned = 0;
                if !std::mem::replace(&mut self.skipping, true) {
                    return Poll::Ready(Some(Err(self.too_long())));
                }
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.body.poll_data(cx)) {
                Ok(Some(data)) => self.buffer.extend_from_slice(&data),
                // A body that breaks off ends its batch; the connection is lost anyway.
                Ok(None) | Err(_) => self.ended = true,
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let found = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
        match found {
            Some(at) => {
                let line = self.buffer.split_to(self.scanned + at).freeze();
                self.buffer.advance(1);
                self.scanned = 0;
                Some(line)
            }
            None => {
                self.scanned = self.buffer.len();
                let last = self.ended && !self.buffer.is_empty();
                last.then(|| {
                    self.scanned = 0;
                    self.buffer.split().freeze()
                })
            }
        }
    }

    fn too_long(&self) -> Problem {
        let limit = self.max_line_bytes;
        VALUE_TOO_LARGE
            .because(format!("the line is longer than {limit} bytes"))
            .fact("limit", limit)
    }
}
