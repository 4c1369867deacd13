//! A request whose end or target is ambiguous is refused: what hyper lets pass of the forms that request smuggling uses.
//!
//! hyper 1.12 refuses by itself (`400`): differing or malformed `Content-Length`, `Transfer-Encoding` in HTTP/1.0 or
//! without a final `chunked`, folded lines, blanks before a colon, bare CR, NUL. It lets pass, as RFC 9112 §6.3
//! allows, `Content-Length` beside `Transfer-Encoding` (and drops the former, so that no header shows it, and closes
//! the connection after the response); other codings before `chunked`; it cuts a target at its `#`, so that the key
//! `a#1` would be `a`; and it does not look at `Host`.

use http::{HeaderMap, HeaderValue, Method, Version, header, request::Parts};

use crate::{
    activity::Activity,
    limits::MAX_URI_BYTES,
    problem::{CROSS_SITE, MALFORMED_REQUEST, Problem, UNSUPPORTED_EXPECTATION, URI_TOO_LONG},
};

/// The raw bytes of the latest reads: enough to hold the head of the request that was parsed last.
#[derive(Debug, Default)]
pub(crate) struct RecentBytes {
    bytes: Vec<u8>,
    parsed: bool,
}

impl RecentBytes {
    /// Of what may be a body only the end is kept: it may hold the next head.
    const KEPT_OF_BODY: usize = 16 << 10;

    /// That and the longest head that is taken by default. More is not kept: it would be `431`.
    const KEPT: usize = Self::KEPT_OF_BODY + (64 << 10);

    /// All whole heads so far belong to requests that were handed over; the beginning of another one stays.
    pub(crate) fn mark_parsed(&mut self) {
        self.parsed = true;
    }

    /// Adds a read.
    pub(crate) fn push(&mut self, read: &[u8]) {
        if std::mem::take(&mut self.parsed) {
            let start = self.bytes.len().saturating_sub(Self::KEPT_OF_BODY);
            self.bytes.drain(..start + end_of_heads(&self.bytes[start..]));
        }
        let room = Self::KEPT.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&read[..read.len().min(room)]);
    }

    /// Adds a read that began within a body.
    pub(crate) fn push_body(&mut self, read: &[u8]) {
        self.bytes.clear();
        self.bytes
            .extend_from_slice(&read[read.len().saturating_sub(Self::KEPT_OF_BODY)..]);
    }

    pub(crate) fn forget(&mut self) {
        self.bytes = Vec::new();
    }

    /// Whether the request line alone is too long.
    pub(crate) fn begins_with_a_long_line(&self) -> bool {
        self.lines().next().is_some_and(|line| line.len() > MAX_URI_BYTES)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.bytes.split(|&byte| byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Whether a head for this target has both a length and a transfer coding. Bodies may say so as they like.
    fn has_two_lengths(&self, target: &str) -> bool {
        let (mut in_head, mut length, mut coding) = (false, false, false);
        for line in self.lines() {
            if line.is_empty() {
                in_head = false;
            } else if request_of(line).is_some_and(|request| request.ends_with(target.as_bytes())) {
                (in_head, length, coding) = (true, false, false);
            } else if in_head {
                let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
                length |= name.eq_ignore_ascii_case(b"content-length");
                coding |= name.eq_ignore_ascii_case(b"transfer-encoding");
            }
            if in_head && length && coding {
                return true;
            }
        }
        false
    }

    /// Whether a request line has a `#` behind this target.
    fn has_fragment(&self, target: &str) -> bool {
        self.bytes.contains(&b'#')
            && self.lines().filter_map(request_of).any(|request| {
                let mut before = request.split(|&byte| byte == b'#');
                before.next().is_some_and(|first| first.ends_with(target.as_bytes())) && before.next().is_some()
            })
    }
}

/// A request line without its protocol; what comes before it on the line may be the end of a body.
fn request_of(line: &[u8]) -> Option<&[u8]> {
    let (request, protocol) = line.split_at_checked(line.len().checked_sub(b" HTTP/1.1".len())?)?;
    protocol.starts_with(b" HTTP/1.").then_some(request)
}

/// Where the last blank line ends.
fn end_of_heads(bytes: &[u8]) -> usize {
    let mut ends = (0..bytes.len()).rev().filter(|&at| bytes[at] == b'\n');
    ends.find(|&at| bytes[..at].ends_with(b"\n") || bytes[..at].ends_with(b"\n\r"))
        .map_or(0, |at| at + 1)
}

/// Checks what all requests have in common. A problem here ends the connection.
pub(crate) fn check(head: &Parts, activity: &Activity) -> Result<(), Problem> {
    check_host(head)?;
    check_site(head)?;
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    check_length(&head.headers, target, activity)?;
    if let Some(expectation) = head.headers.get(header::EXPECT)
        && !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(UNSUPPORTED_EXPECTATION.because("the only expectation known here is 100-continue"));
    }
    if target.len() > MAX_URI_BYTES {
        let length = target.len();
        let detail = format!("the path and query have {length} bytes, and {MAX_URI_BYTES} is the limit");
        return Err(URI_TOO_LONG.because(detail).fact("limit", MAX_URI_BYTES));
    }
    if activity.recent.borrow().has_fragment(target) {
        return Err(MALFORMED_REQUEST.because("the request target has a `#`; in a key it is written %23"));
    }
    Ok(())
}

/// A page of another site, open in the browser of somebody who can reach this node, must not write through it (W3C Fetch Metadata).
/// Programs do not send this header.
fn check_site(head: &Parts) -> Result<(), Problem> {
    let is_safe = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_cross_site = head
        .headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site");
    if is_safe || !is_cross_site {
        return Ok(());
    }
    Err(CROSS_SITE
        .because("a browser sent this for a page of another site (Sec-Fetch-Site: cross-site); nothing was done"))
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

fn check_length(headers: &HeaderMap, target: &str, activity: &Activity) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(MALFORMED_REQUEST.because("the only transfer coding known here is one `chunked`"));
    }
    if headers.contains_key(header::CONTENT_LENGTH) || activity.recent.borrow().has_two_lengths(target) {
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
            recent.push(read.as_bytes());
        }
        recent
    }

    #[test]
    fn both_lengths_in_one_head_are_seen_however_they_are_cut_and_written() {
        let padding = "p".repeat(40_000);
        let head = "PUT /k HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        for cut in 0..head.len() {
            let mut parts = recent(&["GET /a HTTP/1.1\r\nHost: a\r\n\r\n", &head[..cut]]);
            parts.mark_parsed();
            parts.push(&head.as_bytes()[cut..]);
            assert!(parts.has_two_lengths("/k"), "cut at {cut}");
            parts.push_body(format!("the end of a body{}", &head[..cut]).as_bytes());
            parts.mark_parsed();
            parts.push(&head.as_bytes()[cut..]);
            assert!(parts.has_two_lengths("/k"), "cut at {cut}, after a body");
        }
        let lines = "PUT http://a/k HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 5\n\n";
        assert!(recent(&[lines]).has_two_lengths("/k"));
        let long =
            format!("PUT /k HTTP/1.1\r\ncontent-length: 5\r\nx: {padding}\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(recent(&[&long]).has_two_lengths("/k"));
    }

    #[test]
    fn lengths_of_two_heads_in_one_read_are_no_ambiguity() {
        let two = "PUT /a HTTP/1.1\r\ncontent-length: 2\r\n\r\nhiPUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(!recent(&[two]).has_two_lengths("/a"));
    }

    #[test]
    fn what_a_body_says_is_no_ambiguity() {
        let body = "GET /x#y HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
        let mut recent = recent(&["PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n48\r\n", body]);
        assert!(!recent.has_two_lengths("/a") && !recent.has_fragment("/a"));
        recent.push_body(body.as_bytes());
        recent.push(b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(!recent.has_two_lengths("/a") && !recent.has_fragment("/a"));
    }

    #[test]
    fn a_fragment_is_seen_in_the_request_line_only() {
        for line in ["GET /a# HTTP/1.1", "GET /a#/b HTTP/1.0", "xGET http://h/a#b HTTP/1.1"] {
            assert!(recent(&[line, "\r\n\r\n"]).has_fragment("/a"), "{line}");
        }
        for head in ["GET /a HTTP/1.1\r\nx: /a#b", "GET /b#a HTTP/1.1"] {
            assert!(!recent(&[head, "\r\n\r\n"]).has_fragment("/a"), "{head}");
        }
    }

    #[test]
    fn a_request_that_was_handed_over_is_forgotten_with_the_next_read() {
        let mut recent = recent(&["PUT /a HTTP/1.1\r\ncontent-length: 2\r\n\r\n"]);
        recent.mark_parsed();
        recent.push(b"transfer-encoding: chunked\r\n\r\n");
        assert!(!recent.has_two_lengths("/a"));
    }
}
