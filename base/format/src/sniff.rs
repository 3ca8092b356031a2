//! What kind of file some bytes are, by their first or last ones; says nothing of their health.

use crate::chunk::layout;
use crate::raw::{file, segment};

/// What a zstd frame begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A kind of file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// Chunk file.
    Chunk,
    /// Raw file.
    Raw,
    /// Segment of the embedded log.
    Segment,
    /// JSON document.
    Document,
    /// Body that a document names; other zstd files begin with the same bytes.
    Body,
}

impl FileKind {
    /// The kind of a file's bytes; `None` when they are none of ours. One good end is enough, so that damage at the other is called damage.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(layout::HEADER_MAGIC) || bytes.ends_with(layout::TRAILER_MAGIC) {
            Some(Self::Chunk)
        } else if bytes.starts_with(file::MAGIC) || bytes.ends_with(file::MAGIC) {
            Some(Self::Raw)
        } else if bytes.starts_with(&segment::MAGIC) {
            Some(Self::Segment)
        } else if bytes.starts_with(b"{\"_format\":\"") || has_checksum(bytes) {
            Some(Self::Document)
        } else {
            bytes.starts_with(&ZSTD_MAGIC).then_some(Self::Body)
        }
    }
}

/// Whether the bytes end as a document does.
fn has_checksum(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(24)..];
    tail.windows(11).any(|part| part == b",\"~crc32c\":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_end_tells() {
        assert_eq!(FileKind::of(b"TLRCHUNK.."), Some(FileKind::Chunk));
        assert_eq!(FileKind::of(b"..TLRCHEND"), Some(FileKind::Chunk));
        assert_eq!(FileKind::of(b"tlr.raw\0.."), Some(FileKind::Raw));
        assert_eq!(FileKind::of(b"tlrseg\0\0.."), Some(FileKind::Segment));
        assert_eq!(FileKind::of(b"{\"_format\":\"seal/0\""), Some(FileKind::Document));
        assert_eq!(FileKind::of(b"x\"_format\":\"seal/0\",\"~crc32c\":\"01234567\"}"), Some(FileKind::Document));
        assert_eq!(FileKind::of(&[0x28, 0xb5, 0x2f, 0xfd, 0]), Some(FileKind::Body));
        assert_eq!([&b""[..], b"{\"a\":1}", b"tlr"].map(FileKind::of), [None; 3]);
    }
}
