//! Bytes that no friend would send: none of them stops a node, and none is believed.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Cluster, Connection};

#[test]
fn garbage_on_the_peer_port_is_refused_and_the_node_goes_on() {
    let cluster = Cluster::start(2);
    let peer = cluster.flag(0, "--peer");
    let oversized = [b"ANNULUS\0".as_slice(), &u32::MAX.to_le_bytes(), &[0; 64]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &oversized, b"ANNULUS\0"] {
        let mut stream = TcpStream::connect(&peer).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(cluster.put(0, "/v1/kv/b/k?w=2", b"v").status, 204);
}

#[test]
fn ambiguous_requests_are_refused_and_the_connection_closed() {
    let cluster = Cluster::start(1);
    for request in [
        &b"PUT /v1/kv/b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"[..],
        b"PUT /v1/kv/b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"PUT /v1/kv/b/k HTTP/1.1\r\nhost: x\r\ncontent-length : 1\r\n\r\na",
        b"PUT /v1/kv/b/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        b"GET /v1/kv/b/k HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = cluster.connect(0);
        connection.send(request).unwrap();
        let response = connection.response("PUT").unwrap();
        assert_eq!(
            response.status,
            400,
            "{}: {}",
            String::from_utf8_lossy(request),
            response.text()
        );
        assert!(connection.closes());
    }
    assert_eq!(cluster.get(0, "/v1/kv/b/k").status, 404, "nothing was written");
}

#[test]
fn what_is_too_large_is_refused_by_its_own_status() {
    let cluster = Cluster::start_with(1, &["--max-value-bytes", "1KiB"]);
    assert_eq!(cluster.put(0, "/v1/kv/b/k", &[7; 1024]).status, 204);
    assert_eq!(cluster.put(0, "/v1/kv/b/k", &[7; 1025]).status, 413);
    assert_eq!(
        cluster.put(0, &format!("/v1/kv/b/{}", "k".repeat(1025)), b"v").status,
        400
    );
    assert_eq!(
        cluster.put(0, &format!("/v1/kv/{}/k", "b".repeat(65)), b"v").status,
        400
    );
    assert_eq!(
        cluster
            .request(0, "PUT", "/v1/kv/b/k", &[("x-long", &"x".repeat(200_000))], b"v")
            .status,
        431
    );
    for parameter in [
        "w=0",
        "w=4",
        "r=x",
        "colour=red",
        "timeout=0s",
        "sloppy=maybe",
        "durability=paper",
    ] {
        let refused = cluster.put(0, &format!("/v1/kv/b/k?{parameter}"), b"v");
        assert_eq!(refused.status, 400, "{parameter}: {}", refused.text());
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert!(
            refused.text().contains(parameter.split('=').next().unwrap()),
            "{}",
            refused.text()
        );
    }
    assert_eq!(cluster.get(0, "/v1/kv/b/k").body, [7; 1024], "none of it was written");
}

#[test]
fn a_request_that_stops_half_way_and_an_idle_connection_are_closed() {
    let cluster = Cluster::start_with(1, &["--request-timeout", "300ms", "--idle-timeout", "600ms"]);
    let mut half = cluster.connect(0);
    half.send(b"PUT /v1/kv/b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
        .unwrap();
    assert!(half.closes());
    let mut idle = cluster.connect(0);
    assert_eq!(idle.request("GET", "/health", &[], b"").unwrap().status, 200);
    assert!(idle.closes());
    assert_eq!(cluster.get(0, "/v1/kv/b/k").status, 404, "half a value is no value");
}

#[test]
fn many_idle_connections_cost_a_client_nothing() {
    let cluster = Cluster::start(1);
    let idle: Vec<Connection> = (0..800).map(|_| cluster.connect(0)).collect();
    assert_eq!(cluster.put(0, "/v1/kv/b/k", b"v").status, 204);
    drop(idle);
    assert_eq!(cluster.get(0, "/v1/kv/b/k").body, b"v");
}
