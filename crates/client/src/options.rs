//! What a caller may ask of one request; what is left out is the bucket's default, then the cluster's.

use std::{fmt, num::NonZeroU8, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::path;

/// How many replicas must answer. Parsed from `one`, `quorum`, `all` or a number.
///
/// ```
/// use annulus_client::Quorum;
/// assert_eq!("quorum".parse(), Ok(Quorum::Majority));
/// assert_eq!("2".parse::<Quorum>().unwrap().to_string(), "2");
/// assert!("0".parse::<Quorum>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quorum {
    /// The first that answers.
    One,
    /// More than half of the bucket's `n`; written `quorum`.
    Majority,
    /// Every replica.
    All,
    /// This many; more than the bucket's `n` is refused by the node.
    Count(NonZeroU8),
}

/// A text that is no [`Quorum`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quorum: one, quorum, all, or a number from 1")]
pub struct InvalidQuorum(String);

impl FromStr for Quorum {
    type Err = InvalidQuorum;

    fn from_str(text: &str) -> Result<Self, InvalidQuorum> {
        match text {
            "one" => Ok(Self::One),
            "quorum" => Ok(Self::Majority),
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::Count)
                .map_err(|_| InvalidQuorum(text.to_owned())),
        }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Majority => f.write_str("quorum"),
            Self::All => f.write_str("all"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Serialize for Quorum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u8(count.get()),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for Quorum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u8),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number) => number.to_string().parse(),
            Form::Text(text) => text.parse(),
        }
        .map_err(de::Error::custom)
    }
}

/// What a replica must have done before its answer counts towards `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The write survives power loss.
    Disk,
    /// The write was received.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        })
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disk" => Ok(Self::Disk),
            "memory" => Ok(Self::Memory),
            _ => Err(format!("{text:?} is no durability: disk or memory")),
        }
    }
}

/// What to do with a write when an attempt may or may not have taken effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Send it again: PUT and DELETE are idempotent (RFC 9110 §9.2.2), and equal versions show as one. A write with a
    /// [`Condition`](crate::Condition) is never sent again: its own first attempt would make the condition fail.
    #[default]
    Retry,
    /// Report it at once. For callers that record histories, or whose writes carry no context and must not replace what
    /// another writer put there between the two attempts.
    Report,
}

/// Per-request options. A request sends those that concern it: `r` goes with reads, `w` and `durability` with writes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Replicas that must answer a read.
    pub r: Option<Quorum>,
    /// Replicas that must acknowledge a write.
    pub w: Option<Quorum>,
    /// Whether fallbacks may stand in for owners that are down.
    pub sloppy: Option<bool>,
    /// The node's own time limit for one attempt.
    pub timeout: Option<Duration>,
    /// What a replica must have done before its answer counts.
    pub durability: Option<Durability>,
    /// The time limit for all attempts together; the client's own if left out.
    pub deadline: Option<Duration>,
    /// How often it is sent at most; the client's own limit if left out.
    pub attempts: Option<u32>,
    /// Whether a write whose outcome is unknown is sent again.
    pub on_unknown: OnUnknown,
}

impl Options {
    pub(crate) fn read_parameters(&self, path: &mut String) {
        if let Some(r) = self.r {
            path::parameter(path, "r", r.to_string());
        }
        self.common_parameters(path);
    }

    pub(crate) fn write_parameters(&self, path: &mut String) {
        if let Some(w) = self.w {
            path::parameter(path, "w", w.to_string());
        }
        if let Some(durability) = self.durability {
            path::parameter(path, "durability", durability.to_string());
        }
        self.common_parameters(path);
    }

    fn common_parameters(&self, path: &mut String) {
        if let Some(sloppy) = self.sloppy {
            path::parameter(path, "sloppy", sloppy.to_string());
        }
        if let Some(timeout) = self.timeout {
            path::parameter(path, "timeout", format!("{}ms", timeout.as_millis().max(1)));
        }
    }
}

/// Which page of a bucket's keys to list; the first one, unfiltered, by default.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Only keys that begin with these bytes.
    pub prefix: Vec<u8>,
    /// Where to go on: the `next` of the page before.
    pub start: Option<String>,
    /// At most this many keys; the node has a limit of its own.
    pub limit: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_send_only_what_concerns_them() {
        let options = Options {
            r: Some(Quorum::One),
            w: Some(Quorum::All),
            sloppy: Some(false),
            timeout: Some(Duration::from_millis(750)),
            durability: Some(Durability::Memory),
            ..Options::default()
        };
        let (mut read, mut write) = (String::new(), String::new());
        options.read_parameters(&mut read);
        options.write_parameters(&mut write);
        assert_eq!(read, "?r=one&sloppy=false&timeout=750ms");
        assert_eq!(write, "?w=all&durability=memory&sloppy=false&timeout=750ms");
    }

    #[test]
    fn a_quorum_is_a_word_or_a_number_in_json_too() {
        let parsed: Vec<Quorum> = serde_json::from_str(r#"["quorum",2,"3"]"#).expect("valid quorums");
        assert_eq!(
            serde_json::to_string(&parsed).expect("serializable"),
            r#"["quorum",2,3]"#
        );
        assert!(serde_json::from_str::<Quorum>("0").is_err());
    }
}
