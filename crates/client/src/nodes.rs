//! Which node is asked next: all in turn; one that failed lately only as a probe, or when nobody else is left.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use http::uri::{Authority, PathAndQuery, Scheme, Uri};

/// A node that failed is left alone for this long; then one request may try it. Long enough that a paused node does
/// not hold many requests, short enough that one that is back gets its share at once.
const REST: Duration = Duration::from_secs(1);

/// Marks a node that is well.
const WELL: u64 = 0;

pub(crate) struct Node {
    /// As it is shown in messages: the URL without a trailing slash.
    pub(crate) url: String,
    authority: Authority,
    /// What stands before every path: empty, unless the nodes are behind a proxy that puts them below one.
    prefix: String,
    /// Milliseconds on the clock of `Nodes` until which it rests, or [`WELL`].
    rests_until: AtomicU64,
}

impl Node {
    fn parse(url: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("{url:?} is no node URL such as http://127.0.0.1:8101: {why}");
        let full = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let uri: Uri = full
            .trim_end_matches('/')
            .parse()
            .map_err(|error| bad(&format!("{error}")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("this client speaks plain http; put a TLS proxy in between")),
            _ => return Err(bad("the scheme must be http")),
        }
        if uri.query().is_some() {
            return Err(bad("it has a query"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?.clone();
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self {
            url: format!("http://{authority}{prefix}"),
            authority,
            prefix,
            rests_until: AtomicU64::new(WELL),
        })
    }

    pub(crate) fn uri(&self, path: &str) -> Result<Uri, http::Error> {
        let path = PathAndQuery::try_from(format!("{}{path}", self.prefix))?;
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }
}

pub(crate) struct Nodes {
    nodes: Vec<Node>,
    turn: AtomicUsize,
    started: Instant,
}

impl Nodes {
    pub(crate) fn parse<T: AsRef<str>>(urls: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let nodes = urls
            .into_iter()
            .map(|url| Node::parse(url.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err("a client needs the URL of at least one node".to_owned());
        }
        Ok(Self {
            nodes,
            turn: AtomicUsize::new(0),
            started: Instant::now(),
        })
    }

    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.url.as_str())
    }

    /// The node for the next attempt of a request that has `tried` these; none once it has tried all.
    pub(crate) fn next(&self, tried: &[usize]) -> Option<(usize, &Node)> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let untried = || {
            (0..self.nodes.len())
                .map(move |step| first.wrapping_add(step) % self.nodes.len())
                .filter(|index| !tried.contains(index))
        };
        let index = untried()
            .find(|&index| self.may_be_asked(index))
            .or_else(|| untried().next())?;
        Some((index, &self.nodes[index]))
    }

    /// Whether the node is well, or has rested long enough and this request is the one to probe it.
    fn may_be_asked(&self, index: usize) -> bool {
        let rests_until = self.nodes[index].rests_until.load(Ordering::Relaxed);
        rests_until == WELL
            || self.now() >= rests_until
                && self.nodes[index]
                    .rests_until
                    .compare_exchange(rests_until, self.rest(), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
    }

    pub(crate) fn answered(&self, index: usize) {
        self.nodes[index].rests_until.store(WELL, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, index: usize) {
        self.nodes[index].rests_until.store(self.rest(), Ordering::Relaxed);
    }

    fn rest(&self) -> u64 {
        self.now() + REST.as_millis() as u64
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Nodes {
        Nodes::parse(["http://a:1", "b:2", "http://c:3/below/"]).expect("valid URLs")
    }

    #[test]
    fn urls_are_read_leniently_and_shown_alike() {
        assert_eq!(
            three().urls().collect::<Vec<_>>(),
            ["http://a:1", "http://b:2", "http://c:3/below"]
        );
        let uri = three().nodes[2].uri("/v1/kv/b/k?r=1").expect("a valid path");
        assert_eq!(uri.to_string(), "http://c:3/below/v1/kv/b/k?r=1");
        for bad in ["", "https://a", "ftp://a", "http://", "http://a?x=1", "a b"] {
            assert!(Nodes::parse([bad]).is_err(), "{bad:?}");
        }
        assert!(Nodes::parse(Vec::<String>::new()).is_err());
    }

    #[test]
    fn all_nodes_take_turns() {
        let nodes = three();
        let picked: Vec<_> = (0..6).filter_map(|_| nodes.next(&[])).map(|(index, _)| index).collect();
        assert_eq!(picked, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_node_that_failed_is_asked_only_when_nobody_else_is_left() {
        let nodes = three();
        nodes.failed(1);
        assert!((0..9).all(|_| nodes.next(&[]).is_some_and(|(index, _)| index != 1)));
        assert_eq!(nodes.next(&[0, 2]).map(|(index, _)| index), Some(1));
        assert!(nodes.next(&[0, 1, 2]).is_none());
        nodes.answered(1);
        assert!((0..3).any(|_| nodes.next(&[]).is_some_and(|(index, _)| index == 1)));
    }

    #[test]
    fn a_node_that_has_rested_is_probed_by_one_request_only() {
        let nodes = three();
        nodes.nodes[1].rests_until.store(1, Ordering::Relaxed);
        while nodes.now() < 1 {
            std::hint::spin_loop();
        }
        let probes = (0..9)
            .filter(|_| nodes.next(&[]).is_some_and(|(index, _)| index == 1))
            .count();
        assert_eq!(probes, 1);
    }
}
