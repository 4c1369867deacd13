//! Batches: a line in, a line out, in order.

use annulus_coordinator::{Level, Operation};
use annulus_http::Limits;
use serde_json::{Value, json};

use crate::support::{Response, test, test_with};

fn lines(response: &Response) -> Vec<Value> {
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
    response
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results
        .iter()
        .map(|result| result["status"].as_u64().expect("a status"))
        .collect()
}

#[test]
fn each_line_is_answered_in_its_place() {
    let batch = [
        r#"{"op":"put","bucket":"b","key":"k","value":"aGVsbG8=","content_type":"text/x-a","meta":{"Who":"mia"}}"#,
        "{\"op\":\"get\",\"bucket\":\"b\",\"key\":\"k\"}\r\n",
        r#"{"op":"put","bucket":"b","key":"k","text":"é","context":"stale"}"#,
        r#"{"op":"get","bucket":"b","key_base64":"aw"}"#,
        r#"{"op":"delete","bucket":"b","key":"k"}"#,
        r#"{"op":"get","bucket":"b","key":"k"}"#,
        r#"{"op":"put","bucket":"fail-quorum","key":"k","json":null}"#,
    ];
    test(async |server| {
        let head = "POST /v1/batch\ncontent-type: application/x-ndjson";
        let response = server.ask(head, batch.join("\n").as_bytes()).await;
        assert_eq!(response.status, 200);
        let results = lines(&response);
        assert_eq!(statuses(&results), [204, 200, 204, 300, 204, 404, 503]);
        assert_eq!(results[0], json!({"status": 204, "context": "token-1"}));
        let value = json!({"status": 200, "content_type": "text/x-a", "value": "aGVsbG8=", "meta": {"who": "mia"},
            "modified": "2023-11-14T22:13:20.001Z", "context": "token-1"});
        assert_eq!(results[1], value);
        assert_eq!(results[3]["siblings"][1]["content_type"], "text/plain; charset=utf-8");
        assert_eq!(results[3]["siblings"][1]["value"], "w6k=");
        assert_eq!(results[5]["problem"]["type"], "urn:annulus:problem:no-such-key");
        assert_eq!(results[5]["context"], "token-3");
        assert_eq!(results[6]["problem"]["outcome"], "unknown");
    });
}

#[test]
fn json_is_stored_as_it_was_written() {
    test(async |server| {
        for json in ["null", "{\"b\": 1.50,\"a\":[ ]}", "\"x\""] {
            let line = format!(r#"{{"op":"put","bucket":"b","key":"k","json":{json},"w":2,"r":"all"}}"#);
            assert_eq!(
                statuses(&lines(&server.ask("POST /v1/batch", line.as_bytes()).await)),
                [204]
            );
            let request = server.node.last();
            assert_eq!(
                (request.options.w, request.options.r),
                (Some(Level::Count(2)), Some(Level::All))
            );
            let Operation::Write { value: Some(value), .. } = request.operation else {
                panic!("a put")
            };
            assert_eq!(&value.value[..], json.as_bytes());
            assert_eq!(value.content_type.as_deref(), Some("application/json"));
        }
    });
}

#[test]
fn a_line_that_is_not_understood_gets_its_refusal_and_the_others_go_on() {
    let good = r#"{"op":"get","bucket":"b","key":"k"}"#;
    let bad = [
        ("{", "invalid-json"),
        ("[]", "invalid-json"),
        ("\u{1}", "invalid-json"),
        (r#"{"op":"swap","bucket":"b","key":"k"}"#, "invalid-json"),
        (r#"{"op":"get","bucket":"b","key":"k","extra":1}"#, "invalid-json"),
        (r#"{"op":"get","bucket":"b","key":"k","key":"k"}"#, "invalid-json"),
        (r#"{"op":"get","bucket":"b b","key":"k"}"#, "invalid-bucket"),
        (r#"{"op":"get","bucket":"b","key":""}"#, "invalid-key"),
        (r#"{"op":"get","bucket":"b"}"#, "invalid-key"),
        (
            r#"{"op":"get","bucket":"b","key":"k","key_base64":"aw=="}"#,
            "invalid-key",
        ),
        (r#"{"op":"get","bucket":"b","key_base64":"!"}"#, "invalid-parameter"),
        (r#"{"op":"get","bucket":"b","key":"k","text":"x"}"#, "invalid-parameter"),
        (r#"{"op":"put","bucket":"b","key":"k"}"#, "invalid-parameter"),
        (
            r#"{"op":"put","bucket":"b","key":"k","text":"a","value":""}"#,
            "invalid-parameter",
        ),
        (
            r#"{"op":"put","bucket":"b","key":"k","value":"*"}"#,
            "invalid-parameter",
        ),
        (
            r#"{"op":"put","bucket":"b","key":"k","text":"a","w":0}"#,
            "invalid-parameter",
        ),
        (
            r#"{"op":"put","bucket":"b","key":"k","text":"a","content_type":"a\nb"}"#,
            "unsupported-content-type",
        ),
        (
            r#"{"op":"put","bucket":"b","key":"k","text":"a","meta":{"a b":"c"}}"#,
            "invalid-header",
        ),
        (
            r#"{"op":"put","bucket":"b","key":"k","text":"a","context":"forged"}"#,
            "invalid-context",
        ),
    ];
    test(async |server| {
        let batch: String = bad.iter().map(|(line, _)| format!("{line}\n{good}\n")).collect();
        let results = lines(&server.ask("POST /v1/batch", batch.as_bytes()).await);
        assert_eq!(results.len(), 2 * bad.len());
        for ((line, slug), results) in bad.iter().zip(results.chunks(2)) {
            assert_eq!(
                results[0]["problem"]["type"],
                format!("urn:annulus:problem:{slug}"),
                "{line}: {}",
                results[0]
            );
            assert_eq!(results[0]["problem"]["status"], results[0]["status"]);
            assert_eq!(results[1]["status"], 404);
        }
    });
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_is_not() {
    test_with(
        Limits {
            max_value_bytes: 1000,
            ..Limits::default()
        },
        async |server| {
            let put = |text: String| format!(r#"{{"op":"put","bucket":"b","key":"k","text":"{text}"}}"#);
            let batch = [put("x".repeat(500_000)), put("x".repeat(1001)), put("x".repeat(1000))].join("\n");
            let results = lines(&server.ask("POST /v1/batch", batch.as_bytes()).await);
            assert_eq!(statuses(&results), [413, 413, 204]);
        },
    );
}

#[test]
fn results_come_while_the_batch_is_still_being_sent() {
    test(async |server| {
        let mut client = server.connect().await;
        let head =
            "POST /v1/batch HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send(head).await;
        assert_eq!(client.response("POST").await.status, 100);
        let line = "{\"op\":\"get\",\"bucket\":\"b\",\"key\":\"k\"}\n";
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        client.send(&chunk).await;
        while client.line().await != "\r\n" {}
        for _ in 0..40 {
            // The chunk's size, the result, the chunk's end.
            client.line().await;
            let result: Value = serde_json::from_str(&client.line().await).expect("a result");
            assert_eq!(result["status"], 404);
            client.line().await;
            client.send(&chunk).await;
        }
        client.send("0\r\n\r\n").await;
        while client.line().await != "0\r\n" {}
        assert_eq!(client.line().await, "\r\n");
        client.request("GET /health", b"").await;
        assert_eq!(client.response("GET").await.status, 200, "the connection is kept");
    });
}

#[test]
fn slow_lines_do_not_change_the_order_and_the_window_is_bounded() {
    let slow = r#"{"op":"get","bucket":"slow","key":"k"}"#;
    let fast = r#"{"op":"delete","bucket":"b","key":"k"}"#;
    test(async |server| {
        let batch = format!("{slow}\n{fast}\n").repeat(40);
        let mut client = server.connect().await;
        client.request("POST /v1/batch", batch.as_bytes()).await;
        server.node.permits.arrival().await;
        while client.line().await != "\r\n" {}
        assert!(
            server.node.requests.borrow().len() <= 16,
            "the window is full, and no more was asked"
        );
        server.node.permits.release(40);
        let mut statuses = Vec::new();
        while statuses.len() < 80 {
            let line = client.line().await;
            statuses.extend(
                serde_json::from_str::<Value>(&line)
                    .ok()
                    .and_then(|result| result["status"].as_u64()),
            );
        }
        assert_eq!(statuses, [404, 204].repeat(40));
    });
}

#[test]
fn an_empty_batch_has_no_results() {
    test(async |server| {
        for body in ["", "\n \n"] {
            let response = server.ask("POST /v1/batch", body.as_bytes()).await;
            assert_eq!((response.status, response.text()), (200, ""));
        }
        server
            .ask("POST /v1/batch\ncontent-type: text/html", b"x")
            .await
            .problem(415, "unsupported-content-type");
        server
            .ask("POST /v1/batch?r=1", b"x")
            .await
            .problem(400, "unknown-parameter");
        let wrong = server.get("/v1/batch").await;
        wrong.problem(405, "method-not-allowed");
        assert_eq!(wrong.header("allow"), Some("POST"));
    });
}
