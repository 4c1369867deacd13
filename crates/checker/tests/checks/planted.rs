//! One violation of each kind, and beside it the same history with the excuse that makes it none.

use annulus_checker::{Outcome, Promise, Promises, Replaces, Violation, check, check_with};

use crate::script::{Script, delete, get, put, script, shown};

const KNOWN: Replaces = Replaces::Known;

/// Exactly one promise is broken, about this value.
#[track_caller]
fn one(script: Script, promise: Promise, value: impl Into<Option<u64>>) -> Violation {
    let mut violations = check(&script.0);
    let found: Vec<_> = violations.iter().map(|found| (found.promise, found.value)).collect();
    assert_eq!(found, [(promise, value.into())], "{violations:#?}");
    violations.remove(0)
}

#[track_caller]
fn none(script: Script) {
    assert_eq!(check(&script.0), []);
}

#[test]
fn a_value_that_nobody_wrote_is_made_up() {
    one(script([get(1, (10, 20), &[7])]), Promise::MadeUp, 7);
    one(script([get(1, (10, 20), &[0])]), Promise::MadeUp, 0);
    one(script([]).then(10, &[&[7], &[7]]), Promise::MadeUp, 7);
}

#[test]
fn a_delete_writes_no_value() {
    one(
        script([delete(1, (0, 5), KNOWN), get(2, (10, 20), &[1])]),
        Promise::MadeUp,
        1,
    );
}

#[test]
fn a_value_from_the_future_is_made_up() {
    one(
        script([get(1, (10, 20), &[2]), put(2, (21, 30), KNOWN)]),
        Promise::MadeUp,
        2,
    );
    none(script([get(1, (10, 20), &[2]), put(2, (20, 30), KNOWN)]));
}

#[test]
fn a_value_of_another_key_is_made_up() {
    let mut script = script([put(1, (0, 5), KNOWN), get(2, (10, 20), &[1])]);
    script.0.operations[1].key = "b/other".to_owned();
    assert_eq!(one(script, Promise::MadeUp, 1).key, "b/other");
}

#[test]
fn what_was_said_to_be_never_written_is_never_shown() {
    let failed = || put(1, (10, 30), KNOWN).but(Outcome::Nothing);
    one(script([failed(), get(2, (15, 20), &[1])]), Promise::Never, 1);
    one(script([failed(), get(2, (35, 40), &[1])]), Promise::Never, 1);
    one(script([failed()]).then(90, &[&[1]]), Promise::Never, 1);
    none(script([put(1, (10, 30), KNOWN).unanswered(), get(2, (35, 40), &[1])]));
}

#[test]
fn an_acknowledged_value_that_no_owner_holds_is_lost() {
    let violation = one(
        script([put(1, (10, 1_203_000), KNOWN)]).then(2_000_000, &[&[], &[]]),
        Promise::Lost,
        1,
    );
    assert_eq!(
        violation.detail,
        "value 1 (sent by client 1 to n1 at 0.000010 s, acknowledged at 1.203000 s by 2 of 3) is held by no owner at the \
         end, for one n1, read alone at 2.000000 s, shows nothing; no write could have replaced it"
    );
    assert_eq!(violation.operations, [1]);
}

#[test]
fn a_value_is_not_lost_that_some_write_may_have_replaced() {
    let first = || put(1, (10, 20), shown(&[]));
    let ends = |by| script([first(), by]).then(90_000, &[&[], &[]]);
    none(ends(delete(2, (30, 40), shown(&[1]))));
    none(ends(delete(2, (30, 40), KNOWN)));
    none(ends(delete(2, (30, 40), KNOWN).unanswered()));
    // It may have begun late.
    none(ends(delete(2, (5, 15), KNOWN)));
    none(ends(delete(2, (5, 6), KNOWN).unanswered()));
    one(ends(delete(2, (5, 9), KNOWN)), Promise::Lost, 1);
    one(ends(delete(2, (30, 40), shown(&[]))), Promise::Lost, 1);
    one(ends(delete(2, (30, 40), KNOWN).but(Outcome::Nothing)), Promise::Lost, 1);
    // What was read before it was sent cannot be its work.
    one(ends(delete(2, (90_001, 90_002), KNOWN)), Promise::Lost, 1);
}

#[test]
fn a_value_that_was_acknowledged_from_memory_may_be_lost() {
    none(script([put(1, (10, 20), KNOWN).in_memory(), get(2, (30, 40), &[])]).then(90, &[&[]]));
}

#[test]
fn a_value_that_fallbacks_alone_have_is_not_to_be_lost_either() {
    one(
        script([put(1, (10, 20), KNOWN).by(0, 2)]).then(90, &[&[]]),
        Promise::Lost,
        1,
    );
}

#[test]
fn a_write_does_not_excuse_that_it_is_itself_lost() {
    one(
        script([put(1, (10, 20), shown(&[1]))]).then(90, &[&[]]),
        Promise::Lost,
        1,
    );
}

#[test]
fn a_replaced_value_does_not_come_back() {
    let replaced = |by| script([put(1, (10, 20), KNOWN).by(2, 1), by]);
    let ends = |by| replaced(by).then(90, &[&[1], &[1]]);
    let violation = one(ends(delete(2, (30, 40), shown(&[1]))), Promise::Resurrected, 1);
    assert_eq!(violation.operations, [1, 2]);
    none(ends(delete(2, (30, 40), shown(&[1])).in_memory()));
    none(ends(delete(2, (30, 40), shown(&[1])).but(Outcome::Unknown)));
    none(ends(delete(2, (30, 40), shown(&[])).but(Outcome::Unknown)));
}

#[test]
fn a_strict_read_shows_nothing_that_was_replaced_before_it_began() {
    let read = |get| script([put(1, (10, 20), KNOWN), delete(2, (30, 40), shown(&[1])), get]);
    let violation = one(read(get(3, (50, 60), &[1])), Promise::Resurrected, 1);
    assert_eq!(violation.operations, [1, 2, 3]);
    none(read(get(3, (40, 60), &[1])));
    none(read(get(3, (50, 60), &[1]).by(1, 0)));
    none(read(get(3, (50, 60), &[1]).sloppy()));
    let unpromised = read(get(3, (50, 60), &[1]));
    assert_eq!(check_with(&unpromised.0, &Promises::all().without(Promise::Stale)), []);
}

#[test]
fn what_every_owner_had_does_not_outlive_a_write_without_context() {
    let ends = |first, second| script([first, second]).then(90, &[&[1, 2], &[1, 2]]);
    let full = || put(1, (10, 20), KNOWN).by(3, 0);
    one(ends(full(), put(2, (30, 40), KNOWN)), Promise::Outlived, 1);
    none(ends(full(), put(2, (20, 40), KNOWN)));
    none(ends(full(), put(2, (30, 40), KNOWN).by(1, 1)));
    none(ends(put(1, (10, 20), KNOWN).by(2, 1), put(2, (30, 40), KNOWN)));
    none(ends(full().in_memory(), put(2, (30, 40), KNOWN)));
    // No owner was asked: a fallback may have coordinated it.
    none(ends(full(), put(2, (30, 40), KNOWN).at("n9")));
}

#[test]
fn a_value_is_not_shown_beside_what_replaced_it() {
    let writes = || [put(1, (10, 20), KNOWN), put(2, (30, 40), shown(&[1])).unanswered()];
    let with = |get| script(writes().into_iter().chain([get]));
    let violation = one(with(get(3, (50, 60), &[2, 1])), Promise::Together, 1);
    assert_eq!(violation.operations, [1, 2, 3]);
    one(script(writes()).then(90, &[&[1, 2]]), Promise::Together, 1);
    none(with(get(3, (50, 60), &[1])));
    none(with(get(3, (50, 60), &[2])));
}

#[test]
fn an_lww_bucket_shows_one_value() {
    let writes = [
        put(1, (10, 20), KNOWN),
        put(2, (10, 20), KNOWN),
        get(3, (50, 60), &[1, 2]),
    ];
    one(script(writes).lww(), Promise::Together, 1);
}

#[test]
fn a_strict_read_sees_what_was_acknowledged_before_it_began() {
    let read = |write, get| script([write, get]);
    let write = || put(1, (10, 20), KNOWN);
    let violation = one(read(write(), get(2, (21, 30), &[])), Promise::Stale, 1);
    assert_eq!(violation.operations, [1, 2]);
    none(read(write(), get(2, (20, 30), &[])));
    none(read(write(), get(2, (21, 30), &[]).sloppy()));
    none(read(write(), get(2, (21, 30), &[]).by(1, 0)));
    none(read(write().by(1, 1), get(2, (21, 30), &[])));
    one(
        read(write().by(1, 1), get(2, (21, 30), &[]).by(3, 0)),
        Promise::Stale,
        1,
    );
    none(read(write().but(Outcome::Unknown), get(2, (21, 30), &[])));
}

#[test]
fn a_strict_read_need_not_see_what_may_be_replaced_while_it_goes_on() {
    let read = |by| script([put(1, (10, 20), shown(&[])), by, get(3, (21, 30), &[])]);
    none(read(put(2, (30, 40), shown(&[1]))));
    none(read(put(2, (30, 40), KNOWN).unanswered()));
    one(read(put(2, (31, 40), shown(&[1]))), Promise::Stale, 1);
    one(read(put(2, (31, 40), KNOWN).unanswered()), Promise::Stale, 1);
    one(read(put(2, (30, 40), KNOWN).but(Outcome::Nothing)), Promise::Stale, 1);
}

#[test]
fn a_later_strict_read_that_misses_more_is_found_behind_one_that_could_not_tell() {
    let reads = [
        put(1, (10, 20), KNOWN),
        get(2, (21, 30), &[]).by(1, 0),
        get(3, (22, 40), &[]),
    ];
    assert_eq!(one(script(reads), Promise::Stale, 1).operations, [1, 3]);
}

#[test]
fn an_lww_value_may_lose_to_a_write_whose_clock_was_ahead() {
    let writes = [put(1, (10, 20), KNOWN), put(2, (1_000_000, 1_000_020), KNOWN)];
    let script = script(writes).lww().then(2_000_000, &[&[1], &[1]]);
    assert_eq!(check(&script.0), []);
    let violations = check_with(&script.0, &Promises::only(Promise::Lost).with_skew_us(500_000));
    assert_eq!(violations.len(), 1, "{violations:#?}");
    assert_eq!(violations[0].value, Some(2));
    assert_eq!(check_with(&script.0, &Promises::all().with_skew_us(u64::MAX)), []);
}

#[test]
fn a_value_is_hidden_after_its_time_and_not_before() {
    let write = || put(1, (0, 1_000), KNOWN);
    let ends = |at_us, values| script([write()]).ttl_ms(10_000).then(at_us, values);
    one(ends(12_001_001, &[&[1], &[1]]), Promise::Expired, 1);
    one(ends(7_999_999, &[&[], &[]]), Promise::Lost, 1);
    for at_us in [8_000_000, 12_001_000] {
        none(ends(at_us, &[&[], &[]]));
        none(ends(at_us, &[&[1], &[1]]));
        // Their clocks may differ.
        none(ends(at_us, &[&[], &[1]]));
    }
    let read = |start, end| script([write(), get(2, (start, end), &[])]).ttl_ms(10_000);
    one(read(7_000_000, 7_999_999), Promise::Stale, 1);
    none(read(7_000_000, 8_000_000));
}

#[test]
fn owners_show_the_same_at_the_end() {
    let writes = || [put(1, (10, 20), shown(&[])), put(2, (10, 20), shown(&[]))];
    let violation = one(script(writes()).then(90, &[&[1, 2], &[1]]), Promise::Diverged, None);
    assert_eq!(violation.operations, [2]);
    none(script(writes()).then(90, &[&[1, 2], &[2, 1]]));
}

#[test]
fn only_promises_that_hold_are_checked() {
    let script = script([get(1, (10, 20), &[7])]);
    assert_eq!(check_with(&script.0, &Promises::all().without(Promise::MadeUp)), []);
    assert_eq!(check_with(&script.0, &Promises::only(Promise::MadeUp)).len(), 1);
}

#[test]
fn a_violation_is_told_once_however_often_it_is_seen() {
    one(
        script((1..50).map(|number| get(number, (10, 20), &[77]))),
        Promise::MadeUp,
        77,
    );
}

#[test]
fn a_session_sees_its_own_write_unless_that_may_be_replaced() {
    let weak = |number, times, values| get(number, times, values).sloppy().by(1, 0);
    let read = |by| {
        script([
            put(1, (10, 20), KNOWN).by(1, 0).within(1),
            by,
            weak(3, (31, 40), &[]).within(1),
        ])
    };
    let violation = one(read(put(2, (41, 50), KNOWN)), Promise::Session, 1);
    assert_eq!(violation.operations, [1, 3]);
    none(read(put(2, (35, 50), KNOWN)));
    none(read(put(2, (21, 30), shown(&[1]))));
    none(script([
        put(1, (10, 20), KNOWN).by(1, 0).within(1),
        weak(3, (31, 40), &[]).within(2),
    ]));
    none(script([
        put(1, (10, 20), KNOWN).by(1, 0).within(1),
        weak(3, (31, 40), &[]),
    ]));
    let unknown = put(1, (10, 20), KNOWN).within(1).but(Outcome::Unknown);
    none(script([unknown, weak(3, (31, 40), &[]).within(1)]));
}

#[test]
fn what_a_session_knew_to_be_gone_does_not_come_back_to_it() {
    let weak = |number, times, values| get(number, times, values).sloppy().by(1, 0).within(1);
    let foreign = || put(1, (1, 100), KNOWN).unanswered();
    let gone = script([
        foreign(),
        weak(2, (10, 20), &[1]),
        weak(3, (21, 30), &[]),
        weak(4, (31, 40), &[1]),
    ]);
    assert_eq!(one(gone, Promise::Session, 1).operations, [1, 3, 4]);
    let replaced = |by| script([foreign(), weak(2, (10, 20), &[1]), by, weak(4, (31, 40), &[1])]);
    one(
        replaced(delete(3, (21, 30), KNOWN).by(1, 0).within(1)),
        Promise::Session,
        1,
    );
    none(replaced(delete(3, (21, 30), KNOWN).by(1, 0)));
    none(replaced(delete(3, (21, 30), KNOWN).within(1).but(Outcome::Unknown)));
    none(replaced(delete(3, (21, 30), shown(&[])).by(1, 0).within(1)));
}
