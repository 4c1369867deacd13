//! Declarations of buckets.

use serde_json::json;

use crate::support::test;

#[test]
fn a_declaration_is_shown_as_it_was_made_and_can_be_sent_back() {
    let declaration = json!({"n": 2, "r": 1, "w": "all", "sloppy": false, "durability": "memory", "conflicts": "lww",
        "ttl": "24h", "max_siblings": 5});
    let mut expected = declaration.clone();
    expected["bucket"] = "b".into();
    test(async |server| {
        let head = "PUT /v1/buckets/b\ncontent-type: application/json";
        let put = server.ask(head, declaration.to_string().as_bytes()).await;
        assert_eq!((put.status, put.json()), (200, expected.clone()));
        let get = server.get("/v1/buckets/b").await;
        assert_eq!(get.json(), expected);
        assert_eq!(server.put("/v1/buckets/b", &get.body).await.json(), expected);
        assert_eq!(server.get("/v1/buckets").await.json(), json!({"buckets": [expected]}));
        assert_eq!(server.ask("DELETE /v1/buckets/b", b"").await.status, 204);
        server.get("/v1/buckets/b").await.problem(404, "no-such-bucket");
    });
}

#[test]
fn what_is_absent_takes_the_default_of_the_cluster() {
    let expected = json!({"bucket": "b", "n": 3, "r": "quorum", "w": "quorum", "sloppy": true, "durability": "disk",
        "conflicts": "siblings", "ttl": null, "max_siblings": 64});
    test(async |server| {
        for body in ["{}", r#"{"ttl":null,"n":null,"r":"quorum"}"#] {
            assert_eq!(server.put("/v1/buckets/b", body.as_bytes()).await.json(), expected);
        }
    });
}

#[test]
fn a_bad_declaration_is_refused_by_name() {
    let bad = [
        (r#"{"n":0}"#, "n"),
        (r#"{"n":"3"}"#, "n"),
        (r#"{"n":9}"#, "n"),
        (r#"{"n":1.5}"#, "n"),
        (r#"{"r":0}"#, "r"),
        (r#"{"r":true}"#, "r"),
        (r#"{"w":"most"}"#, "w"),
        (r#"{"w":300}"#, "w"),
        (r#"{"sloppy":"true"}"#, "sloppy"),
        (r#"{"durability":"ssd"}"#, "durability"),
        (r#"{"conflicts":"merge"}"#, "conflicts"),
        (r#"{"ttl":"0s"}"#, "ttl"),
        (r#"{"ttl":60}"#, "ttl"),
        (r#"{"ttl":"soon"}"#, "ttl"),
        (r#"{"max_siblings":0}"#, "max_siblings"),
        (r#"{"max_siblings":1025}"#, "max_siblings"),
        (r#"{"bucket":"other"}"#, "bucket"),
    ];
    test(async |server| {
        for (body, name) in bad {
            let problem = server
                .put("/v1/buckets/b", body.as_bytes())
                .await
                .problem(400, "invalid-parameter");
            assert_eq!(problem["parameter"], name, "{body}");
        }
        for body in [r#"{"replicas":3}"#, r#"{"N":null}"#] {
            server
                .put("/v1/buckets/b", body.as_bytes())
                .await
                .problem(400, "unknown-parameter");
        }
        for body in ["", "[]", "{", "3", "{}x", "\u{0}"] {
            server
                .put("/v1/buckets/b", body.as_bytes())
                .await
                .problem(400, "invalid-json");
        }
        server
            .put("/v1/buckets/b", &[b' '; 17_000])
            .await
            .problem(413, "value-too-large");
        let xml = server.ask("PUT /v1/buckets/b\ncontent-type: text/xml", b"{}").await;
        xml.problem(415, "unsupported-content-type");
        server
            .put("/v1/buckets/b%20b", b"{}")
            .await
            .problem(400, "invalid-bucket");
        server
            .put("/v1/buckets/b?n=3", b"{}")
            .await
            .problem(400, "unknown-parameter");
        server
            .ask("DELETE /v1/buckets/full", b"")
            .await
            .problem(409, "bucket-holds-keys");
    });
}
