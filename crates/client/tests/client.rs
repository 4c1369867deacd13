//! The client against nodes that answer, fail, hang and cut connections as told.

#![allow(clippy::unwrap_used)]

mod fake;

use std::time::Duration;

use annulus_client::{
    Builder, Cause, Client, Condition, Context, OnUnknown, Options, Outcome, Page, Put, Quorum, Read, Readiness,
};
use fake::{Act, Fake, nobody, problem, response};

/// Patient, but with pauses that no test notices.
fn quick() -> Builder {
    Client::builder()
        .pause(Duration::from_millis(1), Duration::from_millis(2))
        .attempts(6)
}

fn client(nodes: &[&Fake]) -> Client {
    quick().build(nodes.iter().map(|node| node.url())).unwrap()
}

fn usual() -> Options {
    Options::default()
}

const UNAVAILABLE: &str = r#"{"type":"quorum","title":"Quorum unreachable","status":503,"outcome":"none"}"#;
const UNAVAILABLE_UNKNOWN: &str = r#"{"type":"quorum","title":"Quorum unreachable","status":503,"outcome":"unknown"}"#;
const DEADLINE: &str = r#"{"type":"deadline","title":"Deadline passed","status":504,"outcome":"unknown"}"#;

#[tokio::test]
async fn a_value_comes_back_with_everything_that_it_was_written_with() {
    let node = Fake::good().await;
    let client = client(&[&node]);
    let put = Put::new("{}").content_type("application/json").meta("owner", "mia");
    let written = client.put("b", "a key/ü", put, &usual()).await.unwrap();
    assert_eq!(written.replicas.unwrap().to_string(), "2/3");

    let Read::One(value) = client.get("b", "a key/ü", &usual()).await.unwrap() else {
        panic!("one value")
    };
    assert_eq!(value.bytes, "{}");
    assert_eq!(value.content_type.as_deref(), Some("application/json"));
    assert_eq!(value.meta["owner"], "mia");
    assert_eq!(value.context, written.context);

    let head = client.head("b", "a key/ü", &usual()).await.unwrap();
    assert_eq!((head.siblings, head.length), (1, Some(2)));
    assert_eq!(node.seen()[0], "PUT /v1/kv/b/a%20key/%C3%BC");
}

#[tokio::test]
async fn nothing_is_an_answer_with_a_context_and_not_an_error() {
    let node = Fake::good().await;
    let client = client(&[&node]);
    let Read::None { context } = client.get("b", "k", &usual()).await.unwrap() else {
        panic!("nothing")
    };
    client
        .put("b", "k", Put::new("v").context(&context), &usual())
        .await
        .unwrap();
    client.delete("b", "k", None, &usual()).await.unwrap();
    assert!(matches!(client.get("b", "k", &usual()).await, Ok(Read::None { .. })));
    assert_eq!(client.head("b", "k", &usual()).await.unwrap().siblings, 0);
}

#[tokio::test]
async fn a_route_that_is_missing_is_not_taken_for_a_key_that_is() {
    let node = Fake::scripted(|_| problem(404, r#"{"type":"no-such-route","title":"No such route"}"#)).await;
    let error = client(&[&node]).get("b", "k", &usual()).await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, "no-such-route");
}

#[tokio::test]
async fn siblings_come_with_one_context_that_replaces_them_all() {
    let node = Fake::good().await;
    let client = client(&[&node]);
    let before = client.get("b", "k", &usual()).await.unwrap().context().clone();
    client
        .put("b", "k", Put::new("one").context(&before).meta("who", "a"), &usual())
        .await
        .unwrap();
    client
        .put("b", "k", Put::new("two").context(&before), &usual())
        .await
        .unwrap();

    let read = client.get("b", "k", &usual()).await.unwrap();
    let texts: Vec<_> = read.values().iter().map(|value| &value.bytes[..]).collect();
    assert_eq!(texts, [&b"one"[..], b"two"]);
    assert_eq!(read.values()[0].meta["who"], "a");
    assert_eq!(client.head("b", "k", &usual()).await.unwrap().siblings, 2);

    client
        .put("b", "k", Put::new("both").context(read.context()), &usual())
        .await
        .unwrap();
    assert!(matches!(client.get("b", "k", &usual()).await, Ok(Read::One(value)) if value.bytes == "both"));
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_keeps_keys_that_are_no_text() {
    let node = Fake::good().await;
    let client = client(&[&node]);
    let keys: [&[u8]; 4] = [b"a", b"a/b", b"b", b"\xff\0"];
    for key in keys {
        client.put("b", key, Put::new(""), &usual()).await.unwrap();
    }
    let mut page = Page {
        limit: Some(3),
        ..Page::default()
    };
    let first = client.list("b", &page).await.unwrap();
    page.start = first.next.clone();
    let second = client.list("b", &page).await.unwrap();
    assert_eq!([first.keys, second.keys].concat(), keys);
    assert_eq!(second.next, None);
    let prefixed = client
        .list(
            "b",
            &Page {
                prefix: b"a/".to_vec(),
                ..Page::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(prefixed.keys, [b"a/b"]);
}

#[tokio::test]
async fn a_node_that_is_gone_is_passed_over_at_once() {
    let good = Fake::good().await;
    let client = Client::builder()
        .attempts(2)
        .build([nobody().await, good.url()])
        .unwrap();
    for key in ["a", "b", "c"] {
        client.put("b", key, Put::new("v"), &usual()).await.unwrap();
    }
    assert_eq!(good.seen().len(), 3);
}

#[tokio::test]
async fn where_nobody_answers_a_write_surely_did_not_happen() {
    let client = quick().attempts(3).build([nobody().await]).unwrap();
    let error = client.put("b", "k", Put::new("v"), &usual()).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Unreachable(_)), "{error}");
    assert_eq!((error.attempts(), error.outcome()), (3, Some(Outcome::None)));
    assert!(
        error.to_string().ends_with("(after 3 attempts); nothing was written"),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_that_sheds_load_is_asked_again() {
    let node = Fake::scripted(|seen| {
        if seen.nth < 2 {
            problem(503, UNAVAILABLE)
        } else {
            Act::Serve
        }
    })
    .await;
    client(&[&node]).put("b", "k", Put::new("v"), &usual()).await.unwrap();
    assert_eq!(node.seen().len(), 3);
}

#[tokio::test]
async fn retry_after_is_honoured_even_if_that_means_to_give_up() {
    let node = Fake::scripted(|_| Act::Answer(response(429, &[("retry-after", "3600")], UNAVAILABLE.into()))).await;
    let error = client(&[&node]).get("b", "k", &usual()).await.unwrap_err();
    assert_eq!((error.attempts(), error.status()), (1, Some(429)));
}

#[tokio::test]
async fn what_is_refused_is_not_asked_again() {
    let node = Fake::scripted(|_| problem(413, r#"{"title":"Value too large","limit":1048576}"#)).await;
    let error = client(&[&node])
        .put("b", "k", Put::new("v"), &usual())
        .await
        .unwrap_err();
    assert_eq!((error.attempts(), error.outcome()), (1, Some(Outcome::None)));
    assert_eq!(error.problem().unwrap().number("limit"), Some(1 << 20));
}

#[tokio::test]
async fn an_outcome_once_unknown_stays_unknown() {
    let node = Fake::scripted(|seen| {
        if seen.nth == 0 {
            problem(504, DEADLINE)
        } else {
            problem(503, UNAVAILABLE)
        }
    })
    .await;
    let error = client(&[&node])
        .put("b", "k", Put::new("v"), &usual())
        .await
        .unwrap_err();
    assert_eq!((error.status(), error.outcome()), (Some(503), Some(Outcome::Unknown)));
    assert!(error.attempts() > 1);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_sent_again_and_is_one_value() {
    let node = Fake::scripted(|seen| if seen.nth == 0 { Act::ServeAndCut } else { Act::Serve }).await;
    let client = client(&[&node]);
    client.put("b", "k", Put::new("v"), &usual()).await.unwrap();
    assert!(matches!(client.get("b", "k", &usual()).await, Ok(Read::One(value)) if value.bytes == "v"));
    assert_eq!(node.seen().len(), 3);
}

#[tokio::test]
async fn a_caller_that_wants_to_know_is_told_of_an_unknown_outcome_at_once() {
    for act in [
        || Act::Cut,
        || problem(503, UNAVAILABLE_UNKNOWN),
        || problem(504, DEADLINE),
    ] {
        let node = Fake::scripted(move |_| act()).await;
        let options = Options {
            on_unknown: OnUnknown::Report,
            ..usual()
        };
        let error = client(&[&node])
            .put("b", "k", Put::new("v"), &options)
            .await
            .unwrap_err();
        assert_eq!(
            (error.attempts(), error.outcome()),
            (1, Some(Outcome::Unknown)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_conditional_write_is_sent_again_only_while_nothing_was_written() {
    let put = || Put::new("v").only_if(Condition::Absent);
    let refuses = Fake::scripted(|seen| {
        if seen.nth == 0 {
            problem(503, UNAVAILABLE)
        } else {
            Act::Serve
        }
    })
    .await;
    client(&[&refuses]).put("b", "k", put(), &usual()).await.unwrap();
    assert_eq!(refuses.seen().len(), 2);

    let cuts = Fake::scripted(|_| Act::ServeAndCut).await;
    let error = client(&[&cuts]).put("b", "k", put(), &usual()).await.unwrap_err();
    assert_eq!((error.attempts(), error.outcome()), (1, Some(Outcome::Unknown)));
}

#[tokio::test]
async fn a_node_that_hangs_costs_one_attempt_and_not_the_deadline() {
    let (hangs, good) = (Fake::scripted(|_| Act::Hang).await, Fake::good().await);
    let client = quick()
        .attempt_limit(Duration::from_millis(50))
        .build([hangs.url(), good.url()])
        .unwrap();
    assert!(client.get("b", "k", &usual()).await.is_ok());
    assert_eq!((hangs.seen().len(), good.seen().len()), (1, 1));
}

#[tokio::test]
async fn the_deadline_bounds_all_attempts_together() {
    let node = Fake::scripted(|_| Act::Hang).await;
    let options = Options {
        deadline: Some(Duration::from_millis(30)),
        ..usual()
    };
    let error = client(&[&node]).delete("b", "k", None, &options).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::TimedOut(_)), "{error}");
    assert_eq!(error.outcome(), Some(Outcome::Unknown));
}

#[tokio::test]
async fn options_travel_as_the_parameters_that_the_contract_names() {
    let node = Fake::good().await;
    let client = client(&[&node]);
    let options = Options {
        r: Some(Quorum::One),
        w: Some("3".parse().unwrap()),
        timeout: Some(Duration::from_millis(750)),
        ..usual()
    };
    client.put("b", "k", Put::new("v"), &options).await.unwrap();
    client.get("b", "k", &options).await.unwrap();
    assert_eq!(
        node.seen(),
        ["PUT /v1/kv/b/k?w=3&timeout=750ms", "GET /v1/kv/b/k?r=one&timeout=750ms"]
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is() {
    let node = Fake::good().await;
    let client = client(&[&node]);
    let invalid = |error: annulus_client::Error| matches!(error.cause(), Cause::Invalid(_));
    assert!(invalid(client.get("b", "", &usual()).await.unwrap_err()));
    assert!(invalid(client.get("a/b", "k", &usual()).await.unwrap_err()));
    let context = Context::new("line\nbreak");
    assert!(invalid(
        client
            .put("b", "k", Put::new("v").context(&context), &usual())
            .await
            .unwrap_err()
    ));
    assert!(invalid(
        client
            .put("b", "k", Put::new("v").meta("a b", "c"), &usual())
            .await
            .unwrap_err()
    ));
    assert!(node.seen().is_empty());
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_why() {
    let node = Fake::scripted(|_| problem(503, r#"{"title":"Not ready","detail":"waiting for 2 more nodes"}"#)).await;
    let Readiness::NotReady(problem) = client(&[&node]).ready().await.unwrap() else {
        panic!("not ready")
    };
    assert_eq!(problem.detail.as_deref(), Some("waiting for 2 more nodes"));
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_without_a_context_is_no_answer_of_annulus() {
    let node = Fake::scripted(|_| Act::Answer(response(200, &[], "<html>".into()))).await;
    let error = client(&[&node]).get("b", "k", &usual()).await.unwrap_err();
    assert!(error.to_string().contains("is this an annulus node?"), "{error}");
}

#[tokio::test]
async fn a_session_sends_what_the_last_answer_said_to_whichever_node() {
    let node = || {
        Fake::scripted(|seen| {
            let sent = seen
                .headers
                .get("annulus-session")
                .map(|sent| sent.to_str().unwrap().to_owned());
            let mut answer = http::Response::builder().status(204).header("annulus-context", "c");
            if let Some(sent) = sent {
                answer = answer.header("annulus-session", format!("{sent}+"));
            }
            match seen.uri.path() {
                "/v1/kv/b/none" => Act::Cut,
                _ => Act::Answer(answer.body(Default::default()).unwrap()),
            }
        })
    };
    let (one, two) = (node().await, node().await);
    let outside = client(&[&one, &two]);
    let session = outside.in_new_session();
    for round in 0..6 {
        let clone = session.clone();
        clone.put("b", "k", Put::new("v"), &usual()).await.unwrap();
        outside.put("b", "k", Put::new("v"), &usual()).await.unwrap();
        assert_eq!(session.session().await, Some(format!("new{}", "+".repeat(round + 1))));
    }
    assert!(session.put("b", "none", Put::new("v"), &usual()).await.is_err());
    assert_eq!(
        session.session().await,
        Some(format!("new{}", "+".repeat(6))),
        "a failure says nothing new"
    );
    assert_eq!(outside.session().await, None);
}
