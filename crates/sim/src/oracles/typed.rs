//! A counter shows what was added to it, once each; a set shows what was added and not removed, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use annulus_causality::{Change, ConflictPolicy};
use annulus_checker::Outcome;
use annulus_coordinator::Found;

use crate::workloads;

/// The type of the keys of a bucket, where they have one.
pub(crate) fn policy(bucket: &str) -> Option<ConflictPolicy> {
    let workload = workloads::ALL.iter().find(|workload| workload.name() == bucket)?;
    workload.bucket()?.conflicts.filter(|policy| policy.is_typed())
}

/// What a request asked of such a key.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Change { change: Change, token: Option<String> },
    Delete,
    Get,
}

/// A request with its answer.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) asked: Asked,
    pub(crate) start_us: u64,
    /// When it was answered, or given up.
    pub(crate) end_us: u64,
    /// Whether an answer says that it is on disk.
    pub(crate) durable: bool,
    pub(crate) outcome: Outcome,
    /// What a read showed, and its token.
    pub(crate) shown: Option<(Option<String>, String)>,
}

impl Done {
    /// It may have been done, now or later.
    fn may_be_done(&self) -> bool {
        self.outcome != Outcome::Nothing
    }

    /// It was promised, and nothing that happens in a run undoes it.
    fn is_promised(&self, least_copies: u8) -> bool {
        matches!(self.outcome, Outcome::Written { answered, .. } if answered >= least_copies) && self.durable
    }

    /// Whether it adds or removes this element, and may have been done.
    fn adds(&self, element: &str) -> bool {
        matches!(&self.asked, Asked::Change { change: Change::Add(added), .. } if *added.as_bytes() == element)
            && self.may_be_done()
    }

    fn removes(&self, element: &str) -> bool {
        let removes = match &self.asked {
            Asked::Change {
                change: Change::Remove(removed),
                ..
            } => *removed.as_bytes() == element,
            Asked::Delete => true,
            _ => false,
        };
        removes && self.may_be_done()
    }

    /// It cannot have seen what was begun after it had ended.
    fn may_have_seen(&self, other: &Done) -> bool {
        matches!(self.outcome, Outcome::Unknown) || self.end_us >= other.start_us
    }

    /// Owners, not fallbacks, that have what was written.
    fn owners(&self) -> Option<(u8, u8)> {
        match self.outcome {
            Outcome::Written { answered, fallbacks, n } => Some((answered.saturating_sub(fallbacks), n)),
            _ => None,
        }
    }
}

/// What clients did with counters and sets, by bucket and key.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    done: BTreeMap<(&'static str, String), Vec<Done>>,
}

/// The document that a read found; nothing where the node does not know what kind of key it is: its disk was lost, and with
/// it, for a moment, the declaration.
pub(crate) fn shown(found: &Found) -> Option<Option<String>> {
    match &found.versions[..] {
        [] => Some(None),
        [version] if version.content_type.is_some() => Some(Some(String::from_utf8_lossy(&version.value).into_owned())),
        _ => None,
    }
}

/// What is known of the faults of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    /// What fewer replicas had acknowledged may be gone.
    pub(crate) least_copies: u8,
    /// Whether a quorum of owners sees all that a quorum of owners was told.
    pub(crate) quorums_see: bool,
}

impl Typed {
    pub(crate) fn push(&mut self, bucket: &'static str, key: String, done: Done) {
        self.done.entry((bucket, key)).or_default().push(done);
    }

    /// How many there were, and how many succeeded.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let all = || self.done.values().flatten();
        let succeeded = all().filter(|done| !matches!(done.outcome, Outcome::Nothing | Outcome::Unknown));
        (all().count() as u64, succeeded.count() as u64)
    }

    /// All broken promises; `finals` is what each owner shows of each key in the end.
    pub(crate) fn check(
        &self,
        finals: &[((&'static str, String), Option<String>)],
        given: Given,
    ) -> Vec<(&'static str, String)> {
        let mut broken = Vec::new();
        for ((bucket, key), done) in &self.done {
            let last = finals.iter().filter(|(of, _)| of.0 == *bucket && of.1 == *key);
            let last: BTreeSet<Option<String>> = last.map(|(_, shown)| shown.clone()).collect();
            let found = match policy(bucket) {
                Some(ConflictPolicy::Counter) => check_counter(done, &last, given),
                _ => check_set(done, &last, given),
            };
            broken.extend(found.map(|(promise, detail)| (promise, format!("{bucket}/{key}: {detail}"))));
        }
        broken
    }
}

type Broken = Option<(&'static str, String)>;

/// The least and the most of these amounts: those that are promised, and any of those that may be done.
fn bounds<'a>(done: impl Iterator<Item = &'a Done>, least_copies: u8) -> (i128, i128) {
    let (mut least, mut most) = (0, 0);
    for done in done {
        let Asked::Change {
            change: Change::Increment(by),
            ..
        } = done.asked
        else {
            continue;
        };
        let by = i128::from(by.get());
        if done.is_promised(least_copies) {
            (least, most) = (least + by, most + by);
        } else if done.may_be_done() {
            (least, most) = (least + by.min(0), most + by.max(0));
        }
    }
    (least, most)
}

fn check_counter(all: &[Done], finals: &BTreeSet<Option<String>>, given: Given) -> Broken {
    let number = |shown: &Option<String>| shown.as_deref().map_or(Some(0), |text| text.parse::<i128>().ok());
    let (least, most) = bounds(all.iter(), given.least_copies);
    for last in finals {
        if number(last).is_none_or(|last| !(least..=most).contains(&last)) {
            let detail = format!("an owner shows {last:?} in the end; it was promised {least}, and {most} at most");
            return Some(("a counter counts once", detail));
        }
    }
    for read in all {
        let Some((shown, _)) = &read.shown else { continue };
        // Nothing need be seen yet, but nothing can be seen that was not asked for.
        let asked = all.iter().filter(|done| done.start_us <= read.end_us);
        let (least, most) = bounds(asked, u8::MAX);
        if number(shown).is_none_or(|shown| !(least..=most).contains(&shown)) {
            let number = read.number;
            let detail = format!("read {number} shows {shown:?}; from {least} to {most} was asked for until then");
            return Some(("a counter counts once", detail));
        }
    }
    None
}

fn check_set(all: &[Done], finals: &BTreeSet<Option<String>>, given: Given) -> Broken {
    let shown = all
        .iter()
        .filter_map(|done| Some((done.end_us, &done.shown.as_ref()?.0)));
    for (end_us, shown) in shown.chain(finals.iter().map(|last| (u64::MAX, last))) {
        let is_asked = |element: &String| all.iter().any(|done| done.adds(element) && done.start_us <= end_us);
        if let Some(element) = elements(shown).iter().find(|element| !is_asked(element)) {
            return Some((
                "nothing is made up",
                format!("{element:?} is shown, and nobody had added it"),
            ));
        }
    }
    let added: BTreeSet<String> = all.iter().filter_map(element_added).collect();
    for last in finals {
        let last = elements(last);
        for element in &added {
            if !last.contains(element)
                && let Some(add) = all.iter().find(|add| is_to_stay(add, element, all, given))
            {
                let number = add.number;
                let detail = format!("{element:?} is missing: {number} added it, and nobody can have removed it");
                return Some(("an element stays", detail));
            }
            if last.contains(element)
                && given.quorums_see
                && let Some(removal) = all.iter().find(|removal| is_to_be_gone(removal, element, all))
            {
                let number = removal.number;
                let detail = format!("{element:?} is there: {number} removed all that was added, as it was seen");
                return Some(("a removal removes what was seen", detail));
            }
        }
    }
    None
}

fn elements(shown: &Option<String>) -> Vec<String> {
    let parsed = shown.as_deref().map(serde_json::from_str);
    // What is no list of texts is an element that nobody added.
    parsed.map_or_else(Vec::new, |parsed| parsed.unwrap_or_else(|_| vec![String::new()]))
}

fn element_added(done: &Done) -> Option<String> {
    match &done.asked {
        Asked::Change {
            change: Change::Add(element),
            ..
        } => Some(String::from_utf8_lossy(element.as_bytes()).into_owned()),
        _ => None,
    }
}

fn is_to_stay(add: &Done, element: &str, all: &[Done], given: Given) -> bool {
    let removed = || all.iter().any(|done| done.removes(element) && done.may_have_seen(add));
    add.adds(element) && add.is_promised(given.least_copies) && !removed()
}

/// A removal that succeeded, with the token of a read that must have seen every addition there ever was.
fn is_to_be_gone(removal: &Done, element: &str, all: &[Done]) -> bool {
    let Asked::Change { token: Some(token), .. } = &removal.asked else {
        return false;
    };
    if !removal.removes(element) || removal.owners().is_none() {
        return false;
    }
    let sees_all = |read: &Done| {
        let Outcome::Read { answered, n, .. } = read.outcome else {
            return false;
        };
        let is_seen = |add: &Done| {
            add.is_promised(1)
                && add.end_us < read.start_us
                && add
                    .owners()
                    .is_some_and(|(owners, _)| owners + answered > n && owners + (n / 2 + 1) > n)
        };
        all.iter().filter(|done| done.adds(element)).all(is_seen)
    };
    all.iter()
        .filter(|read| read.shown.as_ref().is_some_and(|(_, shown)| shown == token))
        .any(sees_all)
}
