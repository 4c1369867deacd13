//! The documents are true: the README's tour does what it shows, and what the documents name is there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::{BINARY, Cluster, run};

/// The nodes of the tour, as `scripts/cluster up` starts them.
const NODES: usize = 3;
/// What the README shows in place of what differs from run to run.
const ANYTHING: char = '…';

#[test]
fn every_line_of_the_tour_does_what_the_readme_shows() {
    go_through("README.md", 20);
}

#[test]
fn the_modes_of_replication_are_chosen_as_their_page_shows() {
    go_through("docs/replication-modes.md", 5);
}

/// Does what the `console` blocks of a document show, of which there are more than `least`.
fn go_through(document: &str, least: usize) {
    let steps = steps(&fs::read_to_string(root().join(document)).unwrap());
    assert!(steps.len() > least, "{document} has only {} steps", steps.len());
    let mut tour = Tour::begin();
    for step in &steps {
        let output = tour.take(&step.command);
        if let Err(missing) = matches(&step.shown, &output) {
            panic!(
                "$ {}\ndoes not show what {document} does: {missing}\n--- it says\n{output}",
                step.command
            );
        }
    }
    assert_eq!(tour.down.len(), NODES, "the tour ends with scripts/cluster down");
}

#[test]
fn every_relative_link_leads_somewhere() {
    for (path, text) in documents() {
        for target in links(&text) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            assert!(there.exists(), "{}: {target} leads nowhere", path.display());
            let anchored = heading.is_empty() || headings(&fs::read_to_string(&there).unwrap()).contains(heading);
            assert!(anchored, "{}: {target} names no heading", path.display());
        }
    }
}

#[test]
fn what_the_documents_name_is_there() {
    let cluster = Cluster::start(1);
    let (metrics, mut options) = (metrics(&cluster), options(&COMMANDS));
    options.extend(CARGO_OPTIONS.map(str::to_owned));
    options.extend(TOOLS.into_iter().flat_map(declared_options));
    for (path, text) in documents() {
        let mut missing = BTreeSet::new();
        for word in code_words(&text) {
            let known = match word.split_at_checked(2) {
                Some(("an", _)) if word.starts_with("annulus_") => metrics.contains(word),
                Some(("--", _)) => options.contains(word),
                Some(("/v", _)) if !word.contains(ANYTHING) => is_route(&cluster, word),
                _ if FOLDERS.iter().any(|folder| word.starts_with(folder)) => {
                    word.contains("NAME") || root().join(word).exists()
                }
                _ => true,
            };
            if !known {
                missing.insert(word);
            }
        }
        assert!(
            missing.is_empty(),
            "{} names what is not there: {missing:?}",
            path.display()
        );
    }
}

#[test]
fn the_documents_name_all_there_is() {
    let cluster = Cluster::start(1);
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let named: BTreeSet<&str> = code_words(&operations).into_iter().collect();
    let lacks = |there: BTreeSet<String>| {
        there
            .into_iter()
            .filter(|name| !named.contains(name.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        lacks(metrics(&cluster)),
        Vec::<String>::new(),
        "metrics that docs/operations.md does not name"
    );
    assert_eq!(
        lacks(options(&["serve"])),
        Vec::<String>::new(),
        "options that docs/operations.md does not name"
    );
    let index = fs::read_to_string(root().join("docs/adr/README.md")).unwrap();
    for adr in files(root().join("docs/adr"), &[".md"]) {
        let name = adr.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            name == "README.md" || index.contains(&format!("({name})")),
            "docs/adr/README.md lacks {name}"
        );
    }
}

/// Words in `code` that begin so are files.
const FOLDERS: [&str; 8] = [
    "bin/", "crates/", "docs/", "scripts/", "tests/", "xtask/", "fuzz/", ".ci/",
];

/// What the program is asked with; `serve` and `config check` take the same options.
const COMMANDS: [&str; 10] = [
    "serve", "get", "put", "delete", "list", "status", "ring", "bench", "import", "export",
];

/// What documents tell readers to give to cargo, or to anything.
const CARGO_OPTIONS: [&str; 3] = ["--help", "--test", "--workspace"];

/// Tools beside the program, by the file that declares their options.
const TOOLS: [&str; 2] = ["crates/sim/src/main.rs", "crates/faults/src/arguments.rs"];

/// The fields under `#[arg(long …)]`, as options.
fn declared_options(source: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(source)).unwrap();
    let mut options = BTreeSet::new();
    let mut is_option = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[arg(") {
            is_option = line.contains("long");
        } else if let Some((field, _)) = line.split_once(':').filter(|_| is_option && !line.starts_with("//")) {
            let field = field.rsplit(' ').next().unwrap_or(field);
            options.insert(format!("--{}", field.replace('_', "-")));
            is_option = false;
        }
    }
    options
}

fn metrics(cluster: &Cluster) -> BTreeSet<String> {
    let text = cluster.get(0, "/metrics").text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The long options that the help of these commands shows.
fn options(commands: &[&str]) -> BTreeSet<String> {
    let help = |command: &&str| String::from_utf8(run(&[command, "--help"]).stdout).unwrap();
    let text: String = commands.iter().map(help).collect();
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines
        .flat_map(|line| line.split([' ', ',']).take(3))
        .filter(|word| word.starts_with("--") && *word != "--help");
    words.map(str::to_owned).collect()
}

/// Whether something is served at a path; `{…}` in it stands for some name.
fn is_route(cluster: &Cluster, path: &str) -> bool {
    let path: String = path
        .split('{')
        .map(|part| {
            part.split_once('}')
                .map_or(part.to_owned(), |(_, rest)| format!("b{rest}"))
        })
        .collect();
    !cluster.get(0, &path).text().contains("no-such-route")
}

/// A command of the tour, and what the README shows of its output.
#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The steps in the `console` blocks: `$ ` begins a command, `> ` continues it, the rest is output.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (inside, line.split_at_checked(2)) {
            (_, Some(("``", _))) => inside = line == "```console",
            (false, _) => {}
            (true, Some(("$ ", command))) => steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (true, Some(("> ", more))) => steps.last_mut().unwrap().command.push_str(&format!("\n{more}")),
            (true, _) => steps
                .last_mut()
                .expect("a block begins with a command")
                .shown
                .push(line.to_owned()),
        }
    }
    steps
}

/// A shell that goes through the tour, and the cluster that it talks to.
struct Tour {
    cluster: Cluster,
    down: BTreeSet<usize>,
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Tour {
    fn begin() -> Tour {
        let cluster = Cluster::start(NODES);
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(root())
            .env("TMPDIR", cluster.path())
            .env("no_proxy", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (
            shell.stdin.take().unwrap(),
            BufReader::new(shell.stdout.take().unwrap()),
        );
        let mut tour = Tour {
            cluster,
            down: BTreeSet::new(),
            shell,
            input,
            output,
        };
        let version = tour.run("exec 2>&1; curl --version || true");
        assert!(
            version.starts_with("curl "),
            "the tour takes curl, and there is none here: {version}"
        );
        // A person sees the progress of a transfer, and gives up by hand.
        tour.run("curl() { command curl --silent --show-error --max-time 60 \"$@\"; }");
        tour
    }

    /// Runs one command of the README as if it stood on the ports that the README says.
    fn take(&mut self, command: &str) -> String {
        if let Some(arguments) = command.strip_prefix("scripts/cluster ") {
            self.change(arguments);
            return String::new();
        }
        let mut here = command.replace(
            "$PWD/target/release",
            Path::new(BINARY).parent().unwrap().to_str().unwrap(),
        );
        for node in 0..NODES {
            here = here.replace(&told(node), self.cluster.http(node));
        }
        let mut output = self.run(&here);
        for node in 0..NODES {
            output = output.replace(self.cluster.http(node), &told(node));
        }
        output
    }

    /// `scripts/cluster up`, `kill I` and `down`, on the cluster of this test.
    fn change(&mut self, arguments: &str) {
        match arguments.split_once(' ') {
            None if arguments == "up" => {
                for node in std::mem::take(&mut self.down) {
                    self.cluster.restart(node);
                }
            }
            None if arguments == "down" => {
                for node in (0..NODES).filter(|node| !self.down.contains(node)) {
                    self.cluster.signal(node, "TERM");
                    assert_eq!(self.cluster.await_exit(node), Some(0));
                }
                self.down = (0..NODES).collect();
            }
            Some(("kill", number)) => {
                let node = number.parse::<usize>().unwrap() - 1;
                self.cluster.kill(node);
                self.down.insert(node);
            }
            _ => panic!("this test does not know what scripts/cluster {arguments} does"),
        }
    }

    /// Runs a command in the shell, and returns what it says; a status other than 0 is a failure.
    fn run(&mut self, command: &str) -> String {
        const END: &str = "--- the command has ended, status";
        writeln!(self.input, "{{ {command}\n}} </dev/null\nprintf '\\n{END} %s\\n' $?").unwrap();
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "the shell has ended at: {command}\n{said}"
            );
            match line.strip_prefix(END) {
                Some(status) => {
                    assert_eq!(status.trim(), "0", "{command}\n{said}");
                    return said;
                }
                None => said.push_str(&line),
            }
        }
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Where the README says that a node is.
fn told(node: usize) -> String {
    format!("127.0.0.1:{}", 8101 + node)
}

/// Whether the output is what is shown, blank lines apart; `…` stands for anything in its line, alone for any lines.
fn matches(shown: &[String], output: &str) -> Result<(), String> {
    let mut lines = output
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.is_empty());
    let mut skip = false;
    for shown in shown.iter().filter(|shown| !shown.is_empty()) {
        if shown.chars().eq([ANYTHING]) {
            skip = true;
            continue;
        }
        let found = if skip {
            lines.any(|line| line_matches(shown, line))
        } else {
            lines.next().is_some_and(|line| line_matches(shown, line))
        };
        if !found {
            return Err(shown.clone());
        }
        skip = false;
    }
    match lines.next() {
        Some(more) if !skip => Err(format!("(the end) before {more:?}")),
        _ => Ok(()),
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.split(ANYTHING);
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn an_output_that_differs_is_noticed() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(matches(&shown("a\n…\nd: …e"), "a\r\nb\n\nc\nd: 1 e\n"), Ok(()));
    assert_eq!(matches(&shown("a…c"), "abcabc"), Ok(()));
    assert_eq!(matches(&shown("…"), ""), Ok(()));
    for (wanted, output) in [
        ("a", "b"),
        ("a", ""),
        ("a", "a\nb"),
        ("…\nz", "a"),
        ("", "a"),
        ("a…", "ba"),
        ("…a…b", "b a"),
    ] {
        assert!(matches(&shown(wanted), output).is_err(), "{wanted:?} {output:?}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder, by the end of their names.
fn files(folder: PathBuf, ends: &'static [&'static str]) -> impl Iterator<Item = PathBuf> {
    let all = walkdir::WalkDir::new(folder)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file());
    all.map(walkdir::DirEntry::into_path)
        .filter(|path| ends.iter().any(|end| path.to_string_lossy().ends_with(end)))
}

/// README.md, CONTRIBUTING.md, CHANGELOG.md and all of docs/.
fn documents() -> Vec<(PathBuf, String)> {
    let top = fs::read_dir(root()).unwrap().flatten().map(|entry| entry.path());
    let top = top.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let all = top.chain(files(root().join("docs"), &[".md"]));
    all.map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The targets of Markdown's links that are not addresses of other places.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

/// The anchors of a document's headings, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches(['#', ' ']));
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    titles
        .map(|title| {
            title
                .to_lowercase()
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect()
}

/// The words in `code`, outside of fenced blocks and of cargo's own command lines.
fn code_words(text: &str) -> Vec<&str> {
    let lines = text.split("```").step_by(2).flat_map(str::lines);
    let spans = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    let words = spans
        .filter(|span| !span.starts_with("cargo "))
        .flat_map(|span| span.split([' ', ',']));
    words.filter(|word| !word.is_empty()).collect()
}
