//! Any node answers for any key, to the letter of what r, w and sloppy ask for.

use crate::support::{Cluster, eventually};

#[test]
fn what_is_put_at_one_node_is_got_from_all() {
    let cluster = Cluster::start(3);
    let written = cluster.put(0, "/v1/kv/photos/a/b%20c.txt", b"meow");
    assert_eq!(written.status, 204);
    assert!(matches!(written.header("annulus-replicas"), Some("2/3" | "3/3")));
    for node in 0..3 {
        let read = cluster.get(node, "/v1/kv/photos/a/b%20c.txt");
        assert_eq!((read.status, read.body.as_slice()), (200, &b"meow"[..]));
        assert_eq!(read.header("annulus-siblings"), Some("1"));
    }
    let listed = cluster.get(2, "/v1/kv/photos").json();
    assert_eq!(listed, serde_json::json!({"keys": ["a/b c.txt"], "next": null}));
    assert_eq!(
        cluster
            .request(1, "DELETE", "/v1/kv/photos/a/b%20c.txt", &[], b"")
            .status,
        204
    );
    let gone = cluster.get(0, "/v1/kv/photos/a/b%20c.txt");
    assert_eq!((gone.status, gone.header("annulus-siblings")), (404, Some("0")));
}

#[test]
fn writes_go_on_without_a_node_and_it_catches_up() {
    let mut cluster = Cluster::start(3);
    cluster.kill(2);
    for key in 0..50 {
        let written = cluster.put(key % 2, &format!("/v1/kv/b/{key}"), format!("{key}").as_bytes());
        assert_eq!(written.status, 204, "{}", written.text());
    }
    let refused = cluster.put(0, "/v1/kv/b/all?w=all", b"v");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["outcome"], "none");
    assert!(refused.header("retry-after").is_some());
    cluster.restart(2);
    eventually("no owner lacks what another's log names", || {
        (0..2).all(|node| cluster.metric(node, "annulus_log_entries") == 0.0)
    });
    // Its own copy is enough: the others are gone.
    cluster.kill(0);
    cluster.kill(1);
    for key in 0..50 {
        let read = cluster.get(2, &format!("/v1/kv/b/{key}?r=1"));
        assert_eq!((read.status, read.text()), (200, key.to_string()));
    }
    assert_eq!(
        cluster.get(2, "/v1/kv/b/nothing?r=2").status,
        503,
        "nothing is concluded from r owners only"
    );
}

#[test]
fn a_paused_node_is_suspected_taken_over_and_recovers() {
    let cluster = Cluster::start(3);
    cluster.signal(1, "STOP");
    for key in 0..20 {
        assert_eq!(
            cluster.put(key % 3 / 2 * 2, &format!("/v1/kv/b/{key}"), b"v").status,
            204
        );
    }
    let state = |name: &str| {
        let view = cluster.get(0, "/v1/cluster").json();
        let nodes = view["nodes"].as_array().unwrap().clone();
        nodes.into_iter().find(|node| node["name"] == name).unwrap()["state"].clone()
    };
    eventually("the suspicion of a paused node", || state("n2") != "alive");
    cluster.signal(1, "CONT");
    eventually("its recovery", || state("n2") == "alive");
    for key in 0..20 {
        assert_eq!(cluster.get(1, &format!("/v1/kv/b/{key}")).status, 200);
    }
}

#[test]
fn conditions_guard_writes() {
    let cluster = Cluster::start(3);
    let absent = [("if-none-match", "*")];
    assert_eq!(cluster.request(0, "PUT", "/v1/kv/b/k", &absent, b"1").status, 204);
    assert_eq!(cluster.request(1, "PUT", "/v1/kv/b/k", &absent, b"2").status, 412);
    let etag = cluster.get(2, "/v1/kv/b/k").header("etag").unwrap().to_owned();
    assert_eq!(
        cluster
            .request(2, "GET", "/v1/kv/b/k", &[("if-none-match", &etag)], b"")
            .status,
        304
    );
    assert_eq!(
        cluster
            .request(2, "PUT", "/v1/kv/b/k", &[("if-match", &etag)], b"3")
            .status,
        204
    );
    assert_eq!(
        cluster
            .request(0, "DELETE", "/v1/kv/b/k", &[("if-match", &etag)], b"")
            .status,
        412
    );
    assert_eq!(cluster.get(1, "/v1/kv/b/k").body, b"3");
}

#[test]
fn buckets_are_known_everywhere_and_guarded() {
    let cluster = Cluster::start(3);
    let declared = cluster.put(0, "/v1/buckets/sessions", br#"{"n":2,"conflicts":"lww","ttl":"24h"}"#);
    assert!(declared.status < 300, "{}", declared.text());
    for node in 0..3 {
        let bucket = cluster.get(node, "/v1/buckets/sessions").json();
        assert_eq!(
            (bucket["n"].clone(), bucket["conflicts"].clone()),
            (2.into(), "lww".into())
        );
    }
    assert_eq!(
        cluster.put(1, "/v1/kv/sessions/k", b"v").header("annulus-replicas"),
        Some("2/2")
    );
    assert_eq!(cluster.put(2, "/v1/buckets/sessions", br#"{"n":3}"#).status, 409);
    assert_eq!(
        cluster.request(1, "DELETE", "/v1/buckets/sessions", &[], b"").status,
        409
    );
    assert_eq!(cluster.put(2, "/v1/buckets/sessions", br#"{"n":9}"#).status, 400);
    assert_eq!(
        cluster.put(2, "/v1/buckets/sessions", br#"{"colour":"red"}"#).status,
        400
    );
    assert_eq!(cluster.request(0, "DELETE", "/v1/kv/sessions/k", &[], b"").status, 204);
    assert!(cluster.request(1, "DELETE", "/v1/buckets/sessions", &[], b"").status < 300);
    assert_eq!(cluster.get(0, "/v1/buckets/sessions").status, 404);
}
