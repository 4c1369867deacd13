//! A tree of files goes in while nodes die, and comes out the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BINARY, Cluster, eventually, run};

/// Files of all sizes, names and depths; the same at every run.
fn grow(root: &Path, files: usize) {
    for number in 0..files {
        let size = [0, 1, 17, 300, 4_000, 33_000, 250_000][number % 7] + number;
        let folder = root.join(format!("d{}", number % 5)).join(format!("e {}", number % 3));
        fs::create_dir_all(&folder).unwrap();
        let content: Vec<u8> = (0..size).map(|byte| (byte * 31 + number) as u8).collect();
        fs::write(folder.join(format!("file-{number}.rs")), content).unwrap();
    }
}

fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = walkdir::WalkDir::new(root)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn a_tree_survives_the_death_of_two_of_five_nodes_during_its_import() {
    let mut cluster = Cluster::start(5);
    let (source, target) = (cluster.path().join("source"), cluster.path().join("target"));
    grow(&source, 280);
    let mut import = Command::new(BINARY)
        .args([
            "import",
            source.to_str().unwrap(),
            "--bucket",
            "tree",
            "--concurrency",
            "8",
            "--url",
            &cluster.urls(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stored = |cluster: &Cluster, at_least: usize| {
        let page = cluster.get(4, "/v1/kv/tree?limit=1000").json();
        page["keys"].as_array().is_some_and(|keys| keys.len() >= at_least)
    };
    eventually("the first files", || stored(&cluster, 40));
    cluster.kill(0);
    eventually("more files", || stored(&cluster, 120));
    cluster.kill(1);
    assert!(import.wait().unwrap().success(), "the import failed");
    let others = (2..5)
        .map(|node| format!("http://{}", cluster.http(node)))
        .collect::<Vec<_>>()
        .join(",");
    let export = run(&["export", target.to_str().unwrap(), "--bucket", "tree", "--url", &others]);
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
    let (sent, got) = (tree(&source), tree(&target));
    assert_eq!(sent.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
    assert!(sent == got, "some file differs");
}
