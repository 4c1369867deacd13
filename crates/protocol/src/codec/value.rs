//! The encodings that all others are made of; a length is never trusted further than the bytes that came.

use std::mem::size_of;
use std::time::Duration;

use annulus_causality::{
    CausalContext, DecodeError, Dot, Instant, Object, Reader, Timestamp, Version, put_bytes, put_u8, put_varint,
};
use bytes::Bytes;

use crate::message::Refusal;

/// A value that has one encoding.
pub(crate) trait Wire: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads what [`Wire::put`] wrote; `what` is the field's name, for the error.
    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError>;
}

/// An enum whose variants are told apart by one byte.
pub(crate) trait Tagged {
    /// The tags and the names of their variants, ascending.
    const VARIANTS: &'static [(u8, &'static str)];

    /// The name of this variant.
    fn variant(&self) -> &'static str;
}

/// Implements [`Wire`] for a struct from the list of its fields.
macro_rules! wire_struct {
    ($name:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::codec::value::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $( $crate::codec::value::Wire::put($field, out); )+
            }

            fn read(
                reader: &mut annulus_causality::Reader,
                _: &'static str,
            ) -> Result<Self, annulus_causality::DecodeError> {
                $( let $field = $crate::codec::value::Wire::read(reader, stringify!($field))?; )+
                Ok(Self { $($field),+ })
            }
        }
    };
}
pub(crate) use wire_struct;

/// Implements [`Wire`] and [`Tagged`] for an enum from the table of its tags, its variants and their fields.
macro_rules! wire_enum {
    ($name:ident {
        $( $tag:literal => $variant:ident $( ( $inner:ident ) )? $( { $($field:ident),+ } )? ),+ $(,)?
    }) => {
        impl $crate::codec::value::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $( Self::$variant $( ( $inner ) )? $( { $($field),+ } )? => {
                        out.push($tag);
                        $( $crate::codec::value::Wire::put($inner, out); )?
                        $( $( $crate::codec::value::Wire::put($field, out); )+ )?
                    } )+
                }
            }

            fn read(
                reader: &mut annulus_causality::Reader,
                what: &'static str,
            ) -> Result<Self, annulus_causality::DecodeError> {
                match reader.u8(what)? {
                    $( $tag => {
                        $( let $inner = $crate::codec::value::Wire::read(reader, stringify!($inner))?; )?
                        $( $( let $field = $crate::codec::value::Wire::read(reader, stringify!($field))?; )+ )?
                        Ok(Self::$variant $( ( $inner ) )? $( { $($field),+ } )?)
                    } )+
                    _ => Err(reader.malformed(what)),
                }
            }
        }

        impl $crate::codec::value::Tagged for $name {
            const VARIANTS: &'static [(u8, &'static str)] = &[ $( ($tag, stringify!($variant)) ),+ ];

            fn variant(&self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => stringify!($variant) ),+
                }
            }
        }
    };
}
pub(crate) use wire_enum;

/// Implements [`Wire`] for the types that encode themselves where they are defined.
macro_rules! wire_by_itself {
    ($($name:ty),+ $(,)?) => { $(
        impl $crate::codec::value::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.encode(out);
            }

            fn read(
                reader: &mut annulus_causality::Reader,
                _: &'static str,
            ) -> Result<Self, annulus_causality::DecodeError> {
                Self::decode(reader)
            }
        }
    )+ };
}
pub(crate) use wire_by_itself;

wire_by_itself!(CausalContext, Dot, Object, Timestamp, Version);

/// Implements [`Wire`] for integers as varints, refusing what the type cannot hold.
macro_rules! wire_varint {
    ($($name:ty),+) => { $(
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_varint(out, *self as u64);
            }

            fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
                Self::try_from(reader.varint(what)?).map_err(|_| reader.malformed(what))
            }
        }
    )+ };
}

wire_varint!(u16, u32, u64, usize);

impl Wire for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        put_u8(out, *self);
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        reader.u8(what)
    }
}

/// So many bytes without a length before them.
pub(crate) fn fixed<const N: usize>(reader: &mut Reader, what: &'static str) -> Result<[u8; N], DecodeError> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&reader.take(N, what)?);
    Ok(bytes)
}

/// A hash: all sixteen bytes, as a varint would only lengthen it.
impl Wire for u128 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        fixed(reader, what).map(Self::from_le_bytes)
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        put_u8(out, u8::from(*self));
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        match reader.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(reader.malformed(what)),
        }
    }
}

impl Wire for () {
    fn put(&self, _: &mut Vec<u8>) {}

    fn read(_: &mut Reader, _: &'static str) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self);
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        reader.bytes(what)
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        reader.string(what)
    }
}

/// Nanoseconds, as a varint.
impl Wire for Instant {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.nanos());
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        reader.varint(what).map(Self::from_nanos)
    }
}

/// Seconds and the nanoseconds of the last, begun one.
impl Wire for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.as_secs());
        put_varint(out, u64::from(self.subsec_nanos()));
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        let seconds = reader.varint(what)?;
        match u32::read(reader, what)? {
            nanos @ 0..1_000_000_000 => Ok(Self::new(seconds, nanos)),
            _ => Err(reader.malformed(what)),
        }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        T::read(reader, what).map(Box::new)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => put_u8(out, 0),
            Some(value) => {
                put_u8(out, 1);
                value.put(out);
            }
        }
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        if bool::read(reader, what)? {
            T::read(reader, what).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// What was asked of a replica. The answer to a client's request has a layout of its own.
impl<T: Wire> Wire for Result<T, Refusal> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Ok(value) => {
                put_u8(out, 0);
                value.put(out);
            }
            Err(refusal) => {
                put_u8(out, 1);
                refusal.put(out);
            }
        }
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        if bool::read(reader, what)? {
            Refusal::read(reader, what).map(Err)
        } else {
            T::read(reader, what).map(Ok)
        }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        Ok((A::read(reader, what)?, B::read(reader, what)?))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        for item in self {
            item.put(out);
        }
    }

    fn read(reader: &mut Reader, what: &'static str) -> Result<Self, DecodeError> {
        let count = reader.count(1, what)?;
        // An item may be larger in memory than on the wire: room is made ahead for no more bytes than came.
        let mut items = Self::with_capacity(count.min(reader.remaining() / size_of::<T>().max(1)));
        for _ in 0..count {
            items.push(T::read(reader, what)?);
        }
        Ok(items)
    }
}
