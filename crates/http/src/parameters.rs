//! Query parameters: each name is known to its route and given once, and each value says what it must.

use std::{borrow::Cow, time::Duration};

use annulus_coordinator::{Durability, Level, Mode, Options};

use crate::{
    percent::{BadEscape, decode_query},
    problem::{INVALID_PARAMETER, Problem, UNKNOWN_PARAMETER},
};

/// The shortest and the longest `?timeout=`.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5 * 60);

/// The values of the parameters that a route knows, in the order in which it names them.
pub(crate) fn parse<'q, const N: usize>(
    query: Option<&'q str>,
    known: [&'static str; N],
) -> Result<[Given<'q>; N], Problem> {
    let mut values = [const { None }; N];
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode_query(name).map_err(|bad| bad_escape(bad, name))?;
        let at = known
            .iter()
            .position(|known| known.as_bytes() == &*name)
            .ok_or_else(|| unknown(&name, &known))?;
        if values[at].is_some() {
            return Err(invalid(known[at], "it is given more than once"));
        }
        values[at] = Some(decode_query(value).map_err(|bad| bad_escape(bad, known[at]))?);
    }
    Ok(values)
}

/// For a route that takes no parameters.
pub(crate) fn none(query: Option<&str>) -> Result<(), Problem> {
    parse(query, []).map(|[]| ())
}

/// The parameters of a request about a key.
pub(crate) fn options(query: Option<&str>) -> Result<Options, Problem> {
    if query.is_none() {
        return Ok(Options::default());
    }
    to_options(parse(query, OPTIONS)?)
}

/// What a parameter was given, where it was.
type Given<'q> = Option<Cow<'q, [u8]>>;

/// The same beside three others.
pub(crate) fn options_and<'q>(
    query: Option<&'q str>,
    [a, b, c]: [&'static str; 3],
) -> Result<(Options, [Given<'q>; 3]), Problem> {
    let [r, w, sloppy, durability, timeout] = OPTIONS;
    let [a, b, c, options @ ..] = parse(query, [a, b, c, r, w, sloppy, durability, timeout])?;
    Ok((to_options(options)?, [a, b, c]))
}

/// The parameters that say how a request about a key is done.
const OPTIONS: [&str; 5] = ["r", "w", "sloppy", "durability", "timeout"];

/// Their values, in that order.
fn to_options(values: [Given<'_>; 5]) -> Result<Options, Problem> {
    let [r, w, sloppy, durability, timeout] = values;
    Ok(Options {
        r: r.map(|value| level("r", &text("r", &value)?)).transpose()?,
        w: w.map(|value| level("w", &text("w", &value)?)).transpose()?,
        mode: sloppy.map(|value| sloppy_mode(&text("sloppy", &value)?)).transpose()?,
        durability: durability
            .map(|value| self::durability(&text("durability", &value)?))
            .transpose()?,
        timeout: timeout
            .map(|value| self::timeout(&text("timeout", &value)?))
            .transpose()?,
    })
}

pub(crate) fn invalid(name: &'static str, detail: &str) -> Problem {
    INVALID_PARAMETER
        .because(format!("{name}: {detail}"))
        .fact("parameter", name)
}

fn unknown(name: &[u8], known: &[&'static str]) -> Problem {
    let name = String::from_utf8_lossy(name).into_owned();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    let detail = format!("there is no parameter {name:?} here; known: {known}");
    UNKNOWN_PARAMETER.because(detail).fact("parameter", name)
}

fn bad_escape(BadEscape(at): BadEscape, name: &str) -> Problem {
    let detail = format!("{name}: the percent sign at byte {at} does not begin an escape such as %2F");
    INVALID_PARAMETER.because(detail).fact("parameter", name)
}

/// A value that must be text.
pub(crate) fn text<'v>(name: &'static str, value: &'v [u8]) -> Result<Cow<'v, str>, Problem> {
    std::str::from_utf8(value)
        .map(Cow::Borrowed)
        .map_err(|_| invalid(name, "it is not UTF-8"))
}

/// A number, `one`, `quorum` or `all`.
pub(crate) fn level(name: &'static str, text: &str) -> Result<Level, Problem> {
    match text {
        "one" => Ok(Level::One),
        "quorum" => Ok(Level::Quorum),
        "all" => Ok(Level::All),
        number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => match number.parse() {
            Ok(count @ 1..) => Ok(Level::Count(count)),
            _ => Err(out_of_reach(name, number)),
        },
        _ => Err(invalid(name, "it must be a number, `one`, `quorum` or `all`")),
    }
}

fn out_of_reach(name: &'static str, number: &str) -> Problem {
    invalid(
        name,
        &format!("{number} replicas cannot be met: it must be 1 to the bucket's n"),
    )
}

fn sloppy_mode(text: &str) -> Result<Mode, Problem> {
    match text {
        "true" => Ok(Mode::Sloppy),
        "false" => Ok(Mode::Strict),
        _ => Err(invalid("sloppy", "it must be `true` or `false`")),
    }
}

pub(crate) fn durability(text: &str) -> Result<Durability, Problem> {
    match text {
        "disk" => Ok(Durability::Disk),
        "memory" => Ok(Durability::Memory),
        _ => Err(invalid("durability", "it must be `disk` or `memory`")),
    }
}

/// A duration such as `750ms` or `2s`.
pub(crate) fn timeout(text: &str) -> Result<Duration, Problem> {
    match humantime::parse_duration(text) {
        Ok(timeout) if TIMEOUTS.contains(&timeout) => Ok(timeout),
        Ok(_) => Err(invalid("timeout", "it must be from 1ms to 5m")),
        Err(_) => Err(invalid("timeout", "it must be a duration such as `750ms` or `2s`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_parsed_in_the_order_of_the_names() {
        let [a, b] = parse(Some("b=%2f+x&&a"), ["a", "b"]).expect("known names");
        assert_eq!((a.as_deref(), b.as_deref()), (Some(&b""[..]), Some(&b"/ x"[..])));
    }

    #[test]
    fn every_option_is_understood() {
        let options = options(Some("r=one&w=3&sloppy=false&durability=memory&timeout=750ms")).expect("valid");
        let expected = Options {
            r: Some(Level::One),
            w: Some(Level::Count(3)),
            mode: Some(Mode::Strict),
            durability: Some(Durability::Memory),
            timeout: Some(Duration::from_millis(750)),
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn a_bad_option_is_refused_by_name() {
        for query in [
            "r=0",
            "r=256",
            "r=",
            "r=-1",
            "r=+1",
            "r=1.5",
            "r=QUORUM",
            "r=1&r=1",
            "w=two",
            "w=%ff",
            "w=%",
            "sloppy=1",
            "durability=ssd",
            "timeout=1",
            "timeout=0s",
            "timeout=6m",
            "timeout=ms",
            "timeout=-1s",
            "R=1",
            "x",
        ] {
            let problem = options(Some(query)).expect_err(query);
            let json = serde_json::to_value(&problem).expect("a problem is JSON");
            let name = query.split('=').next().expect("split gives one part at least");
            assert_eq!(json["parameter"], name, "{query}");
            assert_eq!(json["status"], 400, "{query}");
        }
    }
}
