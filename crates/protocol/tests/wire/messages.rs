//! What is encoded is what is decoded, and nothing else is.

use allocation_counter::measure;
use annulus_coordinator::{Answer, Failure};
use annulus_protocol::{Message, MessageError};
use bytes::Bytes;
use proptest::prelude::*;

use crate::samples;
use crate::strategies::message;

pub(crate) fn encoded(message: &Message) -> Bytes {
    let mut out = Vec::new();
    message.encode(&mut out);
    out.into()
}

proptest! {
    #[test]
    fn a_message_is_read_as_it_was_written(message in message()) {
        prop_assert_eq!(Message::decode(encoded(&message)), Ok(message));
    }

    #[test]
    fn a_message_that_ends_early_is_refused(message in message(), cut in any::<proptest::sample::Index>()) {
        let whole = encoded(&message);
        let part = whole.slice(..cut.index(whole.len()));
        prop_assert!(Message::decode(part).is_err());
    }

    #[test]
    fn bytes_behind_a_message_are_refused(message in message(), more in any::<u8>()) {
        let mut bytes = encoded(&message).to_vec();
        bytes.push(more);
        prop_assert!(Message::decode(bytes.into()).is_err());
    }

    #[test]
    fn what_is_appended_leaves_what_was_there(message in message(), before in any::<[u8; 4]>()) {
        let mut out = before.to_vec();
        message.encode(&mut out);
        prop_assert_eq!(&out[..4], &before);
        prop_assert_eq!(&out[4..], &encoded(&message));
    }
}

#[test]
fn an_unknown_tag_is_refused_by_name() {
    let error = Message::decode(Bytes::from_static(&[0xee, 1, 2])).unwrap_err();
    assert_eq!(error, MessageError::UnknownTag { tag: 0xee });
    assert_eq!(error.to_string(), "unknown message tag 238");
}

#[test]
fn an_empty_frame_is_refused() {
    assert_eq!(
        Message::decode(Bytes::new()).unwrap_err().to_string(),
        "truncated message at byte 0"
    );
}

#[test]
fn the_error_names_the_field() {
    let error = Message::decode(Bytes::from_static(&[5])).unwrap_err();
    assert_eq!(error.to_string(), "truncated request at byte 1");
}

#[test]
fn encoding_allocates_nothing_beside_the_output() {
    let mut out = Vec::with_capacity(64 << 10);
    for message in samples::messages() {
        let cost = measure(|| message.encode(&mut out));
        assert_eq!(cost.count_total, 0, "{}", message.kind());
    }
}

#[test]
fn a_value_is_a_slice_of_the_frame() {
    let frame = encoded(&Message::Ring(Bytes::from_static(b"a ring")));
    let Ok(Message::Ring(ring)) = Message::decode(frame.clone()) else {
        panic!("a ring was encoded")
    };
    assert_eq!(ring.as_ptr(), frame[2..].as_ptr());
}

#[test]
fn a_parameter_that_this_version_does_not_know_is_still_a_failure() {
    let invalid = |parameter| {
        let failure = Failure::Invalid {
            parameter,
            detail: "too large".to_owned(),
        };
        Message::Forwarded {
            number: 1,
            attempt: 1,
            reply: Some(Err(failure)),
        }
    };
    assert_eq!(
        Message::decode(encoded(&invalid("max_siblings"))),
        Ok(invalid("max_siblings"))
    );
    assert_eq!(
        Message::decode(encoded(&invalid("of a later version"))),
        Ok(invalid("parameter"))
    );
}

#[test]
fn an_answer_that_is_none_about_a_key_goes_out_as_a_failure() {
    let message = Message::Forwarded {
        number: 1,
        attempt: 1,
        reply: Some(Ok(Answer::Ready)),
    };
    let Ok(Message::Forwarded {
        reply: Some(Err(Failure::NotReady { .. })),
        ..
    }) = Message::decode(encoded(&message))
    else {
        panic!("the client is told that there is no answer")
    };
}

#[test]
fn kinds_have_ascending_tags_and_names_of_their_own() {
    let kinds = Message::kinds();
    assert!(kinds.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let names: std::collections::BTreeSet<_> = kinds.iter().map(|(_, name)| name).collect();
    assert_eq!(names.len(), kinds.len());
}
