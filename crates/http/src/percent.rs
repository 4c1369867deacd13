//! Percent-encoding is undone strictly: an escape that is none is refused, never passed through.

use std::borrow::Cow;

/// A `%` that two hexadecimal digits do not follow; holds its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadEscape(pub usize);

/// The bytes that a part of a path stands for (RFC 3986 §2.1).
pub(crate) fn decode_path(text: &str) -> Result<Cow<'_, [u8]>, BadEscape> {
    decode(text.as_bytes(), b'+')
}

/// The bytes that a part of a query stands for; `+` is a space there, as forms write it (WHATWG URL §5.1).
pub(crate) fn decode_query(text: &str) -> Result<Cow<'_, [u8]>, BadEscape> {
    decode(text.as_bytes(), b' ')
}

fn decode(text: &[u8], plus: u8) -> Result<Cow<'_, [u8]>, BadEscape> {
    let special = |&byte: &u8| byte == b'%' || (byte == b'+' && plus != b'+');
    let Some(first) = text.iter().position(special) else {
        return Ok(Cow::Borrowed(text));
    };
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(&text[..first]);
    let mut at = first;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'%' => {
                let (high, low) = (digit(text, at + 1), digit(text, at + 2));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(BadEscape(at));
                };
                bytes.push(high << 4 | low);
                at += 3;
            }
            b'+' => {
                bytes.push(plus);
                at += 1;
            }
            other => {
                bytes.push(other);
                at += 1;
            }
        }
    }
    Ok(Cow::Owned(bytes))
}

fn digit(text: &[u8], at: usize) -> Option<u8> {
    match *text.get(at)? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The naive twin of an encoder: everything is escaped.
    fn escape(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
    }

    #[test]
    fn a_plus_is_a_space_in_a_query_only() {
        assert_eq!(decode_path("a+b").as_deref(), Ok(&b"a+b"[..]));
        assert_eq!(decode_query("a+b%2B").as_deref(), Ok(&b"a b+"[..]));
    }

    #[test]
    fn an_escape_that_is_none_is_refused_with_its_position() {
        for (text, at) in [("%", 0), ("a%4", 1), ("ab%zz", 2), ("%4g", 0), ("%41%", 3), ("%+1", 0)] {
            assert_eq!(decode_path(text), Err(BadEscape(at)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn prop_all_bytes_survive_being_escaped(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode_path(&escape(&bytes)).expect("escaped").into_owned(), bytes.clone());
            prop_assert_eq!(decode_query(&escape(&bytes)).expect("escaped").into_owned(), bytes);
        }

        #[test]
        fn prop_text_without_escapes_is_what_it_says(text in "[a-z/~._-]{0,64}") {
            prop_assert_eq!(decode_path(&text).expect("plain").into_owned(), text.into_bytes());
        }

        #[test]
        fn prop_no_text_panics(text in "\\PC*") {
            let _ = (decode_path(&text), decode_query(&text));
        }
    }
}
