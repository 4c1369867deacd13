//! One line of a batch as a request: every member is known, and checked as its header or parameter would be.

use std::collections::BTreeMap;

use annulus_coordinator::{Condition, KeyRequest, Mode, NewValue, Operation, Options};
use annulus_ring::{Bucket, Key, MAX_KEY_BYTES};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use crate::{
    conditions::{self, Tags},
    parameters::{self, invalid},
    problem::{
        INVALID_BUCKET, INVALID_JSON, INVALID_KEY, INVALID_PARAMETER, Problem, UNSUPPORTED_CONTENT_TYPE,
        VALUE_TOO_LARGE,
    },
    routes::{buckets, change, kv},
};

/// Base64 with padding or without: encoders differ, and neither is ambiguous.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One operation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    op: Op,
    bucket: String,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    text: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    json: Option<&'l RawValue>,
    by: Option<i64>,
    field: Option<String>,
    content_type: Option<String>,
    meta: Option<BTreeMap<String, String>>,
    context: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    r: Option<Value>,
    w: Option<Value>,
    sloppy: Option<bool>,
    durability: Option<String>,
    timeout: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Get,
    Delete,
    Increment,
    Add,
    Remove,
    Set,
    Unset,
}

/// `null` is a value here, not an absent member.
fn present<'de: 'l, 'l, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'l RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The request that a line asks for.
pub(super) fn parse(line: &[u8], max_value_bytes: usize) -> Result<KeyRequest, Problem> {
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|error| INVALID_JSON.because(format!("the line is no operation: {error}")))?;
    let bucket = Bucket::parse(&line.bucket).map_err(|error| {
        INVALID_BUCKET
            .because(error.to_string())
            .fact("bucket", line.bucket.as_str())
    })?;
    let key = line.key()?;
    let options = line.options()?;
    let operation = match line.op {
        Op::Increment => line.into_change(change::Op::Increment, max_value_bytes)?,
        Op::Add => line.into_change(change::Op::Add, max_value_bytes)?,
        Op::Remove => line.into_change(change::Op::Remove, max_value_bytes)?,
        Op::Set => line.into_change(change::Op::Set, max_value_bytes)?,
        Op::Unset => line.into_change(change::Op::Unset, max_value_bytes)?,
        Op::Get => {
            line.refuse_change("get")?;
            line.refuse_value("get")?;
            line.refuse_condition("get")?;
            Operation::Get
        }
        Op::Delete => {
            line.refuse_change("delete")?;
            line.refuse_value("delete")?;
            let condition = line.condition()?;
            Operation::Write {
                value: None,
                token: line.context,
                condition,
            }
        }
        Op::Put => {
            line.refuse_change("put")?;
            let condition = line.condition()?;
            let token = line.context.clone();
            Operation::Write {
                value: Some(line.into_value(max_value_bytes)?),
                token,
                condition,
            }
        }
    };
    Ok(KeyRequest {
        bucket,
        key,
        operation,
        options,
        seen: None,
    })
}

impl Line<'_> {
    fn key(&self) -> Result<Key, Problem> {
        let bytes = match (&self.key, &self.key_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(base64)) => decode("key_base64", base64)?,
            _ => return Err(INVALID_KEY.because("give either `key` or `key_base64`")),
        };
        Key::parse(bytes).map_err(|error| INVALID_KEY.because(error.to_string()).fact("limit", MAX_KEY_BYTES))
    }

    fn options(&self) -> Result<Options, Problem> {
        Ok(Options {
            r: self.r.as_ref().map(|value| buckets::level("r", value)).transpose()?,
            w: self.w.as_ref().map(|value| buckets::level("w", value)).transpose()?,
            mode: self
                .sloppy
                .map(|sloppy| if sloppy { Mode::Sloppy } else { Mode::Strict }),
            durability: self.durability.as_deref().map(parameters::durability).transpose()?,
            timeout: self.timeout.as_deref().map(parameters::timeout).transpose()?,
        })
    }

    fn condition(&self) -> Result<Option<Condition>, Problem> {
        let tags = |name, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => Tags::parse(text)
                .map(Some)
                .ok_or_else(|| invalid(name, "it must be `*` or entity tags")),
        };
        conditions::combine(
            tags("if_match", &self.if_match)?,
            tags("if_none_match", &self.if_none_match)?,
        )
    }

    fn refuse_condition(&self, op: &str) -> Result<(), Problem> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Ok(()),
            _ => Err(INVALID_PARAMETER.because(format!("in a batch, {op} takes no condition"))),
        }
    }

    fn refuse_change(&self, op: &str) -> Result<(), Problem> {
        let present = [("by", self.by.is_some()), ("field", self.field.is_some())];
        match present.into_iter().find(|(_, present)| *present) {
            Some((name, _)) => Err(invalid(name, &format!("{op} does not take it"))),
            None => Ok(()),
        }
    }

    fn into_change(self, op: change::Op, max_value_bytes: usize) -> Result<Operation, Problem> {
        self.refuse_condition("an operation")?;
        if self.meta.is_some() {
            return Err(invalid("meta", "only a value that is put has metadata"));
        }
        let (by, field, token) = (self.by, self.field.clone(), self.context.clone());
        let has_value = self.value.is_some() || self.text.is_some() || self.json.is_some();
        let value = has_value.then(|| self.into_value(max_value_bytes)).transpose()?;
        let (value, content_type) = value.map(|new| (new.value, new.content_type)).unzip();
        let asked = change::Asked {
            op,
            by: by.map(|by| by.to_string().into()),
            field,
            value,
            content_type: content_type.flatten(),
        };
        let change = asked.into_change()?;
        Ok(Operation::Change { change, token })
    }

    fn refuse_value(&self, op: &str) -> Result<(), Problem> {
        let present = [
            ("value", self.value.is_some()),
            ("text", self.text.is_some()),
            ("json", self.json.is_some()),
            ("content_type", self.content_type.is_some()),
            ("meta", self.meta.is_some()),
        ];
        match present.into_iter().find(|(_, present)| *present) {
            Some((name, _)) => Err(INVALID_PARAMETER
                .because(format!("{name}: a {op} takes no value"))
                .fact("parameter", name)),
            None => Ok(()),
        }
    }

    fn into_value(self, max_value_bytes: usize) -> Result<NewValue, Problem> {
        let meta = meta(self.meta.unwrap_or_default())?;
        let (value, default_type) = match (self.value, self.text, self.json) {
            (Some(base64), None, None) => (decode("value", &base64)?, None),
            (None, Some(text), None) => (text.into_bytes(), Some("text/plain; charset=utf-8")),
            (None, None, Some(json)) => (json.get().as_bytes().to_vec(), Some("application/json")),
            _ => return Err(INVALID_PARAMETER.because("give one of `value`, `text` and `json`")),
        };
        if value.len() > max_value_bytes {
            let detail = format!("the value is longer than {max_value_bytes} bytes");
            return Err(VALUE_TOO_LARGE.because(detail).fact("limit", max_value_bytes));
        }
        if self
            .content_type
            .as_deref()
            .is_some_and(|text| !kv::is_content_type(text))
        {
            return Err(UNSUPPORTED_CONTENT_TYPE.because("content_type: it must be `type/subtype`"));
        }
        let content_type = self.content_type.or(default_type.map(str::to_owned));
        Ok(NewValue {
            value: value.into(),
            content_type,
            meta,
        })
    }
}

/// As the headers would have it: names that can be header names, values without control characters.
fn meta(meta: BTreeMap<String, String>) -> Result<Vec<(String, String)>, Problem> {
    let mut lowered = BTreeMap::new();
    for (name, value) in meta {
        let name = name.to_ascii_lowercase();
        let value = value.trim_matches([' ', '\t']).to_owned();
        if !kv::is_token(&name) || value.chars().any(|char| char.is_ascii_control() && char != '\t') {
            return Err(kv::bad_meta(&name, "it cannot be a header"));
        }
        if lowered.insert(name.clone(), value).is_some() {
            return Err(kv::bad_meta(&name, "it is given more than once"));
        }
    }
    let meta = Vec::from_iter(lowered);
    kv::check_meta_size(&meta)?;
    Ok(meta)
}

fn decode(name: &'static str, text: &str) -> Result<Vec<u8>, Problem> {
    BASE64
        .decode(text)
        .map_err(|error| invalid(name, &format!("it is not base64: {error}")))
}
