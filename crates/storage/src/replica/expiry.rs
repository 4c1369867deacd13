//! The expiry index has the objects with a version that expires in order of time: what is over is found without reading what is not.
//!
//! Key of the record: when the first version of the object expires, and the object's key. Value: nothing, as the object itself says what has
//! expired: a record that it does not bear out, as damage may leave behind, is dropped. Records move in the batch that moves their object, and
//! cost those alone whose versions expire.

use std::ops::ControlFlow;

use annulus_causality::Object;
use annulus_mutants::{Mutant, planted};
use annulus_ring::Address;
use bytes::Bytes;

use super::{Replica, SCOPE_OFFSET, object_key, parse_scope};
use crate::engine::{Engine, EngineError, Space};
use crate::staged::Staged;

/// An object whose first version has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// Its key.
    pub address: Address,
    /// When its first version expired, in milliseconds since the Unix epoch.
    pub expires: u64,
}

impl Expiring {
    fn key(&self) -> Bytes {
        key(self.expires, &object_key(&self.address))
    }
}

/// Stages what changes for an object whose first expiry changes.
pub(super) fn stage(staged: &mut Staged, object_key: &Bytes, before: Option<u64>, after: &Object) {
    let after = after.first_expiry();
    if before == after {
        return;
    }
    if let Some(expires) = before {
        staged.delete(Space::Expiry, key(expires, object_key));
    }
    if let Some(expires) = after.filter(|_| before.is_none() || !planted(Mutant::ExpiryForgotten)) {
        staged.put(Space::Expiry, key(expires, object_key), Bytes::new());
    }
}

fn key(expires: u64, object_key: &[u8]) -> Bytes {
    [&expires.to_be_bytes()[..], object_key].concat().into()
}

impl<E: Engine> Replica<E> {
    /// Objects with a version that had expired before `until` (milliseconds since the Unix epoch), those that expired first at first, at
    /// most `limit` of them, behind `after` or from the beginning.
    ///
    /// What was staged since the last commit is not looked at.
    pub fn expiring(&self, after: Option<&Expiring>, until: u64, limit: usize) -> Result<Vec<Expiring>, EngineError> {
        self.check()?;
        let mut from = after.map(|after| after.key().to_vec()).unwrap_or_default();
        // The least key behind it.
        from.extend(after.map(|_| 0));
        let mut found = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            let expires = key.first_chunk().map_or(0, |expires| u64::from_be_bytes(*expires));
            let n = key.get(8).copied().unwrap_or_default();
            let scope = Bytes::copy_from_slice(key.get(8 + SCOPE_OFFSET..).unwrap_or_default());
            // A key that names nothing harms nobody where it lies.
            let address = parse_scope(n, &scope, self.partitions);
            found.extend(address.map(|address| Expiring { address, expires }));
            match found.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        self.engine
            .scan(Space::Expiry, &from, Some(&until.to_be_bytes()), &mut visit)?;
        Ok(found)
    }

    /// Drops a record of the expiry index, unless its object bears it out.
    pub fn check_expiry(&mut self, expiring: &Expiring) -> Result<(), EngineError> {
        let object = self.read(&expiring.address)?;
        if object.first_expiry() != Some(expiring.expires) {
            self.staged.delete(Space::Expiry, expiring.key());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use annulus_ring::{Bucket, Key, Partitions};

    use super::*;
    use crate::engine::memory::MemoryEngine;

    #[test]
    fn a_record_that_its_object_does_not_bear_out_is_dropped() {
        let partitions = Partitions::default();
        let (bucket, name) = (Bucket::parse("b").unwrap(), Key::parse("k").unwrap());
        let address = Address::new(bucket, name, 3, partitions);
        let mut replica = Replica::open(MemoryEngine::new(), partitions).unwrap();
        for record in [key(5, &object_key(&address)), Bytes::from_static(b"no key")] {
            replica.staged.put(Space::Expiry, record, Bytes::new());
        }
        replica.commit().unwrap();
        let found = replica.expiring(None, u64::MAX, 9).unwrap();
        assert_eq!(found, [Expiring { address, expires: 5 }]);
        replica.check_expiry(&found[0]).unwrap();
        replica.commit().unwrap();
        assert_eq!(replica.expiring(None, u64::MAX, 9), Ok(Vec::new()));
    }
}
