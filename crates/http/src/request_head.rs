//! A request whose end is ambiguous is refused: what hyper lets pass of the forms that request smuggling uses.
//!
//! hyper 1.12 refuses by itself (`400`): differing or malformed `Content-Length`, `Transfer-Encoding` in HTTP/1.0 or
//! without a final `chunked`, folded lines, blanks before a colon, bare CR, NUL. It lets pass, as RFC 9112 §6.3
//! allows, `Content-Length` beside `Transfer-Encoding` (and drops the former, so that no header shows it); other
//! codings before `chunked`; and it does not look at `Host`.

use http::{HeaderMap, HeaderValue, Version, header, request::Parts};

use crate::{
    activity::Activity,
    limits::MAX_URI_BYTES,
    problem::{MALFORMED_REQUEST, Problem, UNSUPPORTED_EXPECTATION, URI_TOO_LONG},
};

/// The raw bytes of the latest reads: enough to hold the head of the request that was parsed last.
#[derive(Debug, Default)]
pub(crate) struct RecentBytes {
    bytes: Vec<u8>,
    parsed: bool,
}

impl RecentBytes {
    /// More is not kept: nothing that hyper has not parsed yet is longer than what one read brings.
    const KEPT: usize = 16 << 10;

    /// All so far belongs to requests that were handed over; what follows starts anew.
    pub(crate) fn mark_parsed(&mut self) {
        self.parsed = true;
    }

    /// Adds a read. `within_request` says that what came before is parsed already.
    pub(crate) fn push(&mut self, read: &[u8], within_request: bool) {
        if std::mem::take(&mut self.parsed) || within_request {
            self.bytes.clear();
        }
        let room = Self::KEPT.saturating_sub(self.bytes.len());
        if self.bytes.is_empty() {
            // A read longer than this is a body, and its end may hold the next head.
            self.bytes
                .extend_from_slice(&read[read.len().saturating_sub(Self::KEPT)..]);
        } else {
            self.bytes.extend_from_slice(&read[..read.len().min(room)]);
        }
    }

    pub(crate) fn forget(&mut self) {
        self.bytes = Vec::new();
    }

    /// Whether not even the request line has ended.
    pub(crate) fn is_one_line(&self) -> bool {
        !self.bytes.contains(&b'\n')
    }

    /// Whether a head among them has both a length and a transfer coding.
    fn has_two_lengths(&self) -> bool {
        let (mut length, mut coding) = (false, false);
        for line in self.bytes.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.ends_with(b" HTTP/1.1") {
                (length, coding) = (false, false);
            }
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            length |= name.eq_ignore_ascii_case(b"content-length");
            coding |= name.eq_ignore_ascii_case(b"transfer-encoding");
            if length && coding {
                return true;
            }
        }
        false
    }
}

/// Checks what all requests have in common. A problem here ends the connection.
pub(crate) fn check(head: &Parts, activity: &Activity) -> Result<(), Problem> {
    check_host(head)?;
    check_length(&head.headers, activity)?;
    if let Some(expectation) = head.headers.get(header::EXPECT)
        && !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(UNSUPPORTED_EXPECTATION.because("the only expectation known here is 100-continue"));
    }
    let length = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > MAX_URI_BYTES {
        let detail = format!("the path and query have {length} bytes, and {MAX_URI_BYTES} is the limit");
        return Err(URI_TOO_LONG.because(detail).fact("limit", MAX_URI_BYTES));
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one in HTTP/1.1, and a valid one.
fn check_host(head: &Parts) -> Result<(), Problem> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(_), None) => Err(MALFORMED_REQUEST.because("the Host header is not a host and port")),
        (None, _) if head.version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(MALFORMED_REQUEST.because("an HTTP/1.1 request must have a Host header")),
        (Some(_), Some(_)) => Err(MALFORMED_REQUEST.because("the request has several Host headers")),
    }
}

/// The characters of RFC 3986 `host [":" port]`.
fn is_host(value: &HeaderValue) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    value.as_bytes().iter().all(allowed)
}

fn check_length(headers: &HeaderMap, activity: &Activity) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(MALFORMED_REQUEST.because("the only transfer coding known here is one `chunked`"));
    }
    if headers.contains_key(header::CONTENT_LENGTH) || activity.recent.borrow().has_two_lengths() {
        return Err(MALFORMED_REQUEST.because("the request has both Content-Length and Transfer-Encoding"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(reads: &[&str]) -> RecentBytes {
        let mut recent = RecentBytes::default();
        for read in reads {
            recent.push(read.as_bytes(), false);
        }
        recent
    }

    #[test]
    fn both_lengths_in_one_head_are_seen_however_they_are_cut_and_written() {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        for cut in 0..head.len() {
            assert!(recent(&[&head[..cut], &head[cut..]]).has_two_lengths(), "cut at {cut}");
        }
        assert!(recent(&["PUT / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 5\n\n"]).has_two_lengths());
    }

    #[test]
    fn lengths_of_two_heads_in_one_read_are_no_ambiguity() {
        let two = "PUT /a HTTP/1.1\r\ncontent-length: 2\r\n\r\nhiPUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(!recent(&[two]).has_two_lengths());
    }

    #[test]
    fn a_request_that_was_handed_over_is_forgotten_with_the_next_read() {
        let mut recent = recent(&["PUT /a HTTP/1.1\r\ncontent-length: 2\r\n"]);
        recent.mark_parsed();
        recent.push(b"transfer-encoding: chunked\r\n\r\n", false);
        assert!(!recent.has_two_lengths());
    }
}
