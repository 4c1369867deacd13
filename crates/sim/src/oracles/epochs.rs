//! One epoch has one content, whoever tells of it.

use std::collections::BTreeMap;

use annulus_ring::Ring;

/// Every ring that ever travelled.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    seen: BTreeMap<u64, u64>,
}

impl Epochs {
    /// # Errors
    /// Where another ring of this epoch was seen, or it is none.
    pub(crate) fn ring(&mut self, bytes: &[u8]) -> Result<(), String> {
        let ring = Ring::decode(bytes).map_err(|error| format!("a ring that is none was sent: {error}"))?;
        let (epoch, fingerprint) = (ring.epoch(), ring.fingerprint());
        match *self.seen.entry(epoch).or_insert(fingerprint) == fingerprint {
            true => Ok(()),
            false => Err(format!("two rings of epoch {epoch}")),
        }
    }
}
