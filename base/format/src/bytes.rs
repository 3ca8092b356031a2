//! Fixed-width little-endian fields, varints and seeded checksums; the reader never allocates by a number it read.

use crate::FormatError;

/// A cursor over outside bytes; every take is checked.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    what: &'static str,
    rest: &'a [u8],
    /// Bytes of memory that what is decoded may still take, where few bytes can stand for much.
    allowance: u64,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` as a `what` (for messages).
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self::within(what, bytes, u64::MAX)
    }

    /// The same, with so many bytes of memory to [`Self::pay`] from.
    pub fn within(what: &'static str, bytes: &'a [u8], allowance: u64) -> Self {
        Self { what, rest: bytes, allowance }
    }

    /// Takes the memory of `count` decoded items from the allowance, before it is allocated.
    ///
    /// # Errors
    /// There is less left.
    pub fn pay(&mut self, count: usize, item_bytes: usize) -> Result<(), FormatError> {
        let needed = (count as u64).saturating_mul(item_bytes as u64);
        let left = self.allowance.checked_sub(needed);
        self.allowance = left.ok_or_else(|| {
            let left = self.allowance;
            FormatError::invalid(
                self.what,
                format!("{needed} bytes of memory to decode more, {left} are left: more than a file of its length may take"),
            )
        })?;
        Ok(())
    }

    /// What is left to pay from.
    pub fn allowance(&self) -> u64 {
        self.allowance
    }

    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        if n > self.rest.len() {
            return Err(FormatError::Truncated { what: self.what, needed: n as u64, present: self.rest.len() as u64 });
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// LEB128, at most ten bytes, no bits beyond 64.
    pub fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FormatError::invalid(self.what, "varint longer than 64 bits"))
    }

    /// A varint that counts items of at least `item_bytes` each, so never more than the bytes left can hold.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize, FormatError> {
        let count = self.varint()?;
        let most = self.rest.len() / item_bytes.max(1);
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or(FormatError::Truncated {
            what: self.what,
            needed: count.saturating_mul(item_bytes as u64),
            present: self.rest.len() as u64,
        })
    }

    /// Ends the reading: left-over bytes are an error.
    pub fn finish(self) -> Result<(), FormatError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FormatError::invalid(self.what, format!("{} bytes too many", self.rest.len()))) }
    }
}

/// Appends a LEB128 varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// CRC32C of `bytes`, seeded with what they are: `seed` names kind, shard, region, position.
pub fn seeded_crc(seed: &[u8], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(seed), bytes)
}

/// Checks a stored checksum against [`seeded_crc`]. Under `--cfg fuzzing` any will do: a search that has to guess checksums finds nothing else.
pub fn check_crc(what: &'static str, seed: &[u8], bytes: &[u8], stored: u32) -> Result<(), FormatError> {
    let computed = seeded_crc(seed, bytes);
    if computed == stored || cfg!(fuzzing) { Ok(()) } else { Err(FormatError::Checksum { what, stored, computed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_refuse_overflow() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut cursor = Cursor::new("test", &out);
            assert_eq!(cursor.varint(), Ok(value));
            assert!(cursor.finish().is_ok());
            assert!(Cursor::new("test", &out[..out.len() - 1]).varint().is_err());
        }
        assert!(Cursor::new("test", &[0xff; 10]).varint().is_err());
        assert!(Cursor::new("test", &[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).count(1).is_err());
    }
}
