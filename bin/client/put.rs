//! `annulus put`: the value from an argument, a file or stdin, byte for byte.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
};

use annulus_client::{Condition, Context, Put as Request, Written};
use serde_json::json;

use super::{
    failure::Failure,
    output,
    target::{Place, Target, WriteOptions},
};

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["value", "file"])))]
pub(crate) struct Put {
    #[command(flatten)]
    place: Place,
    /// The value; - reads it from stdin
    value: Option<OsString>,
    /// Read the value from this file
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its content type [default: told by the name of the file; text/plain for an argument]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Metadata to store with it
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    meta: Vec<(String, String)>,
    #[command(flatten)]
    guard: Guard,
    #[command(flatten)]
    options: WriteOptions,
    #[command(flatten)]
    target: Target,
}

/// What a write replaces, and when it happens at all.
#[derive(clap::Args)]
pub(crate) struct Guard {
    /// Replace exactly what this token of an earlier read or write has seen
    #[arg(long, value_name = "TOKEN")]
    context: Option<String>,
    /// Only if the key's values have this entity tag
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    /// Only if the key holds nothing
    #[arg(long, conflicts_with = "if_match")]
    if_absent: bool,
}

impl Guard {
    pub(crate) fn context(&self) -> Option<Context> {
        self.context.clone().map(Context::new)
    }

    pub(crate) fn condition(&self) -> Condition {
        match &self.if_match {
            Some(etag) => Condition::Matches(etag.clone()),
            None if self.if_absent => Condition::Absent,
            None => Condition::Always,
        }
    }
}

impl Put {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.target.client()?;
        let (bytes, usual_type) = self.source()?;
        let size = bytes.len() as u64;
        let request = Request {
            bytes: bytes.into(),
            content_type: Some(self.content_type.clone().unwrap_or(usual_type)),
            meta: self.meta.iter().cloned().collect(),
            context: self.guard.context(),
            condition: self.guard.condition(),
        };
        let written = client
            .put(&self.place.bucket, self.place.key(), request, &self.options.options())
            .await?;
        let done = format!("stored {} at {}", output::bytes(size), self.place.shown());
        acknowledge(&done, &written, &self.target)
    }

    fn source(&self) -> Result<(Vec<u8>, String), Failure> {
        let cannot = |what: &str, error: io::Error| Failure::new(format!("cannot read {what}: {error}"));
        match (&self.file, &self.value) {
            (Some(file), _) => {
                let bytes = fs::read(file).map_err(|error| cannot(&file.display().to_string(), error))?;
                Ok((bytes, mime_guess::from_path(file).first_or_octet_stream().to_string()))
            }
            (None, Some(value)) if value == "-" => {
                let mut bytes = Vec::new();
                io::stdin()
                    .lock()
                    .read_to_end(&mut bytes)
                    .map_err(|error| cannot("stdin", error))?;
                Ok((bytes, "application/octet-stream".to_owned()))
            }
            (None, value) => {
                let bytes = value.clone().unwrap_or_default().into_vec();
                Ok((bytes, "text/plain; charset=utf-8".to_owned()))
            }
        }
    }
}

/// Says that a write is done, and hands out its context.
pub(crate) fn acknowledge(done: &str, written: &Written, target: &Target) -> Result<(), Failure> {
    let replicas = written.replicas.map(|replicas| replicas.to_string());
    if target.json {
        return output::json(
            &json!({"context": written.context, "replicas": replicas, "fallbacks": written.fallbacks}),
        );
    }
    let replicas = replicas
        .map(|replicas| format!(", {replicas} replicas"))
        .unwrap_or_default();
    let fallbacks = match written.fallbacks {
        0 => String::new(),
        count => format!(", {count} of them standing in for owners that are down"),
    };
    output::line(format!("{done}{replicas}{fallbacks}\ncontext: {}", written.context))
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_ascii_lowercase(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_value;

    #[test]
    fn metadata_splits_at_its_first_equals_sign() {
        assert_eq!(name_and_value("Owner=a=b"), Ok(("owner".into(), "a=b".into())));
        assert_eq!(name_and_value("empty="), Ok(("empty".into(), String::new())));
        assert!(name_and_value("=x").is_err() && name_and_value("x").is_err());
    }
}
