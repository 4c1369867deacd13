//! A batch is lines: each operation stands alone, and so does each answer.

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::{
    answer::Sibling,
    encoding,
    problem::Problem,
    value::{Context, Read},
};

/// One line of a batch.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Write a value.
    Put {
        /// The bucket.
        bucket: String,
        /// The key, any bytes.
        #[serde(rename = "key_base64", with = "encoding")]
        key: Vec<u8>,
        /// The value.
        #[serde(with = "encoding")]
        value: Bytes,
        /// Its content type.
        #[serde(skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// What the writer has seen.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<Context>,
    },
    /// Read a key.
    Get {
        /// The bucket.
        bucket: String,
        /// The key, any bytes.
        #[serde(rename = "key_base64", with = "encoding")]
        key: Vec<u8>,
    },
    /// Delete a key.
    Delete {
        /// The bucket.
        bucket: String,
        /// The key, any bytes.
        #[serde(rename = "key_base64", with = "encoding")]
        key: Vec<u8>,
        /// What the writer has seen.
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<Context>,
    },
}

impl Operation {
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self, Self::Get { .. })
    }
}

/// What came of one line of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A PUT or DELETE was acknowledged.
    Written {
        /// What the writer now has seen.
        context: Context,
    },
    /// A GET found this.
    Read(Read),
    /// The line was refused, or failed.
    Failed(Problem),
}

#[derive(Deserialize)]
pub(crate) struct Line {
    status: u16,
    context: Option<Context>,
    siblings: Option<Vec<Sibling>>,
    problem: Option<Problem>,
}

impl Answer {
    /// Reads one line of an answer.
    pub(crate) fn decode(line: &[u8]) -> Result<Self, String> {
        let head: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let context = || {
            head.context
                .clone()
                .ok_or_else(|| format!("status {} without a context", head.status))
        };
        match head.status {
            204 => Ok(Self::Written { context: context()? }),
            200 => {
                let value: Sibling = serde_json::from_slice(line).map_err(|error| error.to_string())?;
                Ok(Self::Read(Read::One(value.into_value(&context()?, &HeaderMap::new()))))
            }
            300 => {
                let context = context()?;
                let siblings = head
                    .siblings
                    .filter(|siblings| !siblings.is_empty())
                    .ok_or("300 without siblings")?;
                let values = siblings
                    .into_iter()
                    .map(|sibling| sibling.into_value(&context, &HeaderMap::new()));
                Ok(Self::Read(Read::Siblings(values.collect())))
            }
            404 if head.context.is_some() => Ok(Self::Read(Read::None { context: context()? })),
            status => head
                .problem
                .map(Self::Failed)
                .ok_or_else(|| format!("status {status} without a problem")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_a_line_that_the_contract_knows() {
        let put = Operation::Put {
            bucket: "b".into(),
            key: vec![0xff],
            value: Bytes::from_static(b"hi"),
            content_type: None,
            context: Some(Context::new("t")),
        };
        let line = serde_json::to_string(&put).expect("serializable");
        assert_eq!(
            line,
            r#"{"op":"put","bucket":"b","key_base64":"/w==","value":"aGk=","context":"t"}"#
        );
    }

    #[test]
    fn each_answer_is_told_by_its_status() {
        let decode = |line: &str| Answer::decode(line.as_bytes());
        assert_eq!(
            decode(r#"{"status":204,"context":"c"}"#),
            Ok(Answer::Written {
                context: Context::new("c")
            })
        );
        let Ok(Answer::Read(Read::One(value))) =
            decode(r#"{"status":200,"value":"aGk=","content_type":"text/plain","context":"c"}"#)
        else {
            panic!("a value was expected");
        };
        assert_eq!(value.bytes, "hi");
        let siblings = r#"{"status":300,"siblings":[{"value":"YQ=="},{"value":"Yg=="}],"context":"c"}"#;
        assert!(matches!(decode(siblings), Ok(Answer::Read(Read::Siblings(values))) if values.len() == 2));
        let refused = r#"{"status":400,"problem":{"type":"malformed","title":"Malformed","status":400}}"#;
        assert!(matches!(decode(refused), Ok(Answer::Failed(problem)) if problem.status == 400));
        for bad in [
            "",
            "{}",
            r#"{"status":200,"context":"c"}"#,
            r#"{"status":300,"siblings":[],"context":"c"}"#,
        ] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
