//! Header, trailer, and the seals: which bytes stand where, and what every checksum is seeded with.
//!
//! ```text
//! header 32 B    magic "TLRCHUNK" | major u16 | minor u16 | flags u32 = 0 | start_ms i64 | span_ms u32 | crc u32
//! trailer 64 B   times_at u64 | series_at u64 | labels_at u64 | directory_at u64 | start_ms i64 | span_ms u32 | encoder u32
//!                | major u16 | minor u16 | crc u32 | magic "TLRCHEND"
//! seed 33 B      "TLRCHUNK" | shard kind u8 (1 mod, 2 org) | 0 | mod count u16 | mod index or org u32 | start_ms i64 | region u8 | position u64
//! ```

use std::ops::Range;

use tailors_model::ShardId;
use tailors_model::limits::CHECKED_BYTES_MAX;

use crate::FormatError;
use crate::bytes::{Cursor, check_crc, seeded_crc};

pub(super) const WHAT: &str = "chunk file";
pub(super) const MAJOR: u16 = 1;
pub(super) const MINOR: u16 = 0;
pub(super) const HEADER_BYTES: usize = 32;
pub(super) const TRAILER_BYTES: usize = 64;
pub(super) const CRC_BYTES: usize = 4;
pub(crate) const HEADER_MAGIC: &[u8; 8] = b"TLRCHUNK";
pub(crate) const TRAILER_MAGIC: &[u8; 8] = b"TLRCHEND";

/// Time span of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Start, Unix milliseconds, inclusive.
    pub start_ms: i64,
    /// Length in milliseconds.
    pub span_ms: u32,
}

/// Regions of a file, as checksums name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Region {
    Header = 1,
    Pages = 2,
    Times = 3,
    Series = 4,
    Labels = 5,
    Directory = 6,
    Trailer = 7,
}

/// What the checksums of one file are seeded with, position and region apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal {
    shard: ShardId,
    start_ms: i64,
}

impl Seal {
    pub(super) fn new(shard: ShardId, span: Span) -> Self {
        Self { shard, start_ms: span.start_ms }
    }

    fn seed(self, region: Region, position: u64) -> [u8; 33] {
        let mut seed = [0; 33];
        seed[..8].copy_from_slice(HEADER_MAGIC);
        match self.shard {
            ShardId::Mod { count, index } => {
                seed[8] = 1;
                seed[10..12].copy_from_slice(&count.to_le_bytes());
                seed[12..16].copy_from_slice(&u32::from(index).to_le_bytes());
            }
            ShardId::Org(org) => {
                seed[8] = 2;
                seed[12..16].copy_from_slice(&org.0.to_le_bytes());
            }
        }
        seed[16..24].copy_from_slice(&self.start_ms.to_le_bytes());
        seed[24] = region as u8;
        seed[25..33].copy_from_slice(&position.to_le_bytes());
        seed
    }

    /// Checksum of `bytes`, which begin at `position` of the file.
    pub(super) fn crc(self, region: Region, position: u64, bytes: &[u8]) -> u32 {
        seeded_crc(&self.seed(region, position), bytes)
    }

    /// Appends a section in pieces of at most 1 MiB, each followed by its checksum; `out` is the file so far.
    pub(super) fn put_section(self, out: &mut Vec<u8>, region: Region, section: &[u8]) {
        let empty: &[u8] = &[];
        let pieces = section.chunks(CHECKED_BYTES_MAX).chain(section.is_empty().then_some(empty));
        for piece in pieces {
            let crc = self.crc(region, out.len() as u64, piece);
            out.extend_from_slice(piece);
            out.extend_from_slice(&crc.to_le_bytes());
        }
    }

    /// The section stored in `bytes`, which begin at `position` of the file.
    pub(super) fn take_section(self, what: &'static str, region: Region, position: u64, bytes: &[u8]) -> Result<Vec<u8>, FormatError> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = position;
        let mut rest = bytes;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(CHECKED_BYTES_MAX + CRC_BYTES));
            out.extend_from_slice(self.checked(what, region, at, piece)?);
            at += piece.len() as u64;
            rest = after;
            if rest.is_empty() {
                return Ok(out);
            }
        }
    }

    /// `bytes` without the checksum they end with, which is checked.
    pub(super) fn checked<'a>(self, what: &'static str, region: Region, position: u64, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(FormatError::Truncated {
            what,
            needed: CRC_BYTES as u64,
            present: bytes.len() as u64,
        })?;
        check_crc(what, &self.seed(region, position), body, u32::from_le_bytes(*crc))?;
        Ok(body)
    }
}

pub(super) fn put_header(out: &mut Vec<u8>, seal: Seal, span: Span) {
    out.extend_from_slice(HEADER_MAGIC);
    out.extend_from_slice(&MAJOR.to_le_bytes());
    out.extend_from_slice(&MINOR.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&span.start_ms.to_le_bytes());
    out.extend_from_slice(&span.span_ms.to_le_bytes());
    let crc = seal.crc(Region::Header, 0, out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Checks a header against what the trailer said.
pub(super) fn check_header(bytes: &[u8], seal: Seal, span: Span) -> Result<(), FormatError> {
    let mut expected = Vec::with_capacity(HEADER_BYTES);
    put_header(&mut expected, seal, span);
    let what = "chunk file header";
    let header = Cursor::new(what, bytes).take(HEADER_BYTES)?;
    if !header.starts_with(HEADER_MAGIC) {
        return Err(FormatError::Magic { what });
    }
    seal.checked(what, Region::Header, 0, header)?;
    // Another minor is read; the bytes behind it are the same, but for the checksum that was compared.
    let same = |range: Range<usize>| header.get(range.clone()) == expected.get(range);
    if same(0..10) && same(12..HEADER_BYTES - CRC_BYTES) {
        Ok(())
    } else {
        Err(FormatError::invalid(what, "says something else than the trailer"))
    }
}

/// Where the sections of a file lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trailer {
    pub(super) times_at: u64,
    pub(super) series_at: u64,
    pub(super) labels_at: u64,
    pub(super) directory_at: u64,
    pub(super) span: Span,
    pub(super) encoder: u32,
}

impl Trailer {
    /// Seeded with its position, so that a file with bytes cut out or put in is none; the shard is checked by every section.
    fn seed(position: u64) -> [u8; 17] {
        let mut seed = [0; 17];
        seed[..8].copy_from_slice(TRAILER_MAGIC);
        seed[8] = Region::Trailer as u8;
        seed[9..].copy_from_slice(&position.to_le_bytes());
        seed
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let at = out.len();
        for field in [self.times_at, self.series_at, self.labels_at, self.directory_at] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.span.start_ms.to_le_bytes());
        out.extend_from_slice(&self.span.span_ms.to_le_bytes());
        out.extend_from_slice(&self.encoder.to_le_bytes());
        out.extend_from_slice(&MAJOR.to_le_bytes());
        out.extend_from_slice(&MINOR.to_le_bytes());
        let crc = seeded_crc(&Self::seed(at as u64), &out[at..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(TRAILER_MAGIC);
    }

    pub(super) fn read(bytes: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let what = "chunk file trailer";
        let truncated = |needed, present| FormatError::Truncated { what, needed, present };
        let bytes: &[u8; TRAILER_BYTES] = bytes.last_chunk().ok_or(truncated(TRAILER_BYTES as u64, bytes.len() as u64))?;
        let at = file_len.checked_sub(TRAILER_BYTES as u64).ok_or(truncated(TRAILER_BYTES as u64, file_len))?;
        if !bytes.ends_with(TRAILER_MAGIC) {
            return Err(FormatError::Magic { what });
        }
        let mut cursor = Cursor::new(what, &bytes[..TRAILER_BYTES - 8]);
        let trailer = Self {
            times_at: cursor.u64()?,
            series_at: cursor.u64()?,
            labels_at: cursor.u64()?,
            directory_at: cursor.u64()?,
            span: Span { start_ms: cursor.i64()?, span_ms: cursor.u32()? },
            encoder: cursor.u32()?,
        };
        let (major, _minor) = (cursor.u16()?, cursor.u16()?);
        check_crc(what, &Self::seed(at), &bytes[..TRAILER_BYTES - 12], cursor.u32()?)?;
        // A newer minor may have added numbers; one that is not known is refused where it stands.
        if major != MAJOR {
            return Err(FormatError::Unknown { what, field: "major version", number: u64::from(major) });
        }
        // Far beyond every date, and far from where sums of times overflow.
        if trailer.span.start_ms.unsigned_abs() > 1 << 62 {
            return Err(FormatError::invalid(what, "span beyond the end of time"));
        }
        let edges = [HEADER_BYTES as u64, trailer.times_at, trailer.series_at, trailer.labels_at, trailer.directory_at, at];
        if !edges.is_sorted() {
            return Err(FormatError::invalid(what, "sections out of order"));
        }
        Ok(trailer)
    }

    /// Sections as ranges of the file; `end` = where the trailer begins.
    pub(super) fn sections(&self, end: u64) -> [(Region, &'static str, Range<u64>); 4] {
        [
            (Region::Times, "chunk file times", self.times_at..self.series_at),
            (Region::Series, "chunk file series index", self.series_at..self.labels_at),
            (Region::Labels, "chunk file labels", self.labels_at..self.directory_at),
            (Region::Directory, "chunk file directory", self.directory_at..end),
        ]
    }
}
