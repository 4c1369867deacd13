//! Connections: kept, pipelined, timed out, counted and drained.

use std::time::Duration;

use annulus_http::Limits;

use crate::support::{Server, test, test_with};

/// Limits that pass while a test waits for what they cause.
fn short() -> Limits {
    let timeout = Duration::from_millis(100);
    Limits {
        request_timeout: timeout,
        idle_timeout: timeout,
        ..Limits::default()
    }
}

async fn has_metric(server: &Server, line: &str) -> bool {
    server.get("/metrics").await.text().lines().any(|known| known == line)
}

#[test]
fn a_connection_is_kept_for_many_requests() {
    test(async |server| {
        let mut client = server.connect().await;
        for _ in 0..50 {
            client.request("PUT /v1/kv/b/k", b"x").await;
            assert_eq!(client.response("PUT").await.status, 204);
            client.request("GET /v1/kv/b/k", b"").await;
            assert_eq!(client.response("GET").await.text(), "x");
        }
        client.request("GET /v1/kv/b/k\nconnection: close", b"").await;
        assert_eq!(client.response("GET").await.header("connection"), Some("close"));
        assert_eq!(client.closed().await, b"");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    test(async |server| {
        let mut client = server.connect().await;
        let mut requests = String::new();
        for at in 0..100 {
            requests.push_str(&format!(
                "PUT /v1/kv/b/{at} HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\n{at:03}"
            ));
            requests.push_str(&format!("GET /v1/kv/b/{at} HTTP/1.1\r\nhost: t\r\n\r\n"));
            let chunked = "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
            requests.push_str(&format!("PUT /v1/kv/c/{at} HTTP/1.1\r\nhost: t\r\n{chunked}"));
        }
        client.send(requests).await;
        for at in 0..100 {
            assert_eq!(client.response("PUT").await.status, 204);
            assert_eq!(client.response("GET").await.text(), format!("{at:03}"));
            assert_eq!(
                client.response("PUT").await.status,
                204,
                "lengths of two requests are no ambiguity"
            );
        }
    });
}

#[test]
fn a_request_that_comes_byte_by_byte_is_a_request() {
    test(async |server| {
        let mut client = server.connect().await;
        for byte in b"PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nhi" {
            client.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.response("PUT").await.status, 204);
    });
}

#[test]
fn a_large_value_goes_through_whole() {
    test(async |server| {
        let value: Vec<u8> = (0..1u32 << 20).map(|at| (at % 251) as u8).collect();
        let mut client = server.connect().await;
        client.request("PUT /v1/kv/b/k", &value).await;
        assert_eq!(client.response("PUT").await.status, 204);
        client.request("GET /v1/kv/b/k", b"").await;
        assert!(client.response("GET").await.body == value);
    });
}

#[test]
fn a_connection_without_a_request_is_closed() {
    test_with(short(), async |server| {
        let mut fresh = server.connect().await;
        let mut used = server.connect().await;
        used.request("GET /health", b"").await;
        assert_eq!(used.response("GET").await.status, 200);
        assert_eq!(fresh.closed().await, b"");
        assert_eq!(used.closed().await, b"");
        assert!(has_metric(server, "annulus_http_overdue_total{what=\"idle\"} 2").await);
    });
}

#[test]
fn a_request_that_stops_half_way_is_closed_and_holds_nothing() {
    test_with(short(), async |server| {
        for half in [
            "GET /hea",
            "PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\n",
            "PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf",
            "PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal",
            "POST /v1/batch HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\n{",
        ] {
            let mut client = server.connect().await;
            client.send(half).await;
            assert_eq!(client.closed().await, b"", "{half:?}");
        }
        assert!(server.node.requests.borrow().is_empty());
        assert!(has_metric(server, "annulus_http_overdue_total{what=\"request\"} 5").await);
        assert!(has_metric(server, "annulus_http_body_bytes 0").await);
    });
}

#[test]
fn a_head_that_trickles_in_is_closed_too() {
    test_with(short(), async |server| {
        let mut client = server.connect().await;
        client.send("GET /health HTTP/1.1\r\n").await;
        while !has_metric(server, "annulus_http_overdue_total{what=\"request\"} 1").await {
            client.send("x").await;
        }
    });
}

#[test]
fn a_slow_node_is_not_the_clients_fault() {
    test_with(short(), async |server| {
        let mut slow = server.connect().await;
        slow.request("GET /v1/kv/slow/k", b"").await;
        server.node.permits.arrival().await;
        server.connect().await.closed().await;
        server.node.permits.release(1);
        assert_eq!(slow.response("GET").await.status, 404);
    });
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    test_with(short(), async |server| {
        server.put("/v1/kv/b/k", &vec![0; 1 << 20]).await;
        let mut client = server.connect().await;
        client
            .send("GET /v1/kv/b/k HTTP/1.1\r\nhost: t\r\n\r\n".repeat(64))
            .await;
        while !has_metric(server, "annulus_http_overdue_total{what=\"response\"} 1").await {}
        assert!(client.closed().await.len() < 64 << 20);
    });
}

#[test]
fn a_drain_finishes_what_is_in_progress_and_closes_what_is_idle() {
    test(async |server| {
        let (mut fresh, mut used, mut busy) = (server.connect().await, server.connect().await, server.connect().await);
        used.request("GET /health", b"").await;
        assert_eq!(used.response("GET").await.status, 200);
        busy.request("GET /v1/kv/slow/k", b"").await;
        server.node.permits.arrival().await;
        server.shut_down();
        assert_eq!(fresh.closed().await, b"");
        assert_eq!(used.closed().await, b"");
        server.node.permits.release(1);
        let response = busy.response("GET").await;
        assert_eq!((response.status, response.header("connection")), (404, Some("close")));
        assert_eq!(busy.closed().await, b"");
        server.stop().await;
        assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
    });
}

#[test]
fn requests_beyond_the_bound_are_shed_before_any_work() {
    test_with(
        Limits {
            max_inflight_requests: 1,
            ..Limits::default()
        },
        async |server| {
            let mut busy = server.connect().await;
            busy.request("GET /v1/kv/slow/k", b"").await;
            server.node.permits.arrival().await;
            let shed = server.put("/v1/kv/b/k", b"x").await;
            assert_eq!(shed.problem(429, "overloaded")["outcome"], "none");
            assert_eq!(shed.header("retry-after"), Some("1"));
            assert_eq!(server.get("/health").await.status, 200, "operators are never shed");
            assert_eq!(server.node.requests.borrow().len(), 1);
            server.node.permits.release(1);
            busy.response("GET").await;
            assert_eq!(server.put("/v1/kv/b/k", b"x").await.status, 204);
        },
    );
}

#[test]
fn bodies_beyond_the_bound_are_shed_before_they_are_read() {
    test_with(
        Limits {
            max_inflight_bytes: 1000,
            ..Limits::default()
        },
        async |server| {
            let mut half = server.connect().await;
            half.send("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ncontent-length: 900\r\nexpect: 100-continue\r\n\r\n")
                .await;
            assert_eq!(half.response("PUT").await.status, 100);
            server.put("/v1/kv/b/k", &[0; 101]).await.problem(429, "overloaded");
            assert_eq!(server.put("/v1/kv/b/k", &[0; 100]).await.status, 204);
            half.send([0; 900]).await;
            assert_eq!(half.response("PUT").await.status, 204);
            assert_eq!(server.put("/v1/kv/b/k", &[0; 1000]).await.status, 204);
        },
    );
}

#[test]
fn connections_beyond_the_bound_are_told_so() {
    test_with(
        Limits {
            max_connections: 1,
            ..Limits::default()
        },
        async |server| {
            let mut first = server.connect().await;
            first.request("GET /health", b"").await;
            first.response("GET").await;
            let mut second = server.connect().await;
            second.response("GET").await.problem(503, "too-many-connections");
            first.request("GET /health", b"").await;
            assert_eq!(first.response("GET").await.status, 200);
        },
    );
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    test(async |server| {
        let mut client = server.connect().await;
        client.request("GET /v1/kv/slow/k", b"").await;
        client.end().await;
        server.node.permits.arrival().await;
        server.node.permits.release(1);
        assert_eq!(client.response("GET").await.status, 404);
        assert_eq!(client.closed().await, b"");
    });
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    test(async |server| {
        for request in ["GET /v1/kv/slow/k", "POST /v1/batch"] {
            let mut gone = server.connect().await;
            gone.request(request, br#"{"op":"get","bucket":"slow","key":"k"}"#)
                .await;
            server.node.permits.arrival().await;
            drop(gone);
            server.node.permits.release(1);
            while !has_metric(server, "annulus_http_connections 1").await {}
            assert!(has_metric(server, "annulus_http_requests_in_progress 0").await);
            assert!(has_metric(server, "annulus_http_body_bytes 0").await);
        }
    });
}
