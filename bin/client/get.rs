//! `annulus get`: exactly the value's bytes on stdout; all that is said about it on stderr.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use annulus_client::{Read, Value};
use serde_json::json;

use super::{
    failure::Failure,
    output,
    target::{Place, ReadOptions, Target},
};

#[derive(clap::Args)]
pub(crate) struct Get {
    #[command(flatten)]
    place: Place,
    /// Write the value to this file
    #[arg(long, short, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,
    /// Of concurrent values, take this one, counted from 1
    #[arg(long, value_name = "N", conflicts_with = "json")]
    sibling: Option<usize>,
    /// Tell on stderr what came with the value: type, metadata, context, entity tag, replicas
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    options: ReadOptions,
    #[command(flatten)]
    target: Target,
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.target.client()?;
        let read = client
            .get(&self.place.bucket, self.place.key(), &self.options.options())
            .await?;
        if self.target.json {
            return print_json(&read);
        }
        if self.verbose {
            eprintln!("context: {}", read.context());
        }
        let value = self.chosen(&read)?;
        if self.verbose {
            describe(value);
        }
        match &self.output {
            Some(file) => fs::write(file, &value.bytes)
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display()))),
            None => print(value),
        }
    }

    fn chosen<'a>(&self, read: &'a Read) -> Result<&'a Value, Failure> {
        let values = read.values();
        match (values, self.sibling) {
            ([], _) => Err(Failure::new(format!("{}: no such key", self.place.shown()))),
            ([one], None | Some(1)) => Ok(one),
            (_, Some(number)) => values.get(number.wrapping_sub(1)).ok_or_else(|| {
                Failure::new(format!(
                    "{}: no sibling {number}, there are {}",
                    self.place.shown(),
                    values.len()
                ))
            }),
            (_, None) => Err(self.undecided(read)),
        }
    }

    fn undecided(&self, read: &Read) -> Failure {
        let list: String = read
            .values()
            .iter()
            .enumerate()
            .map(|(index, value)| sibling_line(index, value))
            .collect();
        Failure::new(format!(
            "{}: {} concurrent values, and none is better than the others:\n{list}\
             \n  --sibling N or --json shows them. To replace them all by what you merge:\
             \n  annulus put {} {} VALUE --context {}",
            self.place.shown(),
            read.values().len(),
            self.place.bucket,
            output::key(&self.place.key()),
            read.context(),
        ))
    }
}

fn sibling_line(index: usize, value: &Value) -> String {
    let size = output::bytes(value.bytes.len() as u64);
    let content_type = value.content_type.as_deref().unwrap_or("no type");
    let modified = value.modified.as_deref().unwrap_or("unknown time");
    format!("  {}: {size}, {content_type}, {modified}\n", index + 1)
}

fn describe(value: &Value) {
    let mut facts = vec![
        ("content-type".to_owned(), value.content_type.clone()),
        ("modified".to_owned(), value.modified.clone()),
        ("etag".to_owned(), value.etag.clone()),
        (
            "replicas".to_owned(),
            value.replicas.map(|replicas| replicas.to_string()),
        ),
    ];
    facts.extend(
        value
            .meta
            .iter()
            .map(|(name, text)| (format!("meta {name}"), Some(text.clone()))),
    );
    for (name, fact) in facts {
        if let Some(fact) = fact {
            eprintln!("{name}: {fact}");
        }
    }
}

fn print(value: &Value) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(&value.bytes)?;
    // So that the prompt starts on a line of its own; a pipe gets the bytes and nothing else.
    if stdout.is_terminal() && !value.bytes.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

fn print_json(read: &Read) -> Result<(), Failure> {
    let first = read.values().first();
    output::json(&json!({
        "context": read.context(),
        "etag": first.and_then(|value| value.etag.clone()),
        "replicas": first.and_then(|value| value.replicas).map(|replicas| replicas.to_string()),
        "siblings": read.values(),
    }))?;
    if first.is_none() {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}
