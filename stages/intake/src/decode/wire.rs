//! Protobuf's wire format, read in place.

use crate::refusal::Refusal;

/// A protobuf message that is being read.
pub(super) struct Wire<'a>(pub(super) &'a [u8]);

/// A field's payload.
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32,
}

fn bad(what: &str) -> Refusal {
    super::undecodable(format!("protobuf: {what}"))
}

impl<'a> Wire<'a> {
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(bad("a varint does not end"))
    }

    /// A length-delimited payload, its tag already read.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Refusal> {
        let len = match self.0 {
            [len, rest @ ..] if *len < 0x80 => {
                self.0 = rest;
                usize::from(*len)
            }
            _ => usize::try_from(self.varint()?).map_err(|_| bad("a length is too large"))?,
        };
        let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(|| bad("a field is cut short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next field; `None` at the end. Groups are no part of proto3 and an error.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Refusal> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
            return Err(bad("a field number is out of range"));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => Value::Bytes(self.bytes()?),
            5 => {
                self.fixed::<4>()?;
                Value::Fixed32
            }
            _ => return Err(bad("an unknown wire type")),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| bad("a field is cut short"))?;
        self.0 = rest;
        Ok(*bytes)
    }
}
