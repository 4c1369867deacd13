//! What is written and read under a key, and the causal context that ties the two together.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An opaque, URL-safe token: what its holder has seen of one key. A write that carries it replaces exactly that.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context(String);

impl Context {
    /// Wraps a token that came from a node earlier, through a file or a form, say.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token, to be kept and sent back.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many of a key's replicas a request saw. Written `2/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// How many answered.
    pub answered: u32,
    /// How many there are: the bucket's `n`.
    pub of: u32,
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.answered, self.of)
    }
}

impl FromStr for Replicas {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |(answered, of): (&str, &str)| {
            Some(Self {
                answered: answered.parse().ok()?,
                of: of.parse().ok()?,
            })
        };
        text.split_once('/')
            .and_then(parse)
            .ok_or_else(|| format!("{text:?} is not <answered>/<n>"))
    }
}

/// One value of a key, with what came along.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The value itself.
    pub bytes: Bytes,
    /// The content type that it was written with.
    pub content_type: Option<String>,
    /// The `Annulus-Meta-*` headers that it was written with; names in lower case, without the prefix.
    pub meta: BTreeMap<String, String>,
    /// When it was written, as the node tells it.
    pub modified: Option<String>,
    /// What this read has seen: all values of the key, not this one alone.
    pub context: Context,
    /// The strong entity tag of the set of values.
    pub etag: Option<String>,
    /// How many replicas the read saw.
    pub replicas: Option<Replicas>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// One value.
    One(Value),
    /// Two or more values that were written concurrently, in a stable order; all carry the same context.
    Siblings(Vec<Value>),
    /// Nothing: never written, or deleted.
    None {
        /// What the read has seen: deletes included.
        context: Context,
    },
}

impl Read {
    /// What the read has seen, whatever it returned.
    ///
    /// # Panics
    /// Only for a `Siblings` that a caller built empty.
    #[must_use]
    pub fn context(&self) -> &Context {
        match self {
            Self::One(value) => &value.context,
            Self::Siblings(values) => &values[0].context,
            Self::None { context } => context,
        }
    }

    /// The values: none, one, or several.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Siblings(values) => values,
            Self::None { .. } => &[],
        }
    }
}

/// What a key holds, without the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// How many concurrent values: 0 for nothing, 1 for one.
    pub siblings: usize,
    /// The size in bytes, where there is one value.
    pub length: Option<u64>,
    /// The content type, where there is one value.
    pub content_type: Option<String>,
    /// The metadata, where there is one value.
    pub meta: BTreeMap<String, String>,
    /// The strong entity tag of the set of values.
    pub etag: Option<String>,
    /// What the read has seen.
    pub context: Context,
}

/// When a write is to happen at all. A guard, not a lock: a race that it does not see leaves siblings, and no update
/// is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// Only if the key's values have this entity tag.
    Matches(String),
    /// Only if the key holds nothing.
    Absent,
}

/// A write: the value and what goes with it.
///
/// ```
/// use annulus_client::{Context, Put};
/// let put = Put::new("{}").content_type("application/json").meta("owner", "mia").context(&Context::new("token"));
/// assert_eq!(put.bytes, "{}");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Put {
    /// The value.
    pub bytes: Bytes,
    /// Its content type; the node's default if left out.
    pub content_type: Option<String>,
    /// Metadata, stored as `Annulus-Meta-*`.
    pub meta: BTreeMap<String, String>,
    /// What the writer has seen, and so replaces. Without it the write replaces what its coordinator knows.
    pub context: Option<Context>,
    /// When to write at all.
    pub condition: Condition,
}

impl Put {
    /// A write of these bytes, unconditional, without context.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            ..Self::default()
        }
    }

    /// With this content type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// With one more piece of metadata.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }

    /// Replacing exactly what this context has seen.
    #[must_use]
    pub fn context(mut self, context: &Context) -> Self {
        self.context = Some(context.clone());
        self
    }

    /// Only under this condition.
    #[must_use]
    pub fn only_if(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What the writer now has seen: the context it sent and its own write.
    pub context: Context,
    /// How many replicas had acknowledged when the answer was sent.
    pub replicas: Option<Replicas>,
    /// How many of those that counted were fallbacks.
    pub fallbacks: u32,
}

/// One page of a bucket's keys, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The keys.
    pub keys: Vec<Vec<u8>>,
    /// Where the next page starts; none after the last.
    pub next: Option<String>,
}
