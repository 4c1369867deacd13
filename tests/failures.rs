//! What goes wrong around a node is said clearly, and stops nothing that need not stop.

use std::process::{Command, Stdio};

use crate::support::{BINARY, Cluster, free_ports, run};

#[test]
fn a_second_process_on_one_directory_refuses() {
    let cluster = Cluster::start(1);
    let data = cluster.flag(0, "--data-dir");
    let ports = free_ports("127.0.0.1", 2);
    let (http, peer) = (format!("127.0.0.1:{}", ports[0]), format!("127.0.0.1:{}", ports[1]));
    let second = run(&[
        "serve",
        "--name",
        "n1",
        "--data-dir",
        &data,
        "--http",
        &http,
        "--peer",
        &peer,
        "--bootstrap-expect",
        "1",
    ]);
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(
        text.contains(&cluster.pid(0).to_string()) && text.contains(&data),
        "{text}"
    );
    assert_eq!(cluster.get(0, "/ready").status, 200, "the first goes on");
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let mut cluster = Cluster::start(1);
    let data = cluster.flag(0, "--data-dir");
    cluster.signal(0, "TERM");
    cluster.await_exit(0);
    let other = run(&[
        "serve",
        "--name",
        "other",
        "--data-dir",
        &data,
        "--http",
        "127.0.0.1:0",
        "--peer",
        "127.0.0.1:0",
        "--bootstrap-expect",
        "1",
    ]);
    assert!(!other.status.success());
    let text = String::from_utf8_lossy(&other.stderr);
    assert!(text.contains("n1") && text.contains("other"), "{text}");
    cluster.restart(0);
}

#[test]
fn a_directory_of_another_cluster_is_refused_by_those_it_would_join() {
    let mut stranger = Cluster::start(1);
    stranger.signal(0, "TERM");
    stranger.await_exit(0);
    let cluster = Cluster::start(2);
    let joins = format!("{},{}", cluster.flag(0, "--peer"), cluster.flag(1, "--peer"));
    let (data, http, peer) = (
        stranger.flag(0, "--data-dir"),
        stranger.http(0),
        stranger.flag(0, "--peer"),
    );
    let output = run(&[
        "serve",
        "--name",
        "n1",
        "--data-dir",
        &data,
        "--http",
        http,
        "--peer",
        &peer,
        "--join",
        &joins,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("they do not mix") && text.contains("--join"), "{text}");
    assert_eq!(cluster.put(0, "/v1/kv/b/k", b"v").status, 204, "the others go on");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let cluster = Cluster::start(1);
    let directory = cluster.path().join("taken");
    let taken = run(&[
        "serve",
        "--name",
        "x",
        "--data-dir",
        directory.to_str().unwrap(),
        "--http",
        cluster.http(0),
        "--peer",
        "127.0.0.1:0",
        "--bootstrap-expect",
        "1",
    ]);
    assert_eq!(taken.status.code(), Some(1));
    let text = String::from_utf8_lossy(&taken.stderr);
    assert!(text.contains(cluster.http(0)) && text.contains("--http"), "{text}");
}

#[test]
fn a_bad_configuration_is_status_two_and_says_which_option() {
    for (arguments, named) in [
        (vec!["serve", "--name", "a b", "--data-dir", "/nonexistent"], "name"),
        (
            vec!["serve", "--name", "n1", "--data-dir", "/nonexistent", "--replicas", "0"],
            "replicas",
        ),
        (
            vec![
                "serve",
                "--name",
                "n1",
                "--data-dir",
                "/nonexistent",
                "--partitions",
                "3",
            ],
            "partitions",
        ),
        (
            vec!["config", "check", "--config", "/nonexistent/annulus.toml"],
            "/nonexistent/annulus.toml",
        ),
    ] {
        let output = run(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn nodes_that_expect_different_clusters_say_so_and_form_none() {
    let directory = tempfile::tempdir().unwrap();
    let ports = free_ports("127.0.0.1", 4);
    let address = |port: usize| format!("127.0.0.1:{}", ports[port]);
    let mut children: Vec<_> = [(0, "2"), (1, "3")]
        .into_iter()
        .map(|(index, expect)| {
            let log = std::fs::File::create(directory.path().join(format!("{index}.log"))).unwrap();
            Command::new(BINARY)
                .args(["serve", "--name", &format!("n{index}"), "--bootstrap-expect", expect])
                .args([
                    "--data-dir",
                    directory.path().join(format!("n{index}")).to_str().unwrap(),
                ])
                .args(["--http", &address(index), "--peer", &address(2 + index)])
                .args(["--join", &format!("{},{},127.0.0.1:1", address(2), address(3))])
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap()
        })
        .collect();
    let logs = || {
        let read = |index| std::fs::read_to_string(directory.path().join(format!("{index}.log"))).unwrap();
        (read(0), read(1))
    };
    crate::support::eventually("the complaint", || {
        let (first, second) = logs();
        first.contains("--bootstrap-expect 3") && second.contains("--bootstrap-expect 2")
    });
    let ready = crate::support::Connection::open(&address(0))
        .unwrap()
        .request("GET", "/ready", &[], b"")
        .unwrap();
    assert_eq!(ready.status, 503);
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
