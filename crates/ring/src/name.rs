//! One alphabet for everything that people name: 1 to 64 of `a-z A-Z 0-9 . _ -`.

/// The longest name of a bucket, node, region or zone, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFlaw {
    /// It is empty, or longer than [`MAX_NAME_BYTES`].
    #[error("it must have 1 to {MAX_NAME_BYTES} characters, and has {got} bytes")]
    Length {
        /// Its length in bytes.
        got: usize,
    },
    /// It holds a character outside the alphabet.
    #[error("only a-z A-Z 0-9 . _ - are allowed, and byte {at} begins {got:?}")]
    Character {
        /// The first character that is not allowed.
        got: char,
        /// Its offset in bytes.
        at: usize,
    },
}

pub(crate) fn check(text: &str) -> Result<(), NameFlaw> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES {
        return Err(NameFlaw::Length { got: text.len() });
    }
    match text
        .char_indices()
        .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        Some((at, got)) => Err(NameFlaw::Character { got, at }),
        None => Ok(()),
    }
}
