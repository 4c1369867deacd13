//! Pages of keys.

use serde_json::json;

use crate::support::test;

#[test]
fn pages_follow_one_another_in_key_order() {
    let all = json!(["a", "b/c", "b/d", "other", {"base64": "/w=="}]);
    test(async |server| {
        for key in ["a", "b/c", "b/d", "%ff", "other"] {
            server.put(&format!("/v1/kv/b/{key}"), b"x").await;
        }
        assert_eq!(server.get("/v1/kv/b").await.json(), json!({"keys": all, "next": null}));
        let (mut keys, mut path) = (Vec::new(), "/v1/kv/b?limit=2".to_owned());
        loop {
            let page = server.get(&path).await.json();
            keys.extend(page["keys"].as_array().expect("keys").clone());
            let Some(next) = page["next"].as_str() else { break };
            assert!(
                next.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
                "{next}"
            );
            path = format!("/v1/kv/b?limit=2&start={next}");
        }
        assert_eq!(json!(keys), all);
    });
}

#[test]
fn a_prefix_and_a_start_are_bytes() {
    test(async |server| {
        for key in ["a", "b/c", "b/d", "%ff%00", "%ff"] {
            server.put(&format!("/v1/kv/b/{key}"), b"x").await;
        }
        let keys = async |query: &str| server.get(&format!("/v1/kv/b?{query}")).await.json()["keys"].clone();
        assert_eq!(keys("prefix=b%2F").await, json!(["b/c", "b/d"]));
        assert_eq!(keys("prefix=b/&start=b/d").await, json!(["b/d"]));
        assert_eq!(
            keys("start=b").await,
            json!(["b/c", "b/d", {"base64": "/w=="}, {"base64": "/wA="}])
        );
        assert_eq!(
            keys("prefix=%ff").await,
            json!([{"base64": "/w=="}, {"base64": "/wA="}])
        );
        assert_eq!(keys("prefix=&start=").await.as_array().map(Vec::len), Some(5));
        assert_eq!(
            server.get("/v1/kv/empty").await.json(),
            json!({"keys": [], "next": null})
        );
    });
}

#[test]
fn a_bad_parameter_is_refused_by_name() {
    let bad = [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=1", "limit"),
        ("prefix=%zz", "prefix"),
        ("r=0", "r"),
        ("timeout=9", "timeout"),
    ];
    test(async |server| {
        for (query, name) in bad {
            let problem = server
                .get(&format!("/v1/kv/b?{query}"))
                .await
                .problem(400, "invalid-parameter");
            assert_eq!(problem["parameter"], name, "{query}");
        }
        for query in ["w=1", "max=3", "prefix%00=x"] {
            server
                .get(&format!("/v1/kv/b?{query}"))
                .await
                .problem(400, "unknown-parameter");
        }
        assert_eq!(server.get("/v1/kv/b?r=2&timeout=2s&limit=1000").await.status, 200);
    });
}
