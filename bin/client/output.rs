//! Output for programs is one JSON document; output for people shows every key in a form that a shell takes back.

use std::io::{self, Write as _};

use serde::Serialize;

use super::failure::Failure;

/// Prints a line; a reader that has gone is no panic, as it is with `println!`.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(io::Error::from)?;
    line(text)
}

/// A key as it is, if that is harmless text; otherwise quoted so that bash reads the same bytes back.
pub(crate) fn key(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.to_owned(),
        _ => {
            let quoted: String = key.iter().map(|&byte| quoted(byte)).collect();
            format!("$'{quoted}'")
        }
    }
}

fn quoted(byte: u8) -> String {
    match byte {
        b'\'' | b'\\' => format!("\\{}", byte as char),
        b' '..=b'~' => (byte as char).to_string(),
        // Three octal digits: a hexadecimal escape would swallow a digit that follows.
        _ => format!("\\{byte:03o}"),
    }
}

/// A size for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_key_is_shown_so_that_a_shell_reads_it_back() {
        assert_eq!(key(b"photos/2024/a b.jpg"), "photos/2024/a b.jpg");
        assert_eq!(key("ü".as_bytes()), "ü");
        assert_eq!(key(b"it's\n\xff7"), r"$'it\'s\012\3777'");
        assert_eq!(key(b""), "$''");
    }
}
