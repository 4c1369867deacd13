//! Whoever dials, the handshake gives an opening, asks for more, or refuses; an opening is sent again as it came.
#![no_main]

use annulus_protocol::{Handshake, Opening, negotiate};
use libfuzzer_sys::fuzz_target;

fn read(data: &[u8]) -> Option<Opening> {
    let mut handshake = Handshake::new();
    handshake.space().extend_from_slice(data);
    handshake.opening().ok().flatten()
}

fuzz_target!(|data: &[u8]| {
    let Some(opening) = read(data) else { return };
    if let Opening::Hello(hello) = &opening {
        assert_eq!(negotiate(hello, hello), Ok(hello.protocol_max));
    }
    let mut out = Vec::new();
    opening
        .append(&mut out)
        .expect("what came in one frame of a handshake fits into one");
    assert_eq!(read(&out), Some(opening));
});
