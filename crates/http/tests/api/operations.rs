//! Health, readiness, metrics, the cluster and the ring, and what is served nowhere.

use serde_json::json;

use crate::support::test;

#[test]
fn health_and_readiness_are_two_things() {
    test(async |server| {
        assert_eq!(server.get("/health").await.status, 200);
        assert_eq!(server.get("/ready").await.status, 200);
        server.node.unready.set(true);
        assert_eq!(server.get("/health").await.status, 200);
        let unready = server.get("/ready").await;
        assert_eq!(
            unready.problem(503, "not-ready")["reason"],
            "two of three nodes are missing"
        );
        assert!(unready.header("retry-after").is_some());
    });
}

#[test]
fn metrics_are_those_of_the_node_and_of_http() {
    test(async |server| {
        server.put("/v1/kv/b/k", b"x").await;
        let metrics = server.get("/metrics").await;
        assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
        for line in [
            "fake_up 1",
            "annulus_http_requests_total{route=\"write_key\",status=\"204\"} 1",
            "annulus_http_request_duration_seconds_count{route=\"write_key\"} 1",
            "annulus_http_accepted_total 2",
            "annulus_http_overdue_total{what=\"idle\"} 0",
        ] {
            assert!(
                metrics.text().lines().any(|known| known == line),
                "{line} in\n{}",
                metrics.text()
            );
        }
        for line in metrics.text().lines() {
            assert!(line.starts_with("# ") || line.split(' ').count() == 2, "{line}");
        }
    });
}

#[test]
fn the_cluster_and_the_ring_have_the_shapes_of_the_contract() {
    let node = json!({"name": "n1", "state": "alive", "http": "127.0.0.1:8101", "peer": "127.0.0.1:7101",
        "region": "eu", "zone": "a", "capacity": 1.0, "version": "0.1.0"});
    let cluster = json!({"cluster": "c1", "epoch": 1, "node": "n1", "nodes": [node]});
    let ring = json!({"epoch": 1, "partitions": 2, "n": 2, "owners": [["n1", "n2"], ["n1", "n2"]]});
    let located = json!({"epoch": 1, "partition": 17, "position": "00000000000000ab", "owners": ["n2"],
        "fallbacks": ["n5"]});
    test(async |server| {
        assert_eq!(server.get("/v1/cluster").await.json(), cluster);
        assert_eq!(server.get("/v1/ring").await.json(), ring);
        assert_eq!(server.get("/v1/ring/b/dir/k").await.json(), located);
        server.get("/v1/ring/b/").await.problem(400, "invalid-key");
        server.get("/v1/ring/b").await.problem(404, "no-such-route");
    });
}

#[test]
fn what_comes_later_says_so() {
    test(async |server| {
        for request in [
            "GET /",
            "GET /openapi.json",
            "POST /v1/ring/plan",
            "POST /v1/ring/nodes/n4",
        ] {
            server.ask(request, b"").await.problem(501, "not-implemented");
        }
    });
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    const READ: &str = "GET, HEAD";
    const ALL: &str = "GET, HEAD, PUT, DELETE";
    const KEY: &str = "GET, HEAD, PUT, POST, DELETE";
    let paths = [
        ("/v1/kv/b/k", KEY),
        ("/v1/kv/b", READ),
        ("/v1/batch", "POST"),
        ("/v1/buckets", READ),
        ("/v1/buckets/b", ALL),
        ("/v1/cluster", READ),
        ("/v1/ring", READ),
        ("/v1/ring/b/k", "GET, HEAD, POST"),
        ("/health", READ),
        ("/ready", READ),
        ("/metrics", READ),
        ("/", READ),
    ];
    test(async |server| {
        for (path, allowed) in paths {
            for method in ["PATCH", "OPTIONS", "BREW"] {
                let response = server.ask(&format!("{method} {path}"), b"").await;
                response.problem(405, "method-not-allowed");
                assert_eq!(response.header("allow"), Some(allowed), "{path}");
            }
        }
    });
}

#[test]
fn what_is_served_nowhere_is_another_404() {
    test(async |server| {
        for path in [
            "/v1",
            "/v1/",
            "/v1/kv",
            "/v2/kv/b/k",
            "/health/",
            "/v1/batch/",
            "/favicon.ico",
            "/v1/cluster/n1",
        ] {
            server.get(path).await.problem(404, "no-such-route");
        }
        for path in ["/v1/kv/", "/v1/kv//k", "/v1/buckets/"] {
            server.get(path).await.problem(400, "invalid-bucket");
        }
        for path in [
            "/health?x",
            "/metrics?x",
            "/v1/cluster?x",
            "/v1/ring?x",
            "/v1/ring/b/k?r=1",
            "/v1/buckets?x",
        ] {
            server.get(path).await.problem(400, "unknown-parameter");
        }
    });
}

#[test]
fn head_works_wherever_get_does() {
    test(async |server| {
        for path in [
            "/health",
            "/ready",
            "/metrics",
            "/v1/cluster",
            "/v1/ring",
            "/v1/buckets",
            "/v1/kv/b",
        ] {
            let head = server.ask(&format!("HEAD {path}"), b"").await;
            assert_eq!(head.status, 200, "{path}");
            assert!(
                head.header("content-length").is_some_and(|length| length != "0"),
                "{path}"
            );
        }
    });
}
