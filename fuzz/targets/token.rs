//! Any text is a token of this cluster and key or is refused, and a context that was opened is sealed as it was.
#![no_main]

use annulus_causality::TokenKey;
use libfuzzer_sys::fuzz_target;

/// The key and the scope of the seed.
const KEY: TokenKey = TokenKey::new([7; 32]);
const SCOPE: &[u8] = b"photos\0cat";

fuzz_target!(|data: &[u8]| {
    let Ok(token) = std::str::from_utf8(data) else { return };
    if let Ok(context) = KEY.open(SCOPE, token) {
        assert_eq!(KEY.open(SCOPE, &KEY.seal(SCOPE, &context)), Ok(context));
    }
});
