//! Which acknowledged writes have surely replaced a value, and since when nobody may be shown it.

use std::collections::BTreeSet;

use super::key::{Acknowledged, KeyHistory, Sight, Write};

/// A write that has surely replaced a value.
#[derive(Clone, Copy)]
struct Cover {
    place: usize,
    write: Acknowledged,
}

/// Of the writes that have surely replaced a value, those that no other makes superfluous: a handful at most, as there are few
/// numbers of owners.
#[derive(Clone, Default)]
pub(super) struct Covers(Vec<Cover>);

impl Covers {
    fn add(&mut self, cover: Cover) {
        if !self.0.iter().any(|other| other.suffices_for(&cover)) {
            self.0.retain(|other| !cover.suffices_for(other));
            self.0.push(cover);
        }
    }

    /// The first of them that must be known where this was shown.
    pub(super) fn known_to(&self, sight: &Sight<'_>) -> Option<usize> {
        let known = self.0.iter().filter(|cover| sight.must_know(cover.write));
        known
            .min_by_key(|cover| (cover.write.at_us, cover.place))
            .map(|cover| cover.place)
    }
}

impl Cover {
    /// Whoever must know of `other` must know of this.
    fn suffices_for(&self, other: &Cover) -> bool {
        let (mine, other) = (self.write, other.write);
        mine.at_us <= other.at_us && mine.owners >= other.owners && mine.n <= other.n
    }
}

/// By place of the value's write: the writes whose context names it.
pub(super) fn by_context(key: &KeyHistory<'_>) -> Vec<Covers> {
    let mut covers = vec![Covers::default(); key.writes.len()];
    for (place, write) in key.writes.iter().enumerate() {
        let Some(acknowledged) = write.lasting() else { continue };
        for value in write.names().iter().filter(|&&value| value != write.number()) {
            if let Some(of) = key.write_of(*value) {
                covers[of].add(Cover {
                    place,
                    write: acknowledged,
                });
            }
        }
    }
    covers
}

/// By place of the value's write: the writes that replace what their coordinator knows, and whose coordinator knew it.
///
/// It did where all owners had acknowledged the value and it was an owner itself. A node that owns the key coordinates there or
/// hands on to another owner; any other may find no owner, and hand on to a fallback, which knows nothing and may reach owners
/// nevertheless. Who owns a key is seen at the end.
pub(super) fn by_coordinator(key: &KeyHistory<'_>) -> Vec<Covers> {
    let owners: BTreeSet<&str> = key.finals().map(|(_, last)| last.node.as_str()).collect();
    let mut writes: Vec<(u64, Cover)> = places(key)
        .filter(|(_, write)| key.replaces_unseen(write) && owners.contains(write.operation.node.as_str()))
        .filter(|(_, write)| !has_fallbacks(write))
        .filter_map(|(place, write)| {
            let cover = Cover {
                place,
                write: write.lasting()?,
            };
            Some((write.start_us(), cover))
        })
        .collect();
    writes.sort_by_key(|&(start, _)| start);
    let mut values: Vec<(u64, usize)> = places(key)
        .filter(|(_, write)| write.is_put)
        .filter_map(|(place, write)| {
            let acknowledged = write.lasting().filter(|write| write.owners >= write.n)?;
            Some((acknowledged.at_us, place))
        })
        .collect();
    values.sort_unstable();

    let mut covers = vec![Covers::default(); key.writes.len()];
    let mut later = Covers::default();
    for (at_us, value) in values.into_iter().rev() {
        while let Some((_, cover)) = writes.pop_if(|&mut (start, _)| start > at_us) {
            later.add(cover);
        }
        covers[value] = later.clone();
    }
    covers
}

fn places<'a>(key: &'a KeyHistory<'a>) -> impl Iterator<Item = (usize, &'a Write<'a>)> {
    key.writes.iter().enumerate()
}

fn has_fallbacks(write: &Write<'_>) -> bool {
    use crate::history::Outcome;
    matches!(write.operation.outcome, Outcome::Written { fallbacks, .. } if fallbacks > 0)
}
