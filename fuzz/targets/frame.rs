//! A stream gives the same frames and the same error whether it comes at once or in pieces.
#![no_main]

use annulus_protocol::{FrameError, FrameReader};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const LIMIT: u32 = 1 << 16;

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<FrameError>) {
    let mut reader = FrameReader::new(LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        reader.space().extend_from_slice(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, stream)) = data.split_first() else {
        return;
    };
    let at_once = read(std::iter::once(stream));
    assert_eq!(read(stream.chunks(usize::from(first).max(1))), at_once);
});
