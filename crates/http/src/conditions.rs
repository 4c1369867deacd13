//! Conditional requests (RFC 9110 §13): a malformed condition is refused, never ignored.

use annulus_coordinator::Condition;
use http::{HeaderMap, HeaderName, header};

use crate::problem::{INVALID_HEADER, Problem};

/// The entity tags of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// `*`
    Any,
    /// Those of them that can be one of ours.
    List(Vec<Tag>),
}

/// An entity tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    weak: bool,
    value: u128,
}

impl Tags {
    /// What a header says, over all its lines; `None` where it is absent.
    fn of(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, Problem> {
        let mut tags: Option<Tags> = None;
        for line in headers.get_all(&name) {
            let line = line.to_str().map_err(|_| malformed(&name))?;
            let parsed = Tags::parse(line).ok_or_else(|| malformed(&name))?;
            tags = Some(match (tags, parsed) {
                (None, parsed) => parsed,
                (Some(Tags::List(mut tags)), Tags::List(more)) => {
                    tags.extend(more);
                    Tags::List(tags)
                }
                _ => return Err(malformed(&name)),
            });
        }
        Ok(tags)
    }

    /// `*`, or entity tags with commas between; `None` where it is neither.
    pub(crate) fn parse(text: &str) -> Option<Tags> {
        let mut rest = text.trim_matches([' ', '\t']);
        if rest == "*" {
            return Some(Tags::Any);
        }
        let mut tags = Vec::new();
        let mut count = 0;
        loop {
            // RFC 9110 §5.6.1: a recipient takes empty elements.
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return (count > 0).then_some(Tags::List(tags));
            }
            let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
            let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
            rest = after.trim_start_matches([' ', '\t']);
            if opaque.bytes().any(|byte| byte <= b' ' || byte == 0x7f) || !(rest.is_empty() || rest.starts_with(',')) {
                return None;
            }
            tags.extend(ours(opaque).map(|value| Tag { weak, value }));
            count += 1;
        }
    }

    /// `If-None-Match` compares weakly (RFC 9110 §8.8.3.2).
    fn matches_weakly(&self, etag: u128) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(|tag| tag.value == etag),
        }
    }

    /// `If-Match` compares strongly: a weak tag matches nothing.
    fn strong(&self) -> Condition {
        match self {
            Tags::Any => Condition::Exists,
            Tags::List(tags) => Condition::Match(tags.iter().filter(|tag| !tag.weak).map(|tag| tag.value).collect()),
        }
    }
}

/// Another's tag is well-formed and matches nothing.
fn ours(opaque: &str) -> Option<u128> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (opaque.len() == 32 && opaque.bytes().all(digits))
        .then(|| u128::from_str_radix(opaque, 16).ok())
        .flatten()
}

/// The condition of a PUT or DELETE.
pub(crate) fn of_write(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    let if_match = Tags::of(headers, header::IF_MATCH)?;
    let if_none_match = Tags::of(headers, header::IF_NONE_MATCH)?;
    combine(if_match, if_none_match)
}

/// The condition that both headers of a write make together.
pub(crate) fn combine(if_match: Option<Tags>, if_none_match: Option<Tags>) -> Result<Option<Condition>, Problem> {
    match (if_match, if_none_match) {
        (None, None) => Ok(None),
        (Some(tags), None) => Ok(Some(tags.strong())),
        (None, Some(Tags::Any)) => Ok(Some(Condition::Absent)),
        (None, Some(Tags::List(_))) => Err(of_header(&header::IF_NONE_MATCH, "on a write it takes `*` only")),
        (Some(_), Some(_)) => Err(of_header(
            &header::IF_MATCH,
            "If-Match and If-None-Match exclude each other",
        )),
    }
}

/// The conditions of a GET or HEAD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadConditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// What the conditions make of a read that found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Send,
    NotModified,
    Failed,
}

impl ReadConditions {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: Tags::of(headers, header::IF_MATCH)?,
            if_none_match: Tags::of(headers, header::IF_NONE_MATCH)?,
        })
    }

    /// For a key that holds a value with this entity tag (RFC 9110 §13.2.2).
    pub(crate) fn judge(&self, etag: u128) -> Verdict {
        let holds = |tags: &Tags| match tags.strong() {
            Condition::Match(etags) => etags.contains(&etag),
            _ => true,
        };
        if !self.if_match.as_ref().is_none_or(holds) {
            return Verdict::Failed;
        }
        match &self.if_none_match {
            Some(tags) if tags.matches_weakly(etag) => Verdict::NotModified,
            _ => Verdict::Send,
        }
    }

    /// Whether the key must hold a value.
    pub(crate) fn wants_a_value(&self) -> bool {
        self.if_match.is_some()
    }
}

fn malformed(name: &HeaderName) -> Problem {
    of_header(
        name,
        "it must be `*` or entity tags such as \"0123…\" with commas between",
    )
}

fn of_header(name: &HeaderName, detail: &str) -> Problem {
    INVALID_HEADER
        .because(format!("{name}: {detail}"))
        .fact("header", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "\"00000000000000000000000000000001\"";
    const TWO: &str = "W/\"00000000000000000000000000000002\"";

    #[test]
    fn a_list_of_tags_is_taken_as_the_rfc_writes_it() {
        let tags = [Tag { weak: false, value: 1 }, Tag { weak: true, value: 2 }];
        assert_eq!(Tags::parse(" * "), Some(Tags::Any));
        assert_eq!(
            Tags::parse(&format!("{ONE}, ,{TWO} ,")),
            Some(Tags::List(tags.to_vec()))
        );
        assert_eq!(Tags::parse("\"another's, with a comma\""), None);
        assert_eq!(Tags::parse("\"another's\",\"\""), Some(Tags::List(vec![])));
    }

    #[test]
    fn a_malformed_tag_is_refused() {
        for text in [
            "",
            ",",
            "abc",
            "\"abc",
            "abc\"",
            "W/abc",
            "w/\"abc\"",
            "\"a\" \"b\"",
            "*,\"a\"",
            "\"a\"x",
            "\"a b\"",
        ] {
            assert_eq!(Tags::parse(text), None, "{text}");
        }
    }

    #[test]
    fn reads_compare_weakly_and_writes_strongly() {
        let weak = ReadConditions {
            if_none_match: Tags::parse(TWO),
            if_match: None,
        };
        assert_eq!((weak.judge(2), weak.judge(1)), (Verdict::NotModified, Verdict::Send));
        let guard = ReadConditions {
            if_match: Tags::parse(TWO),
            if_none_match: None,
        };
        assert_eq!(guard.judge(2), Verdict::Failed);
        assert_eq!(combine(Tags::parse(TWO), None), Ok(Some(Condition::Match(vec![]))));
        assert_eq!(combine(Tags::parse(ONE), None), Ok(Some(Condition::Match(vec![1]))));
        assert_eq!(combine(None, Some(Tags::Any)), Ok(Some(Condition::Absent)));
        assert!(combine(None, Tags::parse(ONE)).is_err());
        assert!(combine(Some(Tags::Any), Some(Tags::Any)).is_err());
    }
}
