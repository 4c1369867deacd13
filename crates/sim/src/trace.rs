//! What happened, as a number that is equal where the runs were equal, and on demand as lines for people.

use annulus_coordinator::Reply;
use annulus_protocol::Message;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::queue::{Nanos, SECOND};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that only hashes.
    pub(crate) fn silent() -> Trace {
        Trace::default()
    }

    /// A trace that keeps lines, too.
    pub(crate) fn readable() -> Trace {
        Trace {
            hash: 0,
            lines: Some(Vec::new()),
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    fn mix(&mut self, at: Nanos, what: u64) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        bytes[8..].copy_from_slice(&what.to_le_bytes());
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
    }

    /// Something that happens seldom.
    pub(crate) fn note(&mut self, at: Nanos, text: impl FnOnce() -> String) {
        self.mix(at, 1);
        self.line(at, text);
    }

    pub(crate) fn delivered(&mut self, at: Nanos, (from, to): (usize, usize), message: &Message) {
        let kind = message.kind();
        let number = (from as u64) << 8 | to as u64 | (kind.len() as u64) << 16 | u64::from(kind.as_bytes()[0]) << 24;
        self.mix(at, number ^ request(message).rotate_left(32));
        if !matches!(message, Message::Gossip(_)) {
            self.line(at, || format!("n{} -> n{} {}", from + 1, to + 1, shown(message)));
        }
    }

    pub(crate) fn replied(&mut self, at: Nanos, node: usize, client: u64, reply: &Reply) {
        self.mix(at, client << 1 | u64::from(reply.is_ok()));
        self.line(at, || format!("n{} answers {client}: {reply:?}", node + 1));
    }

    pub(crate) fn line(&mut self, at: Nanos, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>4}.{:06} {}", at / SECOND, at % SECOND / 1000, text()));
        }
    }
}

/// The number that ties an answer to what it answers.
fn request(message: &Message) -> u64 {
    match message {
        Message::Write { request, .. }
        | Message::WriteDone { request, .. }
        | Message::Read { request, .. }
        | Message::ReadDone { request, .. }
        | Message::List { request, .. }
        | Message::Listed { request, .. }
        | Message::Declare { request, .. }
        | Message::Declared { request } => *request,
        Message::Forward { id, .. } => id.number,
        Message::Forwarded { number, .. } => *number,
        Message::Hint { sequence, .. } | Message::HintTaken { sequence } => *sequence,
        _ => 0,
    }
}

/// A message for people: long values are cut, clocks are left out.
fn shown(message: &Message) -> String {
    match message {
        Message::Write {
            request,
            hint_for,
            delta,
            ..
        } => format!(
            "Write #{request} {}{}",
            delta_shown(delta),
            hint_for.map(|owner| format!(" for {owner}")).unwrap_or_default()
        ),
        Message::Hint { sequence, delta } => format!("Hint #{sequence} {}", delta_shown(delta)),
        Message::ReadDone {
            request,
            result: Ok(annulus_protocol::Known::Object(object)),
        } => format!("ReadDone #{request} {}", object_shown(object)),
        other => {
            let mut text = format!("{other:?}");
            if text.len() > 300 {
                let end = (0..=300).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
                text.truncate(end);
                text.push('…');
            }
            text
        }
    }
}

fn delta_shown(delta: &annulus_protocol::Delta) -> String {
    let key = String::from_utf8_lossy(delta.at.key.as_bytes()).into_owned();
    format!(
        "{}/{key} brings {} {}",
        delta.at.bucket.as_str(),
        delta.dots,
        object_shown(&delta.object)
    )
}

fn object_shown(object: &annulus_causality::Object) -> String {
    let versions: Vec<String> = object
        .versions()
        .iter()
        .map(|(dot, version)| {
            let value = String::from_utf8_lossy(&version.value[..version.value.len().min(12)]).into_owned();
            format!("{dot}={value}")
        })
        .collect();
    format!("[{}] context {}", versions.join(", "), object.context())
}
