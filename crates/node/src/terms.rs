//! The terms of one request: what it says, else what its bucket declares, else the cluster's defaults; checked once, then trusted.

use std::time::Duration;

use annulus_causality::{ConflictPolicy, Instant};
use annulus_coordinator::{BucketConfig, Durability, Failure, Level, Mode, Options};

/// What a request is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) r: u8,
    pub(crate) w: u8,
    pub(crate) mode: Mode,
    pub(crate) durability: Durability,
    pub(crate) policy: ConflictPolicy,
    pub(crate) ttl: Option<Duration>,
    pub(crate) max_siblings: u16,
    pub(crate) deadline: Instant,
}

impl Terms {
    /// `owners` is how many owners a key of the bucket has in this cluster.
    pub(crate) fn new(
        config: &BucketConfig,
        options: &Options,
        owners: u8,
        deadline: Instant,
    ) -> Result<Terms, Failure> {
        Ok(Terms {
            r: required("r", options.r, config.r, owners)?,
            w: required("w", options.w, config.w, owners)?,
            mode: options.mode.unwrap_or(config.mode),
            durability: options.durability.unwrap_or(config.durability),
            policy: config.conflicts,
            ttl: config.ttl,
            max_siblings: config.max_siblings,
            deadline,
        })
    }
}

/// A level that the request names must be one that can be met; a bucket's default is met as far as the cluster can.
fn required(parameter: &'static str, asked: Option<Level>, default: Level, owners: u8) -> Result<u8, Failure> {
    match asked {
        Some(level) => level.required(owners).ok_or_else(|| Failure::Invalid {
            parameter,
            detail: format!(
                "{} cannot be met: a key of this bucket has {owners} owners, so 1 to {owners} can be asked for",
                show(level)
            ),
        }),
        None => Ok(default.required(owners).unwrap_or(owners)),
    }
}

fn show(level: Level) -> String {
    match level {
        Level::Count(count) => count.to_string(),
        Level::One => "one".into(),
        Level::Quorum => "quorum".into(),
        Level::All => "all".into(),
    }
}
