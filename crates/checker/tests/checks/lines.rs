//! A history survives being written and read.

use annulus_checker::{History, HistoryError, check};
use proptest::prelude::*;

use crate::arbitrary;

proptest! {
    #[test]
    fn prop_a_history_is_read_as_it_was_written(history in arbitrary::history()) {
        let mut lines = Vec::new();
        history.write(&mut lines).unwrap();
        let read = History::read(lines.as_slice()).unwrap();
        prop_assert_eq!(check(&read), check(&history));
        prop_assert_eq!(read, history);
    }

    #[test]
    fn prop_no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = History::read(bytes.as_slice());
    }

    #[test]
    fn prop_no_numbers_make_the_check_panic(mut history in arbitrary::history(), far in any::<u64>(), odd in any::<usize>()) {
        if let Some(operation) = history.operations.get_mut(odd % 24) {
            operation.start_us = far;
            operation.deadline_us = far.wrapping_mul(3);
            operation.end_us = Some(far.wrapping_add(far));
        }
        history.buckets.values_mut().for_each(|bucket| bucket.ttl_ms = Some(far));
        check(&history);
    }
}

#[test]
fn a_line_that_is_none_is_named_by_its_number() {
    let error = History::read("\n\n{\"type\":\"unheard of\"}\n".as_bytes()).unwrap_err();
    assert!(matches!(error, HistoryError::Line { line: 3, .. }), "{error}");
}
