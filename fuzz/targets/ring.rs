//! Any bytes are a valid ring or are refused, and a ring that was read is written as it came.
#![no_main]

use annulus_ring::Ring;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(ring) = Ring::decode(data) {
        ring.validate().expect("a ring that was decoded is valid");
        let mut out = Vec::new();
        ring.encode(&mut out);
        assert_eq!(out, data);
    }
});
