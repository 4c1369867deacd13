//! What all client commands share: which nodes to ask, and how.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, time::Duration};

use annulus_client::{Builder, Client, Durability, Error, Options, Quorum};
use clap::Args;

/// Attempts of a command that a person waits for: where nobody listens, all of them are over within half a second.
const INTERACTIVE_ATTEMPTS: u32 = 4;

#[derive(Args)]
pub(crate) struct Target {
    /// A node of the cluster; several, with commas or by repeating the option, take turns and stand in for each other
    #[arg(
        long,
        env = "ANNULUS_URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8101"
    )]
    pub(crate) url: Vec<String>,
    /// Print one JSON document, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

impl Target {
    pub(crate) fn client(&self) -> Result<Client, Error> {
        // Two rounds over all nodes at least.
        let attempts = INTERACTIVE_ATTEMPTS.max(2 * self.url.len() as u32);
        self.client_with(Client::builder().attempts(attempts))
    }

    pub(crate) fn client_with(&self, builder: Builder) -> Result<Client, Error> {
        builder.build(&self.url)
    }
}

/// Options of a request that are left to the bucket, then to the cluster, where they are not given.
#[derive(Args)]
pub(crate) struct ReadOptions {
    /// Replicas that must answer: one, quorum, all, or a number
    #[arg(long)]
    r: Option<Quorum>,
    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
pub(crate) struct WriteOptions {
    /// Replicas that must acknowledge: one, quorum, all, or a number
    #[arg(long)]
    w: Option<Quorum>,
    /// What a replica must have done before its answer counts: disk or memory
    #[arg(long)]
    durability: Option<Durability>,
    #[command(flatten)]
    common: CommonOptions,
}

#[derive(Args)]
pub(crate) struct AllOptions {
    /// Replicas that must answer a read: one, quorum, all, or a number
    #[arg(long)]
    r: Option<Quorum>,
    #[command(flatten)]
    write: WriteOptions,
}

#[derive(Args)]
struct CommonOptions {
    /// Whether fallbacks may stand in for owners that are down
    #[arg(long, value_name = "true|false")]
    sloppy: Option<bool>,
    /// The time that a node may take for one attempt, such as 750ms
    #[arg(long, value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

impl ReadOptions {
    pub(crate) fn options(&self) -> Options {
        Options {
            r: self.r,
            ..self.common.options()
        }
    }
}

impl WriteOptions {
    pub(crate) fn options(&self) -> Options {
        Options {
            w: self.w,
            durability: self.durability,
            ..self.common.options()
        }
    }
}

impl AllOptions {
    pub(crate) fn options(&self) -> Options {
        Options {
            r: self.r,
            ..self.write.options()
        }
    }
}

impl CommonOptions {
    fn options(&self) -> Options {
        Options {
            sloppy: self.sloppy,
            timeout: self.timeout,
            ..Options::default()
        }
    }
}

/// A bucket and a key, the key as the bytes that the shell gave us.
#[derive(Args)]
pub(crate) struct Place {
    /// The bucket: 1 to 64 of a-z A-Z 0-9 . _ -
    pub(crate) bucket: String,
    /// The key: 1 to 1024 bytes; in bash, $'…\xff…' writes any byte but NUL
    key: OsString,
}

impl Place {
    pub(crate) fn key(&self) -> Vec<u8> {
        self.key.clone().into_vec()
    }

    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.bucket, super::output::key(&self.key()))
    }
}
