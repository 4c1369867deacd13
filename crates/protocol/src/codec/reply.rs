//! The answer to a forwarded request: what was found or written, or why nothing was.

use annulus_causality::{DecodeError, Reader, put_bytes, put_u8};
use annulus_coordinator::{Answer, Failure, Found, Outcome, Reply, Written};

use super::value::{Wire, wire_enum, wire_struct};

/// What a request can have wrong, as its client wrote it. A name is sent as itself, so the table may grow.
const PARAMETERS: [&str; 23] = [
    "r",
    "w",
    "sloppy",
    "durability",
    "timeout",
    "n",
    "conflicts",
    "ttl",
    "max_siblings",
    "op",
    "by",
    "field",
    "prefix",
    "start",
    "limit",
    "bucket",
    "key",
    "value",
    "Content-Type",
    "Annulus-Context",
    "Annulus-Meta",
    "If-Match",
    "If-None-Match",
];

/// A parameter's name that this version does not know is read as this.
const UNKNOWN_PARAMETER: &str = "parameter";

const FOUND: u8 = 0;
const WRITTEN: u8 = 1;
const FAILED: u8 = 2;

impl Wire for Reply {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Ok(Answer::Found(found)) => {
                put_u8(out, FOUND);
                found.put(out);
            }
            Ok(Answer::Written(written)) => {
                put_u8(out, WRITTEN);
                written.put(out);
            }
            Ok(_) => {
                put_u8(out, FAILED);
                Failure::NotReady {
                    reason: "the coordinator's answer is none about a key".to_owned(),
                }
                .put(out);
            }
            Err(failure) => {
                put_u8(out, FAILED);
                failure.put(out);
            }
        }
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        match reader.u8(what)? {
            FOUND => Found::read(reader, what).map(|found| Ok(Answer::Found(found))),
            WRITTEN => Written::read(reader, what).map(|written| Ok(Answer::Written(written))),
            FAILED => Failure::read(reader, what).map(Err),
            _ => Err(reader.malformed(what)),
        }
    }
}

wire_struct!(Found {
    versions,
    etag,
    token,
    answered,
    n,
    seen
});

wire_struct!(Written {
    token,
    answered,
    n,
    fallbacks,
    seen
});

wire_enum!(Outcome {
    0 => None,
    1 => Unknown,
});

wire_enum!(Failure {
    0 => Invalid { parameter, detail },
    1 => InvalidContext { detail },
    2 => NoSuchBucket { bucket },
    3 => BucketHoldsKeys { bucket, detail },
    4 => TooManySiblings { siblings, limit },
    5 => ConditionFailed { etag },
    6 => QuorumUnreachable { required, answered, n, outcome },
    7 => TimedOut { required, answered, outcome },
    8 => NotReady { reason },
    9 => StorageUnavailable { detail },
    10 => Overloaded { detail },
    11 => Damaged { detail },
    12 => InvalidSession { detail },
    13 => SessionBehind { partition, missing, answered, n },
    14 => WrongOperation { bucket, detail },
    15 => LimitReached { detail },
    16 => StampBehind { latest },
});

/// The name of a parameter, which is all that is static on the wire.
impl Wire for &'static str {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        let name = reader.bytes(what)?;
        Ok(PARAMETERS
            .into_iter()
            .find(|known| known.as_bytes() == name)
            .unwrap_or(UNKNOWN_PARAMETER))
    }
}
