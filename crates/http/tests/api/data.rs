//! PUT, GET, HEAD and DELETE of a key, with contexts, siblings, conditions and options.

use std::time::Duration;

use annulus_coordinator::{Durability, Level, Mode, Operation, Options};
use serde_json::{Map, Value, json};

use crate::support::{Server, test};

/// Leaves two values at a key.
async fn make_siblings(server: &Server, path: &str) {
    server
        .ask(
            &format!("PUT {path}\ncontent-type: text/plain\nannulus-meta-who: a"),
            b"one",
        )
        .await;
    let two = server.ask(&format!("PUT {path}\nannulus-context: stale"), b"two").await;
    assert_eq!(two.status, 204);
}

async fn etag(server: &Server, path: &str) -> String {
    server.get(path).await.header("etag").expect("an entity tag").to_owned()
}

#[test]
fn what_is_put_is_what_is_got() {
    test(async |server| {
        let head = "PUT /v1/kv/b/k\nContent-Type: text/plain; charset=utf-8\nAnnulus-Meta-Owner: mia";
        let put = server.ask(head, b"hello").await;
        assert_eq!(put.status, 204);
        assert_eq!(put.header("annulus-context"), Some("token-1"));
        assert_eq!(put.header("annulus-replicas"), Some("2/3"));
        assert_eq!(put.header("annulus-fallbacks"), None);
        assert_eq!(put.header("content-length"), None);
        let get = server.get("/v1/kv/b/k").await;
        assert_eq!((get.status, get.text()), (200, "hello"));
        assert_eq!(get.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(get.header("annulus-meta-owner"), Some("mia"));
        assert_eq!(get.header("annulus-context"), Some("token-1"));
        assert_eq!(get.header("annulus-siblings"), Some("1"));
        assert_eq!(get.header("annulus-replicas"), Some("2/3"));
        assert_eq!(get.header("last-modified"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
        let etag = get.header("etag").expect("an entity tag");
        assert!(
            etag.len() == 34 && etag.starts_with('"') && etag.ends_with('"'),
            "{etag}"
        );
    });
}

#[test]
fn head_is_get_without_the_body() {
    test(async |server| {
        server.put("/v1/kv/b/k", b"hello").await;
        let mut get = server.get("/v1/kv/b/k").await;
        let mut head = server.ask("HEAD /v1/kv/b/k", b"").await;
        for response in [&mut get, &mut head] {
            response.headers.retain(|(name, _)| name != "date");
        }
        assert_eq!((head.status, &head.headers), (200, &get.headers));
        assert_eq!(head.header("content-length"), Some("5"));
        server.put("/v1/kv/b/empty", b"").await;
        let empty = server.ask("HEAD /v1/kv/b/empty", b"").await;
        assert_eq!(empty.header("content-length"), Some("0"));
        let missing = server.ask("HEAD /v1/kv/b/none", b"").await;
        assert_eq!(missing.status, 404);
        assert_eq!(missing.header("annulus-siblings"), Some("0"));
    });
}

#[test]
fn a_missing_key_has_a_token_and_a_type_of_its_own() {
    test(async |server| {
        let missing = server.get("/v1/kv/b/dir/k").await;
        let problem = missing.problem(404, "no-such-key");
        assert_eq!((&problem["bucket"], &problem["key"]), (&json!("b"), &json!("dir/k")));
        assert_eq!(missing.header("annulus-context"), Some("token-0"));
        assert_eq!(missing.header("annulus-siblings"), Some("0"));
        assert_eq!(missing.header("annulus-replicas"), Some("2/3"));
        let binary = server.get("/v1/kv/b/%ff").await.problem(404, "no-such-key");
        assert_eq!(binary["key"]["base64"], "/w==");
        server.get("/v1/nothing").await.problem(404, "no-such-route");
    });
}

#[test]
fn delete_answers_alike_whether_there_was_something() {
    test(async |server| {
        server.put("/v1/kv/b/k", b"x").await;
        for _ in 0..2 {
            let delete = server.ask("DELETE /v1/kv/b/k", b"").await;
            assert_eq!(delete.status, 204);
            assert!(delete.header("annulus-context").is_some());
        }
        assert_eq!(server.get("/v1/kv/b/k").await.status, 404);
    });
}

#[test]
fn an_empty_value_is_a_value() {
    test(async |server| {
        server.put("/v1/kv/b/k", b"").await;
        let get = server.get("/v1/kv/b/k").await;
        assert_eq!((get.status, get.header("content-length")), (200, Some("0")));
        assert_eq!(get.header("content-type"), Some("application/octet-stream"));
    });
}

#[test]
fn every_byte_of_a_key_counts() {
    let keys: [(&str, &[u8]); 12] = [
        ("a/b", b"a/b"),
        ("a//b", b"a//b"),
        ("/a", b"/a"),
        ("a/", b"a/"),
        ("//", b"//"),
        ("a%2Fb%00%ff", b"a/b\0\xff"),
        ("..", b".."),
        ("./a", b"./a"),
        ("a+b", b"a+b"),
        ("%C3%A9", "é".as_bytes()),
        ("a;b=c", b"a;b=c"),
        ("%25", b"%"),
    ];
    test(async |server| {
        for (path, key) in keys {
            assert_eq!(
                server.put(&format!("/v1/kv/b/{path}"), path.as_bytes()).await.status,
                204,
                "{path}"
            );
            assert_eq!(server.node.last().key.as_bytes(), key, "{path}");
            assert_eq!(server.get(&format!("/v1/kv/b/{path}")).await.text(), path);
        }
        let longest = "k".repeat(1024);
        assert_eq!(server.put(&format!("/v1/kv/%62/{longest}"), b"x").await.status, 204);
        let escaped = "%6b".repeat(1024);
        assert_eq!(server.get(&format!("/v1/kv/b/{escaped}")).await.status, 200);
    });
}

#[test]
fn siblings_come_as_json_in_a_stable_order() {
    test(async |server| {
        make_siblings(server, "/v1/kv/b/k").await;
        let get = server.get("/v1/kv/b/k").await;
        assert_eq!((get.status, get.header("annulus-siblings")), (300, Some("2")));
        assert_eq!(get.header("content-type"), Some("application/json"));
        assert_eq!(get.header("annulus-context"), Some("token-2"));
        let one = json!({"content_type": "text/plain", "value": "b25l", "meta": {"who": "a"},
            "modified": "2023-11-14T22:13:20.001Z"});
        let two = json!({"content_type": "application/octet-stream", "value": "dHdv", "meta": {},
            "modified": "2023-11-14T22:13:20.002Z"});
        assert_eq!(get.json(), json!({"siblings": [one, two]}));
        let head = server.ask("HEAD /v1/kv/b/k", b"").await;
        assert_eq!((head.status, head.header("annulus-siblings")), (300, Some("2")));
    });
}

#[test]
fn siblings_come_as_parts_for_those_who_ask() {
    test(async |server| {
        make_siblings(server, "/v1/kv/b/k").await;
        let get = server.ask("GET /v1/kv/b/k\naccept: multipart/mixed", b"").await;
        let content_type = get.header("content-type").expect("a type");
        let boundary = content_type
            .strip_prefix("multipart/mixed; boundary=")
            .expect("a boundary");
        let modified = "last-modified: Tue, 14 Nov 2023 22:13:20 GMT";
        let one = format!("content-type: text/plain\r\nannulus-meta-who: a\r\n{modified}\r\n\r\none");
        let two = format!("content-type: application/octet-stream\r\n{modified}\r\n\r\ntwo");
        let expected = format!("--{boundary}\r\n{one}\r\n--{boundary}\r\n{two}\r\n--{boundary}--\r\n");
        assert_eq!((get.status, get.text()), (300, expected.as_str()));
    });
}

#[test]
fn a_token_goes_to_the_node_and_a_forged_one_comes_back() {
    test(async |server| {
        server.ask("PUT /v1/kv/b/k\nAnnulus-Context: token-7", b"x").await;
        let operation = server.node.last().operation;
        assert!(matches!(operation, Operation::Write { token: Some(token), .. } if token == "token-7"));
        for method in ["PUT", "DELETE"] {
            let forged = server
                .ask(&format!("{method} /v1/kv/b/k\nAnnulus-Context: forged"), b"")
                .await;
            forged.problem(400, "invalid-context");
            let twice = server
                .ask(
                    &format!("{method} /v1/kv/b/k\nAnnulus-Context: a\nAnnulus-Context: b"),
                    b"",
                )
                .await;
            twice.problem(400, "invalid-context");
        }
    });
}

#[test]
fn the_options_of_a_request_reach_the_node() {
    test(async |server| {
        let query = "r=one&w=all&sloppy=false&durability=memory&timeout=750ms";
        let expected = Options {
            r: Some(Level::One),
            w: Some(Level::All),
            mode: Some(Mode::Strict),
            durability: Some(Durability::Memory),
            timeout: Some(Duration::from_millis(750)),
        };
        for method in ["PUT", "GET", "HEAD", "DELETE"] {
            server.ask(&format!("{method} /v1/kv/b/k?{query}"), b"").await;
            assert_eq!(server.node.last().options, expected, "{method}");
        }
    });
}

#[test]
fn a_write_with_fallbacks_says_so() {
    test(async |server| {
        let put = server.put("/v1/kv/thin/k", b"x").await;
        assert_eq!(put.header("annulus-fallbacks"), Some("1"));
    });
}

#[test]
fn a_reader_that_has_it_is_told_so() {
    test(async |server| {
        server.put("/v1/kv/b/k", b"x").await;
        let etag = etag(server, "/v1/kv/b/k").await;
        for matching in [
            etag.clone(),
            format!("W/{etag}"),
            format!("\"other\", {etag}"),
            "*".to_owned(),
        ] {
            let get = server
                .ask(&format!("GET /v1/kv/b/k\nif-none-match: {matching}"), b"")
                .await;
            assert_eq!(get.status, 304, "{matching}");
            assert_eq!(get.header("etag"), Some(etag.as_str()));
            assert_eq!(get.header("annulus-siblings"), Some("1"));
            assert!(get.header("annulus-context").is_some());
        }
        assert_eq!(
            server.ask("GET /v1/kv/b/k\nif-none-match: \"other\"", b"").await.status,
            200
        );
        assert_eq!(server.ask("GET /v1/kv/b/none\nif-none-match: *", b"").await.status, 404);
        let guarded = server.ask("GET /v1/kv/b/k\nif-match: \"other\"", b"").await;
        guarded.problem(412, "condition-failed");
    });
}

#[test]
fn a_write_keeps_to_its_condition() {
    test(async |server| {
        let absent = "PUT /v1/kv/b/k\nif-none-match: *";
        assert_eq!(server.ask(absent, b"one").await.status, 204);
        let refused = server.ask(absent, b"two").await;
        let etag = etag(server, "/v1/kv/b/k").await;
        assert_eq!(refused.problem(412, "condition-failed")["etag"], etag);
        assert_eq!(refused.header("etag"), Some(etag.as_str()));
        let stale = server
            .ask("PUT /v1/kv/b/k\nif-match: \"00000000000000000000000000000000\"", b"two")
            .await;
        stale.problem(412, "condition-failed");
        assert_eq!(
            server
                .ask(&format!("PUT /v1/kv/b/k\nif-match: \"x\", {etag}"), b"two")
                .await
                .status,
            204
        );
        assert_eq!(server.ask("DELETE /v1/kv/b/k\nif-match: *", b"").await.status, 204);
        let nothing = server
            .ask("DELETE /v1/kv/b/k\nif-match: *", b"")
            .await
            .problem(412, "condition-failed");
        assert!(nothing["etag"].is_null());
    });
}

#[test]
fn each_failure_has_its_status_its_type_and_its_facts() {
    let failures = [
        ("fail-level", 400, "invalid-parameter", r#"{"parameter":"w"}"#),
        (
            "fail-siblings",
            409,
            "too-many-siblings",
            r#"{"siblings":65,"limit":64}"#,
        ),
        (
            "fail-quorum",
            503,
            "quorum-unreachable",
            r#"{"required":2,"answered":1,"n":3,"outcome":"unknown"}"#,
        ),
        (
            "fail-late",
            504,
            "deadline-passed",
            r#"{"required":2,"answered":1,"outcome":"unknown"}"#,
        ),
        (
            "fail-unready",
            503,
            "not-ready",
            r#"{"reason":"draining","outcome":"none"}"#,
        ),
        ("fail-disk", 503, "storage-unavailable", r#"{"outcome":"none"}"#),
        ("fail-load", 429, "overloaded", r#"{"outcome":"none"}"#),
        ("fail-damage", 500, "damaged-record", "{}"),
    ];
    test(async |server| {
        for (bucket, status, slug, facts) in failures {
            let response = server.put(&format!("/v1/kv/{bucket}/k"), b"x").await;
            let problem = response.problem(status, slug);
            let facts: Map<String, Value> = serde_json::from_str(facts).expect("an object");
            for (name, value) in facts {
                assert_eq!(problem[&name], value, "{bucket}: {name}");
            }
            assert_eq!(
                response.header("retry-after").is_some(),
                matches!(status, 429 | 503),
                "{bucket}"
            );
        }
        assert_eq!(
            server.get("/v1/kv/fail-quorum/k").await.header("annulus-replicas"),
            Some("1/3")
        );
    });
}

#[test]
fn a_session_goes_in_and_comes_back_with_whatever_succeeds() {
    test(async |server| {
        let put = server.ask("PUT /v1/kv/b/k\nAnnulus-Session: new", b"v").await;
        assert_eq!((put.status, put.header("annulus-session")), (204, Some("first")));
        let etag = etag(server, "/v1/kv/b/k").await;
        for (head, status) in [
            ("GET /v1/kv/b/k".to_owned(), 200),
            ("HEAD /v1/kv/b/k".to_owned(), 200),
            (format!("GET /v1/kv/b/k\nIf-None-Match: {etag}"), 304),
            ("GET /v1/kv/b/k\nIf-Match: \"0\"".to_owned(), 412),
            ("GET /v1/kv/b/none".to_owned(), 404),
            ("DELETE /v1/kv/b/k".to_owned(), 204),
        ] {
            let answer = server.ask(&format!("{head}\nAnnulus-Session: mine"), b"").await;
            let got = (answer.status, answer.header("annulus-session"));
            assert_eq!(got, (status, Some("mine-next")), "{head}");
            let without = server.ask(&head, b"").await;
            assert_eq!(without.header("annulus-session"), None, "{head}");
        }
        make_siblings(server, "/v1/kv/b/two").await;
        let both = server.ask("GET /v1/kv/b/two\nAnnulus-Session: new", b"").await;
        assert_eq!((both.status, both.header("annulus-session")), (300, Some("first")));
    });
}

#[test]
fn a_session_that_cannot_be_is_refused_and_nothing_is_done() {
    test(async |server| {
        for head in ["PUT /v1/kv/b/k", "GET /v1/kv/b/k", "DELETE /v1/kv/b/k"] {
            for session in ["forged", "a\nAnnulus-Session: b", "\u{e4}"] {
                let refused = server.ask(&format!("{head}\nAnnulus-Session: {session}"), b"").await;
                refused.problem(400, "invalid-session");
                assert_eq!(refused.header("annulus-session"), None);
            }
        }
        let batch = "POST /v1/batch\nContent-Type: application/x-ndjson\nAnnulus-Session: new";
        server.ask(batch, b"{}").await.problem(400, "invalid-session");
        let list = server.ask("GET /v1/kv/b\nAnnulus-Session: new", b"").await;
        list.problem(400, "invalid-session");
        assert_eq!(server.get("/v1/kv/b/k").await.status, 404);
    });
}
