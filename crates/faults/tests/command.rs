//! The command as people meet it: what it says to what it cannot do, and that nothing of it is left when it has ended.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

fn faults(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus-faults"));
    command.args(arguments).env_remove("ANNULUS_BIN").stdin(Stdio::null());
    command
}

/// A program that stands in for the store.
fn program(directory: &Path, lines: &str) -> String {
    let path = directory.join("program");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_is_wrong_with_the_arguments_is_one_line_and_status_2() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "subcommand"),
        (&["walk"], "walk"),
        (
            &["run", "--nemesis", "kill,flood"],
            "no such kind of fault, only kill, ",
        ),
        (&["run", "--nemesis", ""], "no such kind of fault"),
        (&["run", "--seed", "blue"], "'blue' for '--seed <SEED>'"),
        (&["run", "--seed", "-1"], "-1"),
        (&["run", "--seconds", "0"], "'0' for '--seconds <SECONDS>'"),
        (&["run", "--nodes", "2"], "'2' for '--nodes <NODES>'"),
        (&["run", "--clients", "0"], "--clients"),
        (&["run", "--keys", "0"], "--keys"),
        (&["run", "--rate", "0"], "--rate"),
        (
            &["run", "--annulus", "/nowhere/annulus"],
            "/nowhere/annulus: No such file",
        ),
        (&["run", "--annulus", "/"], "it is no file"),
        (&["run", "--wet"], "--wet"),
        (&["modes", "--rounds", "0"], "'0' for '--rounds <ROUNDS>'"),
        (&["modes", "--connections", "0"], "--connections"),
        (&["modes", "--json", "--markdown"], "--markdown"),
        (&["modes", "--annulus", "/"], "it is no file"),
        (&["figures", "--keys", "1"], "'1' for '--keys <KEYS>'"),
        (&["figures", "--only", "speed"], "speed"),
    ];
    for (arguments, part) in cases {
        let output = faults(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(
            errors.contains(part) && errors.lines().count() == 1,
            "{arguments:?}: {errors}"
        );
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let program = program(directory.path(), "exit 1");
    let dir = directory.path().to_str().unwrap();
    let output = faults(&["run", "--nemesis", "kill", "--annulus", &program, "--dir", dir]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not empty"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn list_names_each_kind_and_whether_it_can_run() {
    let output = faults(&["list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for name in [
        "kill",
        "restart",
        "pause",
        "partition",
        "slow",
        "reset",
        "garble",
        "disk-full",
        "clock",
        "wipe",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{name} "))),
            "{name}: {text}"
        );
    }
    assert_eq!(text.matches("needs ").count(), text.matches(" run here").count());
}

#[test]
fn nodes_that_end_at_once_are_the_reason_for_status_2() {
    let directory = tempfile::tempdir().unwrap();
    let program = program(directory.path(), "echo no room at the inn; exit 3");
    let history = directory.path().join("history");
    let history = history.to_str().unwrap();
    let output = faults(&["run", "--nemesis", "kill", "--annulus", &program, "--history", history]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("exit status: 3") && errors.contains("no room at the inn"),
        "{errors}"
    );
}

#[test]
fn whoever_is_stopped_leaves_no_process_behind() {
    let directory = tempfile::tempdir().unwrap();
    // Each stand-in tells its id, and then never gets ready.
    let pids = directory.path().join("pids");
    let program = program(
        directory.path(),
        &format!("echo $$ >> {}; exec sleep 1000", pids.display()),
    );
    let history = directory.path().join("history");
    let arguments = [
        "run",
        "--nemesis",
        "kill",
        "--nodes",
        "3",
        "--annulus",
        &program,
        "--history",
    ];
    let mut child = command(&arguments)
        .arg(&history)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("seed "));
    let started = || -> Vec<i32> {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    while started().len() < 3 {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for pid in started() {
        assert!(test_kill_process(Pid::from_raw(pid).unwrap()).is_err(), "{pid} is left");
    }
}
