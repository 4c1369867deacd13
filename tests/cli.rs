//! The command line, as a person and as a program use it.

use crate::support::{Cluster, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn keys_are_put_got_listed_and_deleted() {
    let cluster = Cluster::start(3);
    let urls = cluster.urls();
    let annulus = |arguments: &[&str]| run(&[arguments, &["--url", &urls]].concat());
    assert!(annulus(&["put", "b", "k", "value"]).status.success());
    let got = annulus(&["get", "b", "k"]);
    assert_eq!((got.status.code(), text(&got.stdout).trim_end()), (Some(0), "value"));
    assert!(text(&annulus(&["list", "b"]).stdout).contains('k'));
    let json = annulus(&["list", "b", "--json"]);
    assert!(
        serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok(),
        "{}",
        text(&json.stdout)
    );
    assert!(annulus(&["delete", "b", "k"]).status.success());
    let missing = annulus(&["get", "b", "k"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(!missing.stderr.is_empty());
}

#[test]
fn status_and_ring_show_every_node() {
    let cluster = Cluster::start(3);
    for command in ["status", "ring"] {
        let output = run(&[command, "--url", &cluster.urls()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        for name in ["n1", "n2", "n3"] {
            assert!(
                text(&output.stdout).contains(name),
                "{command}: {}",
                text(&output.stdout)
            );
        }
    }
    let output = run(&["status", "--json", "--url", &cluster.urls()]);
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_ok());
}

#[test]
fn a_short_bench_counts_what_it_did() {
    let cluster = Cluster::start(1);
    let output = run(&[
        "bench",
        "--ops",
        "200",
        "--clients",
        "4",
        "--json",
        "--url",
        &cluster.urls(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.to_string().contains("200"), "{report}");
}

#[test]
fn nobody_at_the_other_end_is_said_with_the_address() {
    let output = run(&["get", "b", "k", "--url", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("127.0.0.1:1"), "{}", text(&output.stderr));
}
