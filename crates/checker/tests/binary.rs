//! The program says by its status what it found.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const WRITTEN: &str = r#"{"type":"operation","number":1,"client":1,"node":"n1","key":"b/k","start_us":1,"end_us":2,"deadline_us":9,"action":{"do":"put","replaces":"known","durable":true},"outcome":{"was":"written","answered":2,"fallbacks":0,"n":3}}"#;
const HELD: &str = r#"{"type":"final","key":"b/k","node":"n1","at_us":20,"values":[1]}"#;
const GONE: &str = r#"{"type":"final","key":"b/k","node":"n1","at_us":20,"values":[]}"#;

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_annulus-check"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may be gone before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn status_and_lines(output: &Output) -> (Option<i32>, Vec<String>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output.status.code(), text.lines().map(str::to_owned).collect())
}

#[test]
fn a_clean_history_exits_with_0() {
    let output = run(&["-"], &format!("{WRITTEN}\n\n{HELD}\n"));
    let summary = "1 operations, 1 final reads, 0 faults, 0 violations".to_owned();
    assert_eq!(status_and_lines(&output), (Some(0), vec![summary]));
}

#[test]
fn a_violation_is_a_line_and_exits_with_1() {
    let output = run(&["-"], &format!("{WRITTEN}\n{GONE}\n"));
    let (status, lines) = status_and_lines(&output);
    assert_eq!((status, lines.len()), (Some(1), 2), "{lines:?}");
    assert!(lines[0].starts_with("lost: b/k: value 1 "), "{lines:?}");
    assert_eq!(lines[1], "1 operations, 1 final reads, 0 faults, 1 violations (lost 1)");
}

#[test]
fn a_history_is_read_from_a_file() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("clean.jsonl");
    std::fs::write(&path, format!("{WRITTEN}\n{HELD}\n")).unwrap();
    let output = run(&[path.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_cannot_be_read_exits_with_2_and_says_why() {
    let twice = format!("{WRITTEN}\n{WRITTEN}\n");
    let cases: [(&[&str], &str, &str); 5] = [
        (&["-"], "{}", "line 1 "),
        (&["-"], &twice, "two operations have the number 1"),
        (&["no such file"], "", "no such file: "),
        (&[], "", "usage: "),
        (&["-", "-"], "", "usage: "),
    ];
    for (arguments, input, reason) in cases {
        let output = run(arguments, input);
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{arguments:?}: {said}"
        );
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}
