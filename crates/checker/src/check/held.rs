//! What must be shown: acknowledged writes, to strict reads and at the end, and the same by all owners.

use super::gone::gone_from;
use super::key::{Acknowledged, KeyHistory, Sight, Write};
use super::words::{at, sight_of, write_of};
use super::{Found, Promise};

/// Looks for each acknowledged value wherever it must be.
pub(super) fn check(found: &mut Found<'_>) {
    let key = found.key;
    let finals: Vec<&Sight<'_>> = key.finals().map(|(sight, _)| sight).collect();
    for (write, gone_us) in key.writes.iter().zip(gone_from(key)) {
        let Some(acknowledged) = write.lasting().filter(|_| write.is_put) else {
            continue;
        };
        stale(found, write, acknowledged, gone_us);
        lost(found, write, acknowledged, (gone_us, &finals));
    }
    diverged(found, &finals);
}

/// The first strict read that misses a value. The reads that must show it do, where all is well: the loop is no longer than what
/// was shown.
fn stale(found: &mut Found<'_>, write: &Write<'_>, acknowledged: Acknowledged, gone_us: u64) {
    let sights = &found.key.sights;
    let after = sights.partition_point(|sight| sight.start_us <= acknowledged.at_us);
    let missed = sights[after..]
        .iter()
        .take_while(|sight| sight.start_us < gone_us)
        .filter(|sight| !sight.is_final() && sight.end_us < gone_us && sight.must_know(acknowledged))
        .find(|sight| !sight.shows(write.number()));
    let Some(sight) = missed else { return };
    let detail = format!(
        "{} is not seen: {}; {}",
        write_of(write),
        sight_of(sight),
        stays(gone_us)
    );
    let operations = [Some(write.number()), sight.number()];
    found.broken(Promise::Stale, Some(write.number()), &operations, detail);
}

fn lost(found: &mut Found<'_>, write: &Write<'_>, acknowledged: Acknowledged, (gone_us, finals): (u64, &[&Sight<'_>])) {
    let must_show = |sight: &&&Sight<'_>| acknowledged.at_us < sight.start_us && sight.start_us < gone_us;
    let Some(sight) = finals.iter().find(must_show) else {
        return;
    };
    if finals.iter().any(|sight| sight.shows(write.number())) {
        return;
    }
    let detail = format!(
        "{} is held by no owner at the end, for one {}; {}",
        write_of(write),
        sight_of(sight),
        stays(gone_us)
    );
    found.broken(Promise::Lost, Some(write.number()), &[Some(write.number())], detail);
}

fn stays(gone_us: u64) -> String {
    match gone_us {
        u64::MAX => "no write could have replaced it".to_owned(),
        _ => format!("nothing could have replaced or hidden it before {}", at(gone_us)),
    }
}

/// Values that some owner's clock may have found expired are not compared.
fn diverged(found: &mut Found<'_>, finals: &[&Sight<'_>]) {
    let (Some(first), Some(last)) = (finals.first(), finals.last()) else {
        return;
    };
    let key = found.key;
    let settled = |sight: &Sight<'_>| settled(key, sight, last.start_us);
    let expected = settled(first);
    let Some(other) = finals.iter().find(|sight| settled(sight) != expected) else {
        return;
    };
    let detail = format!("owners differ: {}, {}", sight_of(first), sight_of(other));
    let differing = first.values.iter().filter(|&&value| !other.shows(value));
    let differing = differing.chain(other.values.iter().filter(|&&value| !first.shows(value)));
    let operations: Vec<Option<u64>> = differing
        .filter(|&&value| key.write_of(value).is_some())
        .map(|&value| Some(value))
        .collect();
    found.broken(Promise::Diverged, None, &operations, detail);
}

fn settled(key: &KeyHistory<'_>, sight: &Sight<'_>, end_us: u64) -> Vec<u64> {
    let may_be_expired = |value| {
        let write = key.write_of(value).map(|place| &key.writes[place]);
        write.is_some_and(|write| key.may_expire_us(write) <= end_us)
    };
    sight
        .values
        .iter()
        .copied()
        .filter(|&value| !may_be_expired(value))
        .collect()
}
