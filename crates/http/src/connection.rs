//! A connection's bytes: every read and write is noted, a refusal by hyper becomes a problem document, and a connection
//! that ends before its client has sent all is not reset under the response.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    activity::{Activity, Phase},
    problem::{HEADERS_TOO_LARGE, MALFORMED_REQUEST, Problem, URI_TOO_LONG},
};

/// A socket that notes what happens on it.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    activity: Rc<Activity>,
    /// What is sent in place of hyper's answer to a head that it could not parse.
    refusal: Bytes,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, activity: Rc<Activity>) -> Self {
        Self {
            stream,
            activity,
            refusal: Bytes::new(),
        }
    }

    /// hyper answers by itself only when no request is in progress, and then it ends the connection.
    fn is_refusal(&self) -> bool {
        matches!(self.activity.phase(), Phase::Idle | Phase::Head)
    }

    fn refuse(&mut self, status_line: &[u8]) {
        self.refusal =
            unparsed(status_line, self.activity.recent.borrow().begins_with_a_long_line()).to_last_response();
        self.activity.cut_short();
        self.activity.enter(Phase::Answering);
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.refusal);
            let written = ready!(note_write(&self.activity, written))?;
            self.refusal.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the client has closed too; the sweep ends it if that takes long.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 8 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// What hyper could not parse, by the status line of its own answer.
fn unparsed(status_line: &[u8], is_long_line: bool) -> Problem {
    match status_line.get(9..12) {
        Some(b"414") => URI_TOO_LONG.because("the request line is too long"),
        Some(b"431") if is_long_line => URI_TOO_LONG.because("the request line is too long"),
        Some(b"431") => HEADERS_TOO_LARGE.because("the request has too many or too large headers"),
        _ => MALFORMED_REQUEST.because("the request's head is not well-formed HTTP/1.1"),
    }
}

fn note_write(activity: &Activity, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    match &written {
        Poll::Pending => activity.note_write_blocked(),
        Poll::Ready(_) => activity.note_write(),
    }
    written
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if let Some(read @ [_, ..]) = buffer.filled().get(before..) {
            self.activity.note_read(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_refusal() {
            self.refuse(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        note_write(&self.activity, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_refusal() {
            self.refuse(slices.first().map_or(&[], |first| first));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        note_write(&self.activity, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        self.activity.note_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.phase() != Phase::Lingering {
            ready!(self.poll_refusal(cx))?;
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.activity.enter(Phase::Lingering);
        }
        if self.activity.is_cut_short() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
