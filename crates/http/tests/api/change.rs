//! POST of a key: operations on counters, sets and maps, and everything that they do not take.

use std::num::NonZeroI64;

use annulus_causality::{Change, ConflictPolicy, Element, Field, MAX_ELEMENT_BYTES};
use annulus_coordinator::{Level, Operation};
use serde_json::{Value, json};

use crate::support::{Server, test};

fn by(amount: i64) -> Change {
    Change::Increment(NonZeroI64::new(amount).expect("not zero"))
}

fn element(bytes: &[u8]) -> Element {
    Element::parse(bytes.to_vec().into()).expect("an element")
}

fn field(name: &str) -> Field {
    Field::parse(name.to_owned()).expect("a name")
}

fn set(name: &str, value: &[u8], content_type: Option<&str>) -> Change {
    Change::Set {
        field: field(name),
        value: value.to_vec().into(),
        content_type: content_type.map(str::to_owned),
    }
}

fn asked(server: &Server) -> (Change, Option<String>) {
    match server.node.last().operation {
        Operation::Change { change, token } => (change, token),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operation_is_understood_with_its_parts_and_answered_like_a_put() {
    let cases = [
        ("?op=increment", &b""[..], by(1)),
        ("?op=increment&by=-9223372036854775808", b"", by(i64::MIN)),
        ("?by=%2B7&op=increment", b"", by(7)),
        ("?op=add", b"\xff\0", Change::Add(element(b"\xff\0"))),
        ("?op=remove", b"e", Change::Remove(element(b"e"))),
        ("?op=set&field=first+name", b"Mia", set("first name", b"Mia", None)),
        ("?op=set&field=%C3%A9", b"", set("é", b"", None)),
        ("?op=unset&field=f", b"", Change::Unset(field("f"))),
    ];
    test(async |server| {
        for (query, body, expected) in cases {
            let response = server.ask(&format!("POST /v1/kv/b/k{query}"), body).await;
            assert_eq!(response.status, 204, "{query}");
            assert_eq!(response.header("annulus-context"), Some("token-0"));
            assert_eq!(response.header("annulus-replicas"), Some("2/3"));
            assert_eq!(asked(server), (expected, None), "{query}");
        }
        let head = "POST /v1/kv/b/k?op=set&field=f&w=all\nAnnulus-Context: t\nContent-Type: text/css";
        assert_eq!(server.ask(head, b"x").await.status, 204);
        assert_eq!(asked(server), (set("f", b"x", Some("text/css")), Some("t".to_owned())));
        assert_eq!(server.node.last().options.w, Some(Level::All));
    });
}

#[test]
fn what_an_operation_does_not_take_is_refused_by_name() {
    let cases = [
        ("", &b""[..], "op"),
        ("?op=double", b"", "op"),
        ("?op=", b"", "op"),
        ("?op=increment&by=0", b"", "by"),
        ("?op=increment&by=1.5", b"", "by"),
        ("?op=increment&by=9223372036854775808", b"", "by"),
        ("?op=increment&field=f", b"", "field"),
        ("?op=increment", b"5", "op"),
        ("?op=add", b"", "op"),
        ("?op=add&by=1", b"e", "by"),
        ("?op=set", b"v", "field"),
        ("?op=set&field=", b"v", "field"),
        ("?op=set&field=%ff", b"v", "field"),
        ("?op=unset&field=f", b"v", "op"),
        ("?op=add&w=9x", b"e", "w"),
    ];
    test(async |server| {
        for (query, body, parameter) in cases {
            let response = server.ask(&format!("POST /v1/kv/b/k{query}"), body).await;
            assert_eq!(
                response.problem(400, "invalid-parameter")["parameter"],
                parameter,
                "{query}"
            );
        }
        let unknown = server.ask("POST /v1/kv/b/k?op=add&element=e", b"e").await;
        unknown.problem(400, "unknown-parameter");
        let long = server
            .ask("POST /v1/kv/b/k?op=add", &vec![0; MAX_ELEMENT_BYTES + 1])
            .await;
        assert_eq!(long.problem(413, "value-too-large")["limit"], MAX_ELEMENT_BYTES);
        for header in ["If-Match: *", "If-None-Match: *", "Annulus-Meta-Who: mia"] {
            let head = format!("POST /v1/kv/b/k?op=increment\n{header}");
            server.ask(&head, b"").await.problem(400, "invalid-header");
        }
        let wrong = server.ask("POST /v1/kv/fail-operation/k?op=add", b"e").await;
        assert_eq!(wrong.problem(400, "wrong-operation")["bucket"], "fail-operation");
        let full = server.ask("POST /v1/kv/fail-limit/k?op=add", b"e").await;
        full.problem(409, "limit-reached");
    });
}

#[test]
fn a_batch_takes_operations_too() {
    let line = |rest: &str| format!(r#"{{"bucket":"b","key":"k",{rest}}}"#);
    let understood = [
        (r#""op":"increment""#, by(1)),
        (r#""op":"increment","by":-3"#, by(-3)),
        (r#""op":"add","value":"/w==""#, Change::Add(element(b"\xff"))),
        (r#""op":"remove","text":"e""#, Change::Remove(element(b"e"))),
        (
            r#""op":"set","field":"f","json":[1]"#,
            set("f", b"[1]", Some("application/json")),
        ),
        (r#""op":"unset","field":"f""#, Change::Unset(field("f"))),
    ];
    let refused = [
        r#""op":"increment","text":"5""#,
        r#""op":"increment","by":0"#,
        r#""op":"increment","by":1.5"#,
        r#""op":"add""#,
        r#""op":"set","text":"v""#,
        r#""op":"add","text":"e","if_match":"*""#,
        r#""op":"add","text":"e","meta":{}"#,
        r#""op":"put","text":"v","field":"f""#,
        r#""op":"get","by":1"#,
    ];
    test(async |server| {
        for (rest, expected) in understood {
            let response = server.ask("POST /v1/batch", line(rest).as_bytes()).await;
            let result: Value = serde_json::from_str(response.text()).expect("JSON");
            assert_eq!(result, json!({"status": 204, "context": "token-0"}), "{rest}");
            assert_eq!(asked(server).0, expected, "{rest}");
        }
        for rest in refused {
            let response = server.ask("POST /v1/batch", line(rest).as_bytes()).await;
            let result: Value = serde_json::from_str(response.text()).expect("JSON");
            assert_eq!(result["status"], 400, "{rest}");
        }
    });
}

#[test]
fn every_kind_of_bucket_can_be_declared() {
    test(async |server| {
        for (conflicts, policy) in [
            ("counter", ConflictPolicy::Counter),
            ("set", ConflictPolicy::Set),
            ("map", ConflictPolicy::Map),
        ] {
            let body = json!({ "conflicts": conflicts }).to_string();
            let declared = server.put("/v1/buckets/b", body.as_bytes()).await;
            assert_eq!(declared.json()["conflicts"], conflicts);
            assert_eq!(serde_json::to_value(policy).expect("a word"), conflicts);
        }
        let refused = server.put("/v1/buckets/b", b"{\"conflicts\":\"crdt\"}").await;
        assert_eq!(refused.problem(400, "invalid-parameter")["parameter"], "conflicts");
    });
}
