//! From when a value may be gone: the earliest write that may replace or hide it was sent, or it may have expired.

use crate::history::Conflicts;

use super::key::KeyHistory;

/// By place of the write, in microseconds; `u64::MAX` where the value must stay.
pub(super) fn gone_from(key: &KeyHistory<'_>) -> Vec<u64> {
    let mut gone: Vec<u64> = key.writes.iter().map(|write| key.may_expire_us(write)).collect();
    for write in key.writes.iter().filter(|write| write.may_be_done()) {
        for value in write.names().iter().filter(|&&value| value != write.number()) {
            if let Some(place) = key.write_of(*value) {
                gone[place] = gone[place].min(write.start_us());
            }
        }
    }
    let unseen = Unseen::new(key);
    for (place, write) in key.writes.iter().enumerate() {
        gone[place] = gone[place].min(unseen.first_after(write.start_us(), place));
    }
    gone
}

/// The writes that replace whatever their coordinator knows, or that may win over others by their stamp.
struct Unseen {
    /// Until when each may replace what is written, ascending.
    until_us: Vec<u64>,
    /// Of those from here on, the two that were sent first: when, and which.
    first: Vec<[(u64, usize); 2]>,
}

const NOBODY: (u64, usize) = (u64::MAX, usize::MAX);

impl Unseen {
    fn new(key: &KeyHistory<'_>) -> Unseen {
        // A write that was over may still win by its stamp, where its coordinator's clock was ahead.
        let skew = match key.conflicts {
            Conflicts::Lww => key.skew_us,
            Conflicts::Siblings => 0,
        };
        let mut writes: Vec<(u64, (u64, usize))> = key
            .writes
            .iter()
            .enumerate()
            .filter(|(_, write)| write.may_be_done() && key.replaces_unseen(write))
            .map(|(place, write)| {
                let until = write.begins_by_us().saturating_add(skew);
                (until, (write.start_us(), place))
            })
            .collect();
        writes.sort_unstable();
        let mut first = vec![[NOBODY; 2]; writes.len() + 1];
        for (index, &(_, write)) in writes.iter().enumerate().rev() {
            let [one, two] = first[index + 1];
            first[index] = [one.min(write), two.min(one.max(write))];
        }
        Unseen {
            until_us: writes.into_iter().map(|(until, _)| until).collect(),
            first,
        }
    }

    /// When the first was sent, other than `but`, that may replace what was written from `start_us` on.
    fn first_after(&self, start_us: u64, but: usize) -> u64 {
        let from = self.until_us.partition_point(|&until| until < start_us);
        let [one, two] = self.first[from];
        if one.1 == but { two.0 } else { one.0 }
    }
}
