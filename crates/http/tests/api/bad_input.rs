//! What is refused, before anything is done for it.

use annulus_http::Limits;

use crate::support::{Server, test, test_with};

#[test]
fn a_bad_key_or_bucket_is_refused_with_the_limit() {
    test(async |server| {
        let long = "k".repeat(1025);
        for key in ["", &long] {
            for method in ["GET", "PUT", "DELETE"] {
                let problem = server
                    .ask(&format!("{method} /v1/kv/b/{key}"), b"")
                    .await
                    .problem(400, "invalid-key");
                assert_eq!(problem["limit"], 1024);
                assert!(
                    problem["detail"]
                        .as_str()
                        .is_some_and(|detail| detail.contains("1 to 1024 bytes"))
                );
            }
        }
        for key in ["%", "%4", "%zz", "a%2"] {
            server.get(&format!("/v1/kv/b/{key}")).await.problem(400, "invalid-key");
        }
        for bucket in ["a%20b", "%ff", "%zz", "a%2Fb", "b%C3%A9", "b*", &"b".repeat(65)] {
            server
                .put(&format!("/v1/kv/{bucket}/k"), b"x")
                .await
                .problem(400, "invalid-bucket");
        }
        assert_eq!(
            server.put(&format!("/v1/kv/{}/k", "b".repeat(64)), b"x").await.status,
            204
        );
        assert_eq!(server.node.requests.borrow().len(), 1, "nothing else reached the node");
    });
}

#[test]
fn a_page_of_another_site_does_not_write_through_its_reader_s_browser() {
    test(async |server| {
        let refused = server.ask("PUT /v1/kv/b/k\nsec-fetch-site: cross-site", b"v").await;
        refused.problem(403, "cross-site");
        assert!(server.node.requests.borrow().is_empty());
        let read = server.ask("GET /v1/kv/b/k\nsec-fetch-site: cross-site", b"").await;
        assert_eq!(read.status, 404);
    });
}

#[test]
fn parameters_are_known_given_once_and_valid() {
    test(async |server| {
        for (query, name) in [
            ("r=0", "r"),
            ("w=many", "w"),
            ("timeout=1h", "timeout"),
            ("r=1&r=2", "r"),
        ] {
            let problem = server
                .get(&format!("/v1/kv/b/k?{query}"))
                .await
                .problem(400, "invalid-parameter");
            assert_eq!(problem["parameter"], name, "{query}");
        }
        for (query, name) in [("q=1", "q"), ("prefix=a", "prefix"), ("r=1&%52=2", "R")] {
            let problem = server
                .put(&format!("/v1/kv/b/k?{query}"), b"x")
                .await
                .problem(400, "unknown-parameter");
            assert_eq!(problem["parameter"], name, "{query}");
        }
        assert!(server.node.requests.borrow().is_empty());
    });
}

#[test]
fn a_value_that_is_too_large_is_refused_before_it_is_read() {
    test_with(
        Limits {
            max_value_bytes: 1000,
            ..Limits::default()
        },
        async |server| {
            let mut client = server.connect().await;
            client
                .send("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n")
                .await;
            let refused = client.response("PUT").await;
            assert_eq!(refused.problem(413, "value-too-large")["limit"], 1000);
            assert_eq!(refused.header("connection"), Some("close"));
            client.send("PUT /v1/kv").await;
            assert_eq!(client.closed().await, b"");
            drop(client);
            assert_eq!(server.put("/v1/kv/b/k", &[0; 1000]).await.status, 204);
            assert_eq!(server.node.requests.borrow().len(), 1);
        },
    );
}

#[test]
fn a_client_that_sends_all_of_a_large_value_still_reads_its_refusal() {
    test_with(
        Limits {
            max_value_bytes: 1000,
            ..Limits::default()
        },
        async |server| {
            server
                .put("/v1/kv/b/k", &vec![0; 8 << 20])
                .await
                .problem(413, "value-too-large");
            let mut client = server.connect().await;
            let mut chunked = b"PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..100 {
                chunked.extend_from_slice(b"2000\r\n");
                chunked.extend_from_slice(&[0; 0x2000]);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            client.send(chunked).await;
            client.response("PUT").await.problem(413, "value-too-large");
        },
    );
}

#[test]
fn a_chunked_value_is_a_value() {
    test(async |server| {
        let mut client = server.connect().await;
        let body = "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: u\r\n\r\n";
        client
            .send(format!(
                "PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ntransfer-encoding: Chunked\r\n\r\n{body}"
            ))
            .await;
        assert_eq!(client.response("PUT").await.status, 204);
        client.request("GET /v1/kv/b/k", b"").await;
        assert_eq!(client.response("GET").await.text(), "abcde");
    });
}

#[test]
fn one_who_waits_for_continue_is_told_to() {
    test(async |server| {
        let mut client = server.connect().await;
        client
            .send("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\nexpect: 100-Continue\r\n\r\n")
            .await;
        assert_eq!(client.response("PUT").await.status, 100);
        client.send("hi").await;
        assert_eq!(client.response("PUT").await.status, 204);
        let odd = server.ask("PUT /v1/kv/b/k\nexpect: 200-maybe", b"hi").await;
        odd.problem(417, "unsupported-expectation");
    });
}

#[test]
fn headers_that_cannot_be_kept_are_refused() {
    test(async |server| {
        let put = async |headers: &str| server.ask(&format!("PUT /v1/kv/b/k\n{headers}"), b"x").await;
        for content_type in [
            "text",
            "text/",
            "a b/c",
            "/x",
            "text/plain\ncontent-type: a/b",
            "text/\u{e9}",
        ] {
            put(&format!("content-type: {content_type}"))
                .await
                .problem(415, "unsupported-content-type");
        }
        put(&format!("content-type: text/{}", "x".repeat(300)))
            .await
            .problem(415, "unsupported-content-type");
        put("content-encoding: gzip")
            .await
            .problem(415, "unsupported-content-encoding");
        assert_eq!(put("content-encoding: identity").await.status, 204);
        put(&format!("annulus-meta-a: {}", "x".repeat(9000)))
            .await
            .problem(431, "headers-too-large");
        let many: String = (0..65).map(|at| format!("annulus-meta-{at}: x\n")).collect();
        put(&many).await.problem(431, "headers-too-large");
        put("annulus-meta-: x").await.problem(400, "invalid-header");
        for condition in [
            "if-match: abc",
            "if-none-match: \"a\"",
            "if-match: *\nif-none-match: *",
            "if-match: \"a",
        ] {
            put(condition).await.problem(400, "invalid-header");
        }
        server
            .ask("GET /v1/kv/b/k\nif-none-match: abc", b"")
            .await
            .problem(400, "invalid-header");
        assert_eq!(put("annulus-meta-a: 1\nannulus-meta-a: é").await.status, 204);
        assert_eq!(server.get("/v1/kv/b/k").await.header("annulus-meta-a"), Some("1, é"));
    });
}

#[test]
fn too_much_head_is_refused_as_what_it_is() {
    test(async |server| {
        for length in [17_000, 65_600, 200_000] {
            server
                .get(&format!("/v1/kv/b/{}", "k".repeat(length)))
                .await
                .problem(414, "uri-too-long");
        }
        let long = server
            .ask(&format!("GET /v1/kv/b/k\nx: {}", "y".repeat(200_000)), b"")
            .await;
        long.problem(431, "headers-too-large");
        let many: String = (0..150).map(|at| format!("x-{at}: y\n")).collect();
        server
            .ask(&format!("GET /v1/kv/b/k\n{many}"), b"")
            .await
            .problem(431, "headers-too-large");
    });
}

/// Sends bytes, and checks that they are refused with `400`, that the connection closes, and that nothing was done.
async fn refused(server: &Server, request: impl AsRef<[u8]>) {
    let shown = request.as_ref().escape_ascii().to_string();
    let mut client = server.connect().await;
    client.send(request).await;
    let response = client.response(&shown).await;
    assert_eq!(response.status, 400, "{shown}");
    response.problem(400, "malformed-request");
    assert_eq!(response.header("connection"), Some("close"), "{shown}");
    assert_eq!(client.closed().await, b"", "{shown}");
    assert!(server.node.requests.borrow().is_empty(), "{shown}");
}

#[test]
fn a_request_whose_end_is_ambiguous_is_refused_and_its_connection_closed() {
    let smuggled = "0\r\n\r\nDELETE /v1/kv/b/k HTTP/1.1\r\nhost: t\r\n\r\n";
    let ambiguous = [
        "content-length: 6\r\ntransfer-encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: 0x5",
        "content-length: -1",
        "content-length: ",
        "content-length: 18446744073709551616",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding : chunked",
        "content-length : 6",
        " content-length: 6",
        "x: y\r\n folded",
        "x: y\rtransfer-encoding: chunked",
        "x\0: y",
        "x: \0",
        ": y",
        "x",
    ];
    test(async |server| {
        for headers in ambiguous {
            refused(
                server,
                format!("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\n{headers}\r\n\r\n{smuggled}"),
            )
            .await;
        }
    });
}

#[test]
fn two_lengths_are_seen_in_a_long_head_and_in_one_that_begins_behind_a_body() {
    let lengths = "content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let padding = "p".repeat(40_000);
    test(async |server| {
        refused(
            server,
            format!("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\nx: {padding}\r\n{lengths}"),
        )
        .await;
        for cut in ["PUT /v1/kv/b/k HT", "PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ncontent-le"] {
            let mut client = server.connect().await;
            client
                .send("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ncontent-length: 20\r\n\r\n")
                .await;
            client.send(format!("{}{cut}", "x".repeat(20))).await;
            assert_eq!(client.response("PUT").await.status, 204);
            let whole = format!("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\n{lengths}");
            client.send(&whole[cut.len()..]).await;
            client.response("PUT").await.problem(400, "malformed-request");
        }
    });
}

#[test]
fn a_value_may_look_like_a_head_with_two_lengths() {
    let value = "PUT /x#y HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
    let chunk = format!("{:x}\r\n{value}\r\n0\r\n\r\n", value.len());
    let chunked = format!("PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
    test(async |server| {
        let mut client = server.connect().await;
        for _ in 0..2 {
            client.request("PUT /v1/kv/b/k", value.as_bytes()).await;
            client.send(&chunked).await;
            assert_eq!(client.response("PUT").await.status, 204);
            assert_eq!(client.response("PUT").await.status, 204);
        }
        assert_eq!(server.get("/v1/kv/b/k").await.text(), value);
    });
}

#[test]
fn a_target_with_a_fragment_is_refused_and_not_another_key() {
    test(async |server| {
        refused(
            server,
            "PUT /v1/kv/b/a#1 HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\n\r\nx",
        )
        .await;
        refused(server, "GET http://t/v1/kv/b/a?r=1# HTTP/1.1\r\nhost: t\r\n\r\n").await;
        server.put("/v1/kv/b/a%231", b"x").await;
        assert_eq!(server.get("/v1/kv/b/a%231").await.text(), "x");
    });
}

#[test]
fn a_chunked_body_that_is_none_is_refused() {
    let bodies = [
        "x\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "-1\r\na\r\n",
        "11111111111111111\r\na",
    ];
    test(async |server| {
        for body in bodies {
            let head = "PUT /v1/kv/b/k HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n";
            refused(server, format!("{head}{body}")).await;
        }
    });
}

#[test]
fn a_request_has_one_host() {
    test(async |server| {
        for head in [
            "",
            "host: a\r\nhost: b\r\n",
            "host: a\r\nhost: a\r\n",
            "host: a b\r\n",
            "host: a/b\r\n",
        ] {
            refused(server, format!("GET /health HTTP/1.1\r\n{head}\r\n")).await;
        }
        for request in [
            "GET /health HTTP/1.1\r\nhost: [::1]:80\r\n\r\n",
            "GET /health HTTP/1.1\r\nhost: a.b:80\r\n\r\n",
            "GET /health HTTP/1.1\r\nhost:\r\n\r\n",
            "GET http://a/health HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            let mut client = server.connect().await;
            client.send(request).await;
            assert_eq!(client.response("GET").await.status, 200, "{request}");
        }
    });
}

#[test]
fn a_request_line_is_one() {
    let lines: [&[u8]; 10] = [
        b"GET  /health HTTP/1.1",
        b"GET /health  HTTP/1.1",
        b"GET /health HTTP/2.0",
        b"GET /health HTTP/1.2",
        b"GET /health",
        b"G\xe9T /health HTTP/1.1",
        b"GET /he alth HTTP/1.1",
        b"GET /v1/kv/b/\xff HTTP/1.1",
        b"\x16\x03\x01",
        b"GET\t/health\tHTTP/1.1",
    ];
    test(async |server| {
        for line in lines {
            refused(server, [line, b"\r\nhost: t\r\n\r\n"].concat()).await;
        }
        refused(
            server,
            "PUT /v1/kv/b/k HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .await;
    });
}

#[test]
fn http_1_0_is_answered_and_closed() {
    test(async |server| {
        let mut client = server.connect().await;
        client.send("GET /health HTTP/1.0\r\n\r\n").await;
        let response = String::from_utf8(client.closed().await).expect("text");
        assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    });
}
