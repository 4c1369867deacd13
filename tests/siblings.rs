//! Concurrent writes stay side by side until somebody who has seen them replaces them.

use base64::Engine;

use crate::support::Cluster;

#[test]
fn concurrent_writes_are_siblings_until_they_are_merged() {
    let cluster = Cluster::start(3);
    let empty = cluster.get(0, "/v1/kv/b/k");
    assert_eq!(empty.status, 404);
    let token = empty.token();
    for (node, value) in [(0, "left"), (1, "right")] {
        assert_eq!(
            cluster
                .request(
                    node,
                    "PUT",
                    "/v1/kv/b/k",
                    &[("annulus-context", &token)],
                    value.as_bytes()
                )
                .status,
            204
        );
    }
    let both = cluster.get(2, "/v1/kv/b/k");
    assert_eq!((both.status, both.header("annulus-siblings")), (300, Some("2")));
    let siblings = both.json()["siblings"].as_array().unwrap().clone();
    let mut values: Vec<String> = siblings
        .iter()
        .map(|sibling| {
            let value = base64::engine::general_purpose::STANDARD
                .decode(sibling["value"].as_str().unwrap())
                .unwrap();
            String::from_utf8(value).unwrap()
        })
        .collect();
    values.sort();
    assert_eq!(values, ["left", "right"]);
    let parts = cluster.request(0, "GET", "/v1/kv/b/k", &[("accept", "multipart/mixed")], b"");
    assert!(parts.header("content-type").unwrap().starts_with("multipart/mixed"));
    assert!(parts.text().contains("left") && parts.text().contains("right"));
    let merged = cluster.request(1, "PUT", "/v1/kv/b/k", &[("annulus-context", &both.token())], b"both");
    assert_eq!(merged.status, 204);
    assert_eq!(cluster.get(0, "/v1/kv/b/k").body, b"both");
}

#[test]
fn a_token_that_is_not_this_key_s_is_refused() {
    let cluster = Cluster::start(1);
    let other = cluster.put(0, "/v1/kv/b/other", b"v").token();
    let mut forged = other.clone();
    forged.replace_range(10..11, if &other[10..11] == "A" { "B" } else { "A" });
    for token in [
        other.as_str(),
        forged.as_str(),
        "",
        "no token at all",
        &"A".repeat(20_000),
    ] {
        let refused = cluster.request(0, "PUT", "/v1/kv/b/k", &[("annulus-context", token)], b"v");
        assert_eq!(refused.status, 400, "{token:.20}: {}", refused.text());
    }
    assert_eq!(cluster.get(0, "/v1/kv/b/k").status, 404, "nothing was written");
}

#[test]
fn content_types_and_metadata_come_back() {
    let cluster = Cluster::start(1);
    let headers = [
        ("content-type", "text/x-poem; charset=utf-8"),
        ("annulus-meta-author", "Basho"),
    ];
    assert_eq!(cluster.request(0, "PUT", "/v1/kv/b/k", &headers, b"frog").status, 204);
    let read = cluster.request(0, "HEAD", "/v1/kv/b/k", &[], b"");
    assert_eq!(read.header("content-type"), Some("text/x-poem; charset=utf-8"));
    assert_eq!(read.header("annulus-meta-author"), Some("Basho"));
    assert_eq!(read.header("content-length"), Some("4"));
}
