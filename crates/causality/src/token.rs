//! A client's causal context as an opaque text that only this cluster can have written, and only for this key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::codec::Reader;
use crate::context::CausalContext;

/// Tokens longer than this are refused before they are decoded. A node takes about thirty characters: twenty-three for all of its
/// closed incarnations, or for its first open one; then seven for the one that follows the closed ones.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The first byte of every token: the layout of what follows, and a part of what is authenticated.
const FORMAT: u8 = 1;

/// Bytes of the authentication code at the end: forging one is a guess in 2¹²⁸.
const CODE_BYTES: usize = 16;

/// The cluster's secret by which a context comes back as it was given out.
///
/// A token is URL-safe base64 without padding over the format byte, the content (a context, say), and the first 16 bytes of a
/// keyed BLAKE3 over format, scope and content.
///
/// ```
/// use annulus_causality::{CausalContext, TokenError, TokenKey};
///
/// let cluster = TokenKey::new([7; 32]);
/// let token = cluster.seal(b"bucket\0key", &CausalContext::new());
/// assert_eq!(cluster.open(b"bucket\0key", &token), Ok(CausalContext::new()));
/// assert_eq!(cluster.open(b"bucket\0other", &token), Err(TokenError::Forged));
/// ```
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

/// Why a token was refused. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not base64, too short, of a format that this node does not know, or what it holds is not what it is taken for.
    #[error("the token is malformed")]
    Malformed,
    /// The authentication code does not fit.
    #[error("the token is not of this key or this cluster, or was altered")]
    Forged,
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
}

impl TokenKey {
    /// A key of 32 secret bytes, the same on all nodes of a cluster.
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// The token of a context, good only for this scope (`bucket ‖ 0 ‖ key`).
    pub fn seal(&self, key_scope: &[u8], context: &CausalContext) -> String {
        let mut content = Vec::new();
        context.encode(&mut content);
        self.seal_bytes(key_scope, &content)
    }

    /// The token of any content, good only for this scope; [`sealed_bytes`] says how much fits into one of a given length.
    pub fn seal_bytes(&self, scope: &[u8], content: &[u8]) -> String {
        let mut token = vec![FORMAT];
        token.extend_from_slice(content);
        let code = self.code(scope, &token);
        token.extend_from_slice(&code);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The context of a token that [`TokenKey::seal`] gave for this scope.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(&self, key_scope: &[u8], token: &str) -> Result<CausalContext, TokenError> {
        let mut reader = Reader::new(self.open_bytes(key_scope, token)?);
        let context = CausalContext::decode(&mut reader).map_err(|_| TokenError::Malformed)?;
        reader.finish("token").map_err(|_| TokenError::Malformed)?;
        Ok(context)
    }

    /// The content of a token that [`TokenKey::seal_bytes`] gave for this scope.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open_bytes(&self, scope: &[u8], token: &str) -> Result<Bytes, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let mut token = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
        if token.len() <= CODE_BYTES || token[0] != FORMAT {
            return Err(TokenError::Malformed);
        }
        let code = token.split_off(token.len() - CODE_BYTES);
        if !equal_in_constant_time(&code, &self.code(scope, &token)) {
            return Err(TokenError::Forged);
        }
        Ok(Bytes::from(token).slice(1..))
    }

    /// The scope goes in behind its length, so that no part of it can be taken for the content.
    fn code(&self, scope: &[u8], format_and_content: &[u8]) -> [u8; CODE_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(scope.len() as u64).to_be_bytes());
        hasher.update(scope);
        hasher.update(format_and_content);
        let mut code = [0; CODE_BYTES];
        hasher.finalize_xof().fill(&mut code);
        code
    }
}

/// How many bytes of content a token of so many characters holds.
pub const fn sealed_bytes(token_bytes: usize) -> usize {
    (token_bytes / 4 * 3).saturating_sub(1 + CODE_BYTES)
}

/// The comparison of [`blake3::Hash`] takes the same time wherever the difference lies.
fn equal_in_constant_time(given: &[u8], expected: &[u8; CODE_BYTES]) -> bool {
    let widened = |code: &[u8]| {
        let mut hash = [0; blake3::OUT_LEN];
        hash[..CODE_BYTES].copy_from_slice(code);
        blake3::Hash::from_bytes(hash)
    };
    widened(given) == widened(expected)
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(secret)")
    }
}
