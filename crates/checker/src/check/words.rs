//! Operations in words, for whoever has to follow a violation at three in the morning.

use crate::history::Outcome;

use super::key::{Sight, Source, Write};

/// `1.203045 s`.
pub(super) fn at(us: u64) -> String {
    format!("{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

/// `4, 5`.
pub(super) fn shown(values: &[u64]) -> String {
    match values {
        [] => "nothing".to_owned(),
        _ => {
            let values: Vec<String> = values.iter().map(u64::to_string).collect();
            values.join(", ")
        }
    }
}

/// `value 17 (sent by client 3 to n2 at 1.200000 s, acknowledged at 1.203045 s by 2 of 3)`.
pub(super) fn write_of(write: &Write<'_>) -> String {
    let operation = write.operation;
    let what = if write.is_put { "value" } else { "delete" };
    let answer = match (&operation.outcome, operation.end_us) {
        (Outcome::Written { answered, fallbacks, n }, Some(end)) => {
            let fallbacks = match fallbacks {
                0 => String::new(),
                count => format!(", {count} of these for an owner that was away"),
            };
            let memory = if write.durable { "" } else { " in memory" };
            format!("acknowledged at {} by {answered} of {n}{memory}{fallbacks}", at(end))
        }
        (Outcome::Nothing, Some(end)) => format!("said at {} to be never written", at(end)),
        (_, Some(end)) => format!("said at {} to be unknown", at(end)),
        (_, None) => "never answered".to_owned(),
    };
    let (number, client, node) = (operation.number, operation.client, &operation.node);
    let start = at(operation.start_us);
    format!("{what} {number} (sent by client {client} to {node} at {start}, {answer})")
}

/// `read 42 (of client 1 at n3, 1.300000 s to 1.310000 s, strict, 2 of 3 answered) shows 4, 5`.
pub(super) fn sight_of(sight: &Sight<'_>) -> String {
    let shown = shown(&sight.values);
    match sight.source {
        Source::Final(last) => format!("{}, read alone at {}, shows {shown}", last.node, at(last.at_us)),
        Source::Read {
            operation,
            strict,
            answered,
            n,
        } => format!(
            "read {} (of client {} at {}, {} to {}, {}{answered} of {n} answered) shows {shown}",
            operation.number,
            operation.client,
            operation.node,
            at(sight.start_us),
            at(sight.end_us),
            if strict { "strict, " } else { "" },
        ),
    }
}
