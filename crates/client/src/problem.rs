//! What a node says when it refuses or fails: RFC 9457 problem documents, with the facts that annulus adds.

use std::{collections::BTreeMap, fmt};

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// What became of a write that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// No replica was written, and none will be.
    None,
    /// Some replicas may have it; it may appear later, and a later read may return it.
    Unknown,
}

/// A decoded `application/problem+json` answer (RFC 9457).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable slug that programs may compare.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The kind of problem in a few words.
    #[serde(default)]
    pub title: String,
    /// The HTTP status, repeated.
    #[serde(default)]
    pub status: u16,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of a failed write: whether anything was written, where the node says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Everything else that the node told: `required`, `answered`, `key`…
    #[serde(flatten)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// Of an answer that is no problem document (a proxy's page, say) this much is shown.
const SHOWN_CHARACTERS: usize = 200;

impl Problem {
    /// Reads a problem document; what is none is wrapped into one, so that callers have one kind of failure to show.
    pub(crate) fn decode(status: StatusCode, body: &[u8]) -> Self {
        let mut problem = serde_json::from_slice::<Self>(body).unwrap_or_else(|_| {
            let text: String = String::from_utf8_lossy(body)
                .trim()
                .chars()
                .take(SHOWN_CHARACTERS)
                .collect();
            Self {
                kind: String::new(),
                title: String::new(),
                status: status.as_u16(),
                detail: (!text.is_empty()).then_some(text),
                outcome: None,
                facts: BTreeMap::new(),
            }
        });
        problem.status = status.as_u16();
        if problem.title.is_empty() {
            problem.title = status.canonical_reason().unwrap_or("unnamed status").to_owned();
        }
        problem
    }

    /// What a write that got this answer left behind. Only what the contract makes certain counts as nothing written.
    #[must_use]
    pub fn write_outcome(&self) -> Outcome {
        match (self.outcome, self.status) {
            (Some(outcome), _) => outcome,
            // Refused before anything was done; 408 is the one of them that a proxy may send half-way through.
            (None, 400..=499) if self.status != 408 => Outcome::None,
            (None, 501) => Outcome::None,
            (None, _) => Outcome::Unknown,
        }
    }

    /// A whole number among the facts, such as `required` or `limit`.
    #[must_use]
    pub fn number(&self, fact: &str) -> Option<u64> {
        self.facts.get(fact).and_then(serde_json::Value::as_u64)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.title)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_keeps_its_outcome_and_its_facts() {
        let body = br#"{"type":"quorum-unreachable","title":"Quorum unreachable","status":503,
            "detail":"1 of 2 answered","outcome":"none","required":2,"answered":1}"#;
        let problem = Problem::decode(StatusCode::SERVICE_UNAVAILABLE, body);
        assert_eq!(problem.kind, "quorum-unreachable");
        assert_eq!(problem.write_outcome(), Outcome::None);
        assert_eq!(problem.number("required"), Some(2));
        assert_eq!(problem.to_string(), "503 Quorum unreachable: 1 of 2 answered");
    }

    #[test]
    fn what_is_no_problem_document_is_shown_as_it_came() {
        let problem = Problem::decode(StatusCode::BAD_GATEWAY, b"<h1>upstream</h1>\n");
        assert_eq!(problem.to_string(), "502 Bad Gateway: <h1>upstream</h1>");
    }

    #[test]
    fn only_what_is_certain_counts_as_nothing_written() {
        let outcome =
            |status: u16| Problem::decode(StatusCode::from_u16(status).expect("a valid status"), b"").write_outcome();
        for refused in [400, 409, 412, 413, 415, 429, 431, 501] {
            assert_eq!(outcome(refused), Outcome::None, "{refused}");
        }
        for uncertain in [408, 500, 502, 503, 504] {
            assert_eq!(outcome(uncertain), Outcome::Unknown, "{uncertain}");
        }
    }
}
