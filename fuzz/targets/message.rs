//! Any bytes are a message or are refused, and a message that was read is written and read again as itself.
#![no_main]

use annulus_protocol::Message;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::decode(Bytes::copy_from_slice(data)) {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(Message::decode(out.into()), Ok(message));
    }
});
