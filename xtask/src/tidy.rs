//! What no compiler checks: dependencies point one way, pure crates stay pure, every file says first what it keeps true.

use std::fs;
use std::path::Path;

use walkdir::WalkDir;

/// Each crate with the crates of this workspace that it may depend on.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("mutants", &[]),
    ("checker", &[]),
    ("causality", &["mutants"]),
    ("ring", &[]),
    ("coordinator", &["causality", "ring", "mutants"]),
    ("membership", &["causality", "ring"]),
    ("storage", &["causality", "ring", "mutants"]),
    ("protocol", &["causality", "ring", "coordinator", "membership"]),
    (
        "node",
        &[
            "causality",
            "ring",
            "coordinator",
            "membership",
            "storage",
            "protocol",
            "mutants",
        ],
    ),
    ("http", &["causality", "ring", "coordinator"]),
    ("client", &[]),
    (
        "sim",
        &[
            "causality",
            "ring",
            "coordinator",
            "membership",
            "storage",
            "protocol",
            "node",
            "checker",
            "mutants",
        ],
    ),
    ("faults", &["client", "checker"]),
];
/// Crates without clocks, sockets, files, threads and random order.
const PURE: [&str; 6] = ["causality", "ring", "coordinator", "membership", "protocol", "node"];
/// Longer than this, a file has a second idea in it.
const MAX_LINES: usize = 700;

pub(crate) fn check(root: &Path) -> Result<(), String> {
    let mut problems = Vec::new();
    dependencies(root, &mut problems);
    purity(root, &mut problems);
    files(root, &mut problems);
    if problems.is_empty() {
        println!("tidy: fine");
        return Ok(());
    }
    Err(format!("tidy found:\n  {}", problems.join("\n  ")))
}

fn dependencies(root: &Path, problems: &mut Vec<String>) {
    let crates = root.join("crates");
    for entry in fs::read_dir(&crates).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            problems.push(format!(
                "crates/{name} is not in xtask's table of dependencies: say there what it may use"
            ));
            continue;
        };
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap_or_default();
        let manifest: toml::Table = manifest.parse().unwrap_or_default();
        let used = manifest
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .cloned()
            .unwrap_or_default();
        for used in used.keys().filter_map(|used| used.strip_prefix("annulus-")) {
            if !allowed.contains(&used) {
                problems.push(format!(
                    "crates/{name} depends on {used}: dependencies point the other way"
                ));
            }
        }
    }
}

fn purity(root: &Path, problems: &mut Vec<String>) {
    for name in PURE {
        let path = root.join("crates").join(name).join("clippy.toml");
        let rules = fs::read_to_string(&path).unwrap_or_default();
        if !rules.contains("disallowed-methods") || !rules.contains("disallowed-types") {
            problems.push(format!(
                "{} must name disallowed-methods and disallowed-types",
                path.display()
            ));
        }
    }
}

fn files(root: &Path, problems: &mut Vec<String>) {
    for folder in ["crates", "bin", "xtask", "tests"] {
        for entry in WalkDir::new(root.join(folder)).into_iter().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(path).unwrap_or_default();
            if !text.starts_with("//!") {
                problems.push(format!(
                    "{} does not open with a sentence that says what it keeps true",
                    path.display()
                ));
            }
            let lines = text.lines().count();
            if lines > MAX_LINES {
                problems.push(format!(
                    "{} has {lines} lines, more than {MAX_LINES}: two ideas, two files",
                    path.display()
                ));
            }
        }
    }
}
