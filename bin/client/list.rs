//! `annulus list`: a page, or all pages one after the other.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use annulus_client::Page;

use super::{failure::Failure, output, target::Target};

/// Keys a page where no limit is given.
const PAGE: usize = 1000;

#[derive(clap::Args)]
pub(crate) struct List {
    /// The bucket
    bucket: String,
    /// Only keys that begin so
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Where to go on: the `next` of the page before
    #[arg(long, value_name = "TOKEN")]
    start: Option<String>,
    /// At most this many keys; with --all, the size of a page
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// All pages
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    target: Target,
}

impl List {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.target.client()?;
        let mut page = Page {
            prefix: self.prefix.into_vec(),
            start: self.start,
            limit: Some(self.limit.unwrap_or(PAGE)),
        };
        // Text for people goes out as it comes; a JSON document has to be whole.
        let mut collected = Vec::new();
        loop {
            let listing = client.list(&self.bucket, &page).await?;
            if self.target.json {
                collected.extend(listing.keys);
            } else if !listing.keys.is_empty() {
                let lines: Vec<_> = listing.keys.iter().map(|key| output::key(key)).collect();
                output::line(lines.join("\n"))?;
            }
            page.start = listing.next;
            if page.start.is_none() || !self.all {
                break;
            }
        }
        if self.target.json {
            let keys: Vec<_> = collected.into_iter().map(annulus_client::JsonKey).collect();
            return output::json(&serde_json::json!({"keys": keys, "next": page.start}));
        }
        if let Some(next) = page.start {
            eprintln!("there are more: --all, or --start {next}");
        }
        Ok(())
    }
}
