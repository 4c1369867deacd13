//! Messages, requests and answers as a reader wants to see them: who, which key, which dots.
//!
//! `[n1:2 "v"; knows n1:1]` is an object: the version that n1 wrote as its second in this partition, by somebody who had
//! incorporated its first. `brings` names the dots of a delta that are not those of its versions.

use std::time::Duration;

use annulus_causality::{CausalContext, Change, ConflictPolicy, Object, Reader, Version};
use annulus_coordinator::{
    Answer, BucketConfig, BucketSpec, Condition, Durability, Failure, KeyRequest, Level, ListRequest, Mode, Operation,
    Options, Outcome, Reply, Request,
};
use annulus_membership::{Formation, Gossip};
use annulus_protocol::{BucketRecord, Caught, CaughtPart, ClosingStep, Delta, Known, Message, Refusal, WireKey};
use annulus_ring::{Bucket, Key, NodeId, Ring};
use base64::Engine as _;

use crate::names::Names;

impl Names {
    /// The message's kind and number: what its receiver shows of it.
    pub(crate) fn title(&mut self, from: NodeId, to: NodeId, message: &Message) -> String {
        let (asker, number) = match message {
            Message::Write { request: 0, .. } => return "Repair".to_owned(),
            Message::Hint { sequence, .. } => return format!("Hint {}", self.hint(from, *sequence)),
            Message::HintsWait { offers } => {
                let sequences = offers.iter().map(|offer| offer.sequence);
                return format!("HintsWait {}", self.hint_list(from, sequences));
            }
            Message::HintsWanted { sequences } => {
                return format!("HintsWanted {}", self.hint_list(to, sequences.iter().copied()));
            }
            Message::HintTaken { sequence } => return format!("HintTaken {}", self.hint(to, *sequence)),
            Message::Forward { id, .. } => (id.origin, id.number),
            Message::Forwarded { number, .. } => (to, *number),
            Message::Declare { request, .. }
            | Message::Write { request, .. }
            | Message::Read { request, .. }
            | Message::CatchUp { request, .. }
            | Message::List { request, .. } => (from, *request),
            Message::Declared { request, .. }
            | Message::WriteDone { request, .. }
            | Message::ReadDone { request, .. }
            | Message::CaughtUp { request, .. }
            | Message::Listed { request, .. } => (to, *request),
            other => return other.kind().to_owned(),
        };
        format!("{} {}", message.kind(), self.request(asker, number))
    }

    fn hint_list(&mut self, keeper: NodeId, sequences: impl Iterator<Item = u64>) -> String {
        let numbers: Vec<String> = sequences
            .map(|sequence| self.hint(keeper, sequence).to_string())
            .collect();
        match numbers.is_empty() {
            true => "none".to_owned(),
            false => numbers.join(", "),
        }
    }

    /// What the message says.
    pub(crate) fn details(&mut self, message: &Message) -> String {
        match message {
            Message::Gossip(gossip) => self.gossip(gossip),
            Message::Ring(bytes) => ring(bytes),
            Message::Buckets(records) => list(records.iter().map(|record| record.bucket.as_str().to_owned())),
            Message::Declare { record, .. } => declaration(record),
            Message::Write {
                durability,
                hint_for,
                delta,
                ..
            } => self.write(*durability, *hint_for, delta),
            Message::WriteDone { result, .. } => result.as_ref().err().map_or_else(String::new, refused),
            Message::Read { at, digest, hints, .. } => match (hints, digest) {
                (true, _) => format!("{}, hints for it", wire_key(at)),
                (false, Some(_)) => format!("{}, with digest", wire_key(at)),
                (false, None) => wire_key(at),
            },
            Message::ReadDone { result, .. } => match result {
                Ok(Known::Same) => "the same".to_owned(),
                Ok(Known::Object(object)) => self.object(object),
                Err(refusal) => refused(refusal),
            },
            Message::Forward { request, .. } => self.key_request(request),
            Message::Forwarded { reply, .. } => match reply {
                Some(reply) => self.reply(reply),
                None => "not begun: it came too late".to_owned(),
            },
            Message::List {
                bucket, prefix, limit, ..
            } => format!("{} prefix={} limit={limit}", bucket.as_str(), quoted(prefix)),
            Message::Listed { result, .. } => match result {
                Ok((keys, next)) => page(keys, next.as_deref()),
                Err(refusal) => refused(refusal),
            },
            Message::Hint { delta, .. } => self.delta(delta),
            Message::ClockHashes { ranges, .. } => format!("of {} ranges", ranges.len()),
            Message::Clocks { clocks, .. } => {
                let shown = clocks
                    .iter()
                    .map(|told| format!("{} {}", told.partition, self.context(&told.clock)));
                shown.collect::<Vec<_>>().join(", ")
            }
            Message::CatchUp { wants, .. } => {
                let shown = wants.iter().map(|want| {
                    let how = if want.stream.is_some() {
                        "all of"
                    } else {
                        "what is new in"
                    };
                    format!("{how} {} since {}", want.partition, self.context(&want.clock))
                });
                shown.collect::<Vec<_>>().join(", ")
            }
            Message::CaughtUp { caught, .. } => {
                let shown = caught.iter().map(|caught| self.caught(caught));
                shown.collect::<Vec<_>>().join(", ")
            }
            Message::Closing { step, .. } => match step {
                ClosingStep::Freeze => "freeze my finished lives".to_owned(),
                ClosingStep::Free => "none on its way".to_owned(),
                ClosingStep::Count { .. } => "count".to_owned(),
                ClosingStep::Counted { dots, .. } => {
                    let partitions: Vec<String> = dots.iter().map(|dots| dots.partition.to_string()).collect();
                    format!("counted [{}]", partitions.join(", "))
                }
                ClosingStep::Close { partitions } => {
                    let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                    format!("close [{}]", partitions.join(", "))
                }
            },
            Message::HintsWait { offers } => {
                let shown = offers
                    .iter()
                    .map(|offer| format!("{} {}", wire_key(&offer.at), self.context(&offer.dots)));
                shown.collect::<Vec<_>>().join(", ")
            }
            Message::Declared { .. } | Message::HintsWanted { .. } | Message::HintTaken { .. } => String::new(),
        }
    }

    fn caught(&mut self, caught: &Caught) -> String {
        let (what, objects) = match &caught.part {
            CaughtPart::Refused => return format!("{} refused", caught.partition),
            CaughtPart::LogShort => return format!("{}: the log is too short", caught.partition),
            CaughtPart::Objects { objects, more, .. } => (if *more { " a part" } else { "" }, objects),
            CaughtPart::Streamed { until, objects, .. } => {
                (if until.is_some() { " a piece" } else { " whole" }, objects)
            }
        };
        let objects = objects.iter().map(|caught| {
            let object = self.object_bringing(&caught.object, &caught.dots);
            format!("{}/{} {object}", caught.bucket.as_str(), quoted(caught.key.as_bytes()))
        });
        let objects = objects.collect::<Vec<_>>().join("; ");
        format!("{}{what}: {objects}", caught.partition)
    }

    fn write(&mut self, durability: Durability, hint_for: Option<NodeId>, delta: &Delta) -> String {
        let durability = match durability {
            Durability::Disk => "disk",
            Durability::Memory => "memory",
        };
        let hint = hint_for.map(|owner| format!(", a hint for {}", self.node(owner)));
        format!("{}, {durability}{}", self.delta(delta), hint.unwrap_or_default())
    }

    fn delta(&mut self, delta: &Delta) -> String {
        format!(
            "{} {}",
            wire_key(&delta.at),
            self.object_bringing(&delta.object, &delta.dots)
        )
    }

    /// Versions and context, and the dots that come with them where these are not the versions' own.
    pub(crate) fn object_bringing(&mut self, object: &Object, dots: &CausalContext) -> String {
        let own: CausalContext = object.dots().collect();
        let brings = dots.difference(&own);
        let shown = self.object(object);
        match brings.is_empty() {
            true => shown,
            false => format!("{}; brings {}]", shown.trim_end_matches(']'), self.context(&brings)),
        }
    }

    pub(crate) fn object(&mut self, object: &Object) -> String {
        let versions = object.versions().iter();
        let mut versions: Vec<String> = versions
            .map(|(dot, version)| format!("{} {}", self.dot(*dot), value(version)))
            .collect();
        versions.sort();
        let own: CausalContext = object.dots().collect();
        let knows = object.context().difference(&own);
        let mut shown = match versions.is_empty() {
            true => "no value".to_owned(),
            false => versions.join(", "),
        };
        if !knows.is_empty() {
            shown.push_str(&format!("; knows {}", self.context(&knows)));
        }
        format!("[{shown}]")
    }

    /// What stands in a client's session, which only looks opaque.
    fn session(&mut self, token: &str) -> String {
        const FORMAT_BYTES: usize = 1;
        const CODE_BYTES: usize = 16;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap();
        let content = bytes[FORMAT_BYTES..bytes.len() - CODE_BYTES].to_vec();
        let mut reader = Reader::new(content.into());
        let mut partitions = Vec::new();
        while !reader.is_empty() {
            let (_, index) = (reader.u8("n").unwrap(), reader.varint("index").unwrap());
            let context = CausalContext::decode(&mut reader).unwrap();
            partitions.push(format!("{} in partition {index}", self.context(&context)));
        }
        list(partitions.into_iter())
    }

    /// The context in a client's token, which only looks opaque.
    fn token(&mut self, token: &str) -> String {
        const FORMAT_BYTES: usize = 1;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap();
        let context = CausalContext::decode(&mut Reader::new(bytes[FORMAT_BYTES..].to_vec().into())).unwrap();
        self.context(&context)
    }

    pub(crate) fn request_of_client(&mut self, request: &Request) -> String {
        match request {
            Request::Key(request) => self.key_request(request),
            Request::InSession { token: None, request } => format!("{}, a new session", self.key_request(request)),
            Request::InSession {
                token: Some(token),
                request,
            } => format!("{}, has seen {}", self.key_request(request), self.session(token)),
            Request::List(ListRequest {
                bucket, prefix, limit, ..
            }) => format!("LIST {} prefix={} limit={limit}", bucket.as_str(), quoted(prefix)),
            Request::DeclareBucket(bucket, spec) => format!("DECLARE {}{}", bucket.as_str(), bucket_spec(spec)),
            Request::DropBucket(bucket) => format!("DROP {}", bucket.as_str()),
            other => format!("{other:?}"),
        }
    }

    fn key_request(&mut self, request: &KeyRequest) -> String {
        let at = key_name(&request.bucket, &request.key);
        let shown = match &request.operation {
            Operation::Get => format!("GET {at}"),
            Operation::Write {
                value,
                token,
                condition,
            } => {
                let mut shown = match value {
                    Some(new) => format!("PUT {at} {}", quoted(&new.value)),
                    None => format!("DELETE {at}"),
                };
                if let Some(token) = token {
                    shown.push_str(&format!(", token {}", self.token(token)));
                }
                shown.push_str(match condition {
                    None => "",
                    Some(Condition::Absent) => ", if absent",
                    Some(Condition::Exists) => ", if it exists",
                    Some(Condition::Match(_)) => ", if it is as it was",
                });
                shown
            }
            Operation::Change { change, token } => {
                let shown = match change {
                    Change::Increment(by) => format!("INCREMENT {at} by {by}"),
                    Change::Add(element) => format!("ADD {at} {}", quoted(element.as_bytes())),
                    Change::Remove(element) => format!("REMOVE {at} {}", quoted(element.as_bytes())),
                    Change::Set { field, value, .. } => format!("SET {at} {}={}", field.as_str(), quoted(value)),
                    Change::Unset(field) => format!("UNSET {at} {}", field.as_str()),
                };
                let token = token.as_ref().map(|token| format!(", token {}", self.token(token)));
                shown + &token.unwrap_or_default()
            }
        };
        let seen = request.seen.as_ref().filter(|seen| !seen.dots.is_empty());
        let seen = seen.map(|seen| format!(", has seen {}", self.context(&seen.dots)));
        format!("{shown}{}{}", options(&request.options), seen.unwrap_or_default())
    }

    pub(crate) fn reply(&mut self, reply: &Reply) -> String {
        match reply {
            Ok(Answer::Written(written)) => {
                let fallbacks = match written.fallbacks {
                    0 => String::new(),
                    count => format!(" ({count} by fallbacks)"),
                };
                let token = self.token(&written.token);
                format!(
                    "written, {} of {}{fallbacks}, token {token}",
                    written.answered, written.n
                )
            }
            Ok(Answer::Found(found)) => {
                let values = match found.versions.is_empty() {
                    true => "nothing".to_owned(),
                    false => list(found.versions.iter().map(value)),
                };
                let token = self.token(&found.token);
                format!("{values}, {} of {}, token {token}", found.answered, found.n)
            }
            Ok(Answer::InSession { token, answer }) => {
                let answer = self.reply(&Ok((**answer).clone()));
                format!("{answer}, session {}", self.session(token))
            }
            Ok(Answer::Page(found)) => page(&found.keys, found.next.as_deref()),
            Ok(Answer::Bucket(bucket, config)) => format!("{} {}", bucket.as_str(), bucket_config(config)),
            Ok(Answer::Dropped) => "dropped".to_owned(),
            Ok(Answer::Ready) => "ready".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(failure) => failed(failure),
        }
    }

    fn gossip(&self, gossip: &Gossip) -> String {
        let mut said = vec![match gossip.hears_you {
            true => "I hear you".to_owned(),
            false => "I do not hear you".to_owned(),
        }];
        match &gossip.formation {
            None => {}
            Some(Formation::Welcome { .. }) => said.push("welcome".to_owned()),
            Some(Formation::Candidate(candidate)) => {
                said.push(format!("would found a cluster of {}", candidate.expect));
                match &candidate.vote {
                    Some(vote) => {
                        let founders = vote.founders.iter().map(|name| name.as_str().to_owned());
                        said.push(format!("have voted for {}", founders.collect::<Vec<_>>().join(" ")));
                    }
                    None if candidate.proposal.is_some() => said.push("see as many".to_owned()),
                    None => {}
                }
            }
        }
        if gossip.cluster.is_some() {
            said.push(format!("have epoch {}", gossip.advertised.epoch));
        }
        if let Some(members) = &gossip.members {
            let mut names: Vec<&str> = members.iter().map(|record| record.member.name.as_str()).collect();
            names.sort_unstable();
            said.push(format!("know {}", names.join(" ")));
        }
        said.join(", ")
    }
}

pub(crate) fn key_name(bucket: &Bucket, key: &Key) -> String {
    format!("{}/{}", bucket.as_str(), String::from_utf8_lossy(key.as_bytes()))
}

fn wire_key(at: &WireKey) -> String {
    key_name(&at.bucket, &at.key)
}

/// A counter's total, by whom in which standing, is seventeen bytes.
fn value(version: &Version) -> String {
    if let Some((standing @ (0 | 1), total)) = version.value.split_first()
        && let Ok(total) = total.try_into().map(i128::from_be_bytes)
    {
        return format!("{total}{}", ["", " as a fallback"][usize::from(*standing == 0)]);
    }
    quoted(&version.value)
}

fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Storage => "refused: its disk is full or fails",
        Refusal::Damaged => "refused: the record is damaged",
        Refusal::Overloaded => "refused: overloaded",
        Refusal::NotOwner => "refused: no owner",
        Refusal::Expired => "refused: its deadline has passed",
        Refusal::InDoubt => "refused: in doubt",
    }
    .to_owned()
}

fn failed(failure: &Failure) -> String {
    let outcome = match failure {
        Failure::QuorumUnreachable { outcome, .. } | Failure::TimedOut { outcome, .. } => Some(outcome),
        _ => None,
    };
    let outcome = outcome.map_or("", |outcome| match outcome {
        Outcome::None => "; outcome: none",
        Outcome::Unknown => "; outcome: unknown",
    });
    format!("failed: {failure}{outcome}")
}

fn ring(bytes: &[u8]) -> String {
    match Ring::decode(bytes) {
        Ok(ring) => format!("epoch {}", ring.epoch()),
        Err(error) => error.to_string(),
    }
}

fn declaration(record: &BucketRecord) -> String {
    let config = record.config.as_ref().map(bucket_config);
    format!(
        "{} {}",
        record.bucket.as_str(),
        config.unwrap_or_else(|| "dropped".to_owned())
    )
}

fn bucket_config(config: &BucketConfig) -> String {
    let ttl = config.ttl.map(|ttl| format!(" ttl={}", time(ttl)));
    format!(
        "n={} r={} w={} conflicts={}{}",
        config.n,
        level(config.r),
        level(config.w),
        conflicts(config.conflicts),
        ttl.unwrap_or_default()
    )
}

/// What a declaration says of its own.
fn bucket_spec(spec: &BucketSpec) -> String {
    let shown = [
        spec.n.map(|n| format!("n={n}")),
        spec.r.map(|count| format!("r={}", level(count))),
        spec.w.map(|count| format!("w={}", level(count))),
        spec.conflicts.map(|policy| format!("conflicts={}", conflicts(policy))),
        spec.ttl.map(|ttl| format!("ttl={}", time(ttl))),
        spec.max_siblings.map(|limit| format!("max_siblings={limit}")),
    ];
    spaced(shown)
}

fn conflicts(policy: ConflictPolicy) -> &'static str {
    match policy {
        ConflictPolicy::Siblings => "siblings",
        ConflictPolicy::LastWriteWins => "lww",
        ConflictPolicy::Counter => "counter",
        ConflictPolicy::Set => "set",
        ConflictPolicy::Map => "map",
    }
}

fn spaced<const N: usize>(shown: [Option<String>; N]) -> String {
    shown.into_iter().flatten().map(|option| format!(" {option}")).collect()
}

fn page(keys: &[Key], next: Option<&[u8]>) -> String {
    let keys = match keys.is_empty() {
        true => "no keys".to_owned(),
        false => list(
            keys.iter()
                .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()),
        ),
    };
    match next {
        Some(next) => format!("{keys}; go on at {}", String::from_utf8_lossy(next)),
        None => format!("{keys}; that is all"),
    }
}

fn level(level: Level) -> String {
    match level {
        Level::Count(count) => count.to_string(),
        Level::One => "one".to_owned(),
        Level::Quorum => "quorum".to_owned(),
        Level::All => "all".to_owned(),
    }
}

fn options(options: &Options) -> String {
    let shown = [
        options.r.map(|count| format!("r={}", level(count))),
        options.w.map(|count| format!("w={}", level(count))),
        options.mode.map(|mode| format!("sloppy={}", mode == Mode::Sloppy)),
        options.durability.map(|durability| match durability {
            Durability::Disk => "durability=disk".to_owned(),
            Durability::Memory => "durability=memory".to_owned(),
        }),
        options.timeout.map(|timeout| format!("timeout={}", time(timeout))),
    ];
    spaced(shown)
}

/// `250ms` below a second, `1.5s` above; what is finer than a millisecond is left out.
pub(crate) fn time(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{millis}ms"),
        millis => {
            let text = format!("{}.{:03}", millis / 1000, millis % 1000);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}
