//! A raw file: extents of frames, and a trailer that finds them; one object per flush of a writer.
//!
//! ```text
//! header 32 B   0 magic "tlr.raw\0"   8 major, minor u16   12 flush u64   20 attempt u32   24 reserved u32   28 crc u32 of 0..28, seeded
//! frames        extent after extent, no gap; inside an extent frames of one (partition, section, window) in offset order
//! trailer body  varints and strings: writer; flush; attempt;
//!               offers: count, then (epoch, partition, start) each;
//!               extents: count, then partition, section, window (zigzag), bytes, payloads, points, received min (zigzag), max - min;
//!               frame index: count, then position - previous position
//! crcs          u32 per further MiB of the body
//! footer 48 B   0 file length u64   8 body length u32   12 crc u32 of the body's first MiB   16 flush u64   24 attempt u32
//!               28 major, minor u16   32 reserved u32   36 crc u32 of 0..36, seeded   40 magic "tlr.raw\0"
//! ```
//! Splittable: whoever is given `[start, end)` owns the frames that start inside it ([`FrameIter`]), so any cut yields each frame exactly once.

use super::frame::{self, Frame};
use crate::FormatError;
use crate::bytes::{Cursor, check_crc, put_varint, seeded_crc};
use crate::pieces;
use crate::version::RAW_FILE;

/// Bytes before the first extent.
pub const HEADER_BYTES: usize = 32;
/// Bytes of the footer: what [`trailer_len`] needs.
pub const FOOTER_BYTES: usize = 48;
/// Section of records whose envelope is bad.
pub const SECTION_NONE: &str = "none";

const WHAT: &str = "raw file";
pub(crate) const MAGIC: &[u8; 8] = b"tlr.raw\0";
const MAJOR: u16 = RAW_FILE.0;
const MINOR: u16 = RAW_FILE.1;
/// Distance of the entries of the frame index.
const INDEX_EVERY_BYTES: u64 = 1 << 20;
const HEADER_SEED: &[u8] = b"tailors raw header";
const FOOTER_SEED: &[u8] = b"tailors raw footer";
const BODY_SEED: &[u8] = b"tailors raw trailer";
/// Fewest bytes of an extent in the trailer body.
const EXTENT_BYTES_MIN: usize = 8;

/// Whose frames an extent holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExtentKey {
    /// Partition of the stream.
    pub partition: u32,
    /// Section: a shard's name, or [`SECTION_NONE`].
    pub section: String,
    /// Window start, Unix seconds; 0 in section `none`.
    pub window_s: i64,
}

/// A row of frames of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Whose.
    pub key: ExtentKey,
    /// First byte in the file.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Frames.
    pub payloads: u32,
    /// Points in them.
    pub points: u64,
    /// Earliest received_at, Unix microseconds.
    pub received_min_us: i64,
    /// Latest received_at, Unix microseconds.
    pub received_max_us: i64,
}

/// A start that a file offers to a partition's chain: what a node of that (epoch, partition, start) may name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Offer {
    /// Epoch of the stream.
    pub epoch: u32,
    /// Partition.
    pub partition: u32,
    /// First offset covered.
    pub start: u64,
}

/// A whole raw file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its extents, in file order.
    pub extents: Vec<Extent>,
    /// CRC32C of all bytes, unseeded: what a node and the object store check.
    pub crc32c: u32,
}

/// What a raw file's trailer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawTrailer {
    /// Writer that made the file.
    pub writer: String,
    /// Flush of that writer.
    pub flush: u64,
    /// Attempt of that flush.
    pub attempt: u32,
    /// Every (epoch, partition, start) it offers.
    pub offers: Vec<Offer>,
    /// Extents, in file order.
    pub extents: Vec<Extent>,
    /// File positions of frames, ascending: the first frame of each extent, then one per MiB.
    pub frame_index: Vec<u64>,
}

impl RawTrailer {
    /// The nearest known frame edge of an extent at or before `start`: the `base` to read from for the frames that start in `[start, ..)`.
    pub fn base_of(&self, extent: &Extent, start: u64) -> u64 {
        let below = self.frame_index.partition_point(|position| *position <= start);
        let base = below.checked_sub(1).map_or(extent.start, |last| self.frame_index[last]);
        base.max(extent.start)
    }
}

/// Writes one raw file into memory.
#[derive(Debug)]
pub struct RawFileWriter {
    writer: String,
    flush: u64,
    attempt: u32,
    bytes: Vec<u8>,
    offers: Vec<Offer>,
    extents: Vec<Extent>,
    frame_index: Vec<u64>,
    /// Key of an extent that has no frame yet.
    begun: Option<ExtentKey>,
}

impl RawFileWriter {
    /// A file of one flush.
    pub fn new(writer: &str, flush: u64, attempt: u32) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        put_version(&mut bytes);
        bytes.extend_from_slice(&flush.to_le_bytes());
        bytes.extend_from_slice(&attempt.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        let crc = seeded_crc(HEADER_SEED, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let writer = writer.to_owned();
        Self { writer, flush, attempt, bytes, offers: Vec::new(), extents: Vec::new(), frame_index: Vec::new(), begun: None }
    }

    /// Starts an extent; one that gets no frame is left out.
    pub fn begin_extent(&mut self, key: ExtentKey) {
        self.begun = Some(key);
    }

    /// Appends one encoded frame to the extent, after a check of all its checksums. For a bad envelope, points and received_at are 0.
    pub fn frame(&mut self, frame: &[u8], points: u64, received_at_us: i64) -> Result<(), FormatError> {
        let (decoded, frame_len) = frame::decode(frame)?;
        if frame_len != frame.len() {
            return Err(FormatError::invalid(WHAT, format!("{} bytes for a frame of {frame_len}", frame.len())));
        }
        let position = self.bytes.len() as u64;
        let first_of_extent = self.begun.is_some();
        if let Some(key) = self.begun.take() {
            self.extents.push(Extent {
                key,
                start: position,
                end: position,
                payloads: 0,
                points: 0,
                received_min_us: received_at_us,
                received_max_us: received_at_us,
            });
        }
        let Some(extent) = self.extents.last_mut() else {
            return Err(FormatError::invalid(WHAT, "a frame before the first extent"));
        };
        if extent.key.partition != decoded.partition {
            let why = format!("a frame of partition {} in an extent of partition {}", decoded.partition, extent.key.partition);
            return Err(FormatError::invalid(WHAT, why));
        }
        if first_of_extent || self.frame_index.last().is_none_or(|last| position - last >= INDEX_EVERY_BYTES) {
            self.frame_index.push(position);
        }
        self.bytes.extend_from_slice(frame);
        extent.end = self.bytes.len() as u64;
        extent.payloads += 1;
        extent.points += points;
        extent.received_min_us = extent.received_min_us.min(received_at_us);
        extent.received_max_us = extent.received_max_us.max(received_at_us);
        Ok(())
    }

    /// Names a start that this file offers.
    pub fn offers(&mut self, epoch: u32, partition: u32, start: u64) {
        self.offers.push(Offer { epoch, partition, start });
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no frame was written.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// The file.
    pub fn finish(mut self) -> Result<RawFile, FormatError> {
        let body = self.body();
        let body_len = u32::try_from(body.len()).map_err(|_| FormatError::invalid(WHAT, "its trailer is longer than 4 GiB"))?;
        let file_len = (self.bytes.len() + body.len() + pieces::tail_len(body.len()) + FOOTER_BYTES) as u64;
        let seed = body_seed(self.flush, self.attempt, file_len);
        let out = &mut self.bytes;
        out.extend_from_slice(&body);
        pieces::put_tail(out, &seed, &body);
        let footer = out.len();
        out.extend_from_slice(&file_len.to_le_bytes());
        out.extend_from_slice(&body_len.to_le_bytes());
        out.extend_from_slice(&pieces::first(&seed, &body).to_le_bytes());
        out.extend_from_slice(&self.flush.to_le_bytes());
        out.extend_from_slice(&self.attempt.to_le_bytes());
        put_version(out);
        out.extend_from_slice(&0u32.to_le_bytes());
        let crc = seeded_crc(FOOTER_SEED, &out[footer..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(MAGIC);
        let crc32c = crc32c::crc32c(out);
        Ok(RawFile { bytes: self.bytes, extents: self.extents, crc32c })
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, &self.writer);
        put_varint(&mut body, self.flush);
        put_varint(&mut body, u64::from(self.attempt));
        put_varint(&mut body, self.offers.len() as u64);
        for offer in &self.offers {
            for number in [u64::from(offer.epoch), u64::from(offer.partition), offer.start] {
                put_varint(&mut body, number);
            }
        }
        put_varint(&mut body, self.extents.len() as u64);
        for extent in &self.extents {
            put_varint(&mut body, u64::from(extent.key.partition));
            put_text(&mut body, &extent.key.section);
            let received_span_us = extent.received_max_us.wrapping_sub(extent.received_min_us) as u64;
            let numbers = [zigzag(extent.key.window_s), extent.end - extent.start, u64::from(extent.payloads), extent.points];
            for number in numbers.into_iter().chain([zigzag(extent.received_min_us), received_span_us]) {
                put_varint(&mut body, number);
            }
        }
        put_varint(&mut body, self.frame_index.len() as u64);
        let mut previous = 0;
        for position in &self.frame_index {
            put_varint(&mut body, position - previous);
            previous = *position;
        }
        body
    }
}

/// Bytes of the whole trailer (body, checksums, footer), from the file's last [`FOOTER_BYTES`] or more.
pub fn trailer_len(tail: &[u8]) -> Result<usize, FormatError> {
    let (_, footer) = split_footer(tail)?;
    Ok(footer.body_len + pieces::tail_len(footer.body_len) + FOOTER_BYTES)
}

/// The trailer, from the last bytes of a file of `file_len` bytes. Too few of them: `Truncated`, which says how many are needed.
pub fn read_trailer(tail: &[u8], file_len: u64) -> Result<RawTrailer, FormatError> {
    let (before, footer) = split_footer(tail)?;
    if footer.file_len != file_len {
        return Err(FormatError::invalid(WHAT, format!("{file_len} bytes long, its footer says {}", footer.file_len)));
    }
    let needed = footer.body_len + pieces::tail_len(footer.body_len);
    if needed > before.len() {
        return Err(FormatError::Truncated { what: WHAT, needed: (needed + FOOTER_BYTES) as u64, present: tail.len() as u64 });
    }
    let (body, crcs) = before[before.len() - needed..].split_at(footer.body_len);
    pieces::check(WHAT, &body_seed(footer.flush, footer.attempt, file_len), body, footer.body_crc, crcs)?;
    let body_start = file_len.checked_sub((needed + FOOTER_BYTES) as u64);
    let body_start = body_start.ok_or_else(|| FormatError::invalid(WHAT, "its trailer is longer than the file"))?;
    let trailer = read_body(body, body_start)?;
    if (trailer.flush, trailer.attempt) != (footer.flush, footer.attempt) {
        return Err(FormatError::invalid(WHAT, "trailer and footer differ"));
    }
    Ok(trailer)
}

/// Checks a whole file: header, trailer, every frame, and that the counts agree.
pub fn verify(bytes: &[u8]) -> Result<RawTrailer, FormatError> {
    let mut cursor = Cursor::new(WHAT, bytes);
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err(FormatError::Magic { what: WHAT });
    }
    check_version(&mut cursor)?;
    let (flush, attempt, reserved) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
    check_crc(WHAT, HEADER_SEED, &bytes[..HEADER_BYTES - 4], cursor.u32()?)?;
    let trailer = read_trailer(bytes, bytes.len() as u64)?;
    if (flush, attempt, reserved) != (trailer.flush, trailer.attempt, 0) {
        return Err(FormatError::invalid(WHAT, "header and trailer differ"));
    }
    for extent in &trailer.extents {
        let mut payloads = 0;
        // read_trailer has checked that all extents lie inside the file.
        let frames = &bytes[extent.start as usize..extent.end as usize];
        for item in FrameIter::new(frames, extent.start, extent.start, extent.end) {
            let (_, frame) = item?;
            if frame.partition != extent.key.partition {
                return Err(FormatError::invalid(WHAT, "a frame of another partition in an extent"));
            }
            payloads += 1;
        }
        if payloads != extent.payloads {
            return Err(FormatError::invalid(WHAT, format!("{payloads} frames in an extent of {}", extent.payloads)));
        }
    }
    Ok(trailer)
}

/// Iterates the frames that start in `[start, end)`.
#[derive(Clone, Debug)]
pub struct FrameIter<'a> {
    bytes: &'a [u8],
    base: u64,
    /// Position of the next frame, counted from `base`.
    at: usize,
    start: u64,
    end: u64,
}

impl<'a> FrameIter<'a> {
    /// `base` is the file position of `bytes[0]` and the edge of a frame (an extent's start or [`RawTrailer::base_of`]), not beyond `start`; `bytes`
    /// reach to the end of the last frame that starts below `end` (the extent's end does; a frame that is cut off is `Truncated`).
    pub fn new(bytes: &'a [u8], base: u64, start: u64, end: u64) -> Self {
        Self { bytes, base, at: 0, start, end }
    }

    /// File position of the frame that comes next.
    pub fn next_position(&self) -> u64 {
        self.base + self.at as u64
    }
}

impl<'a> Iterator for FrameIter<'a> {
    /// File position and frame. A damaged payload is an error of its own, and the iteration goes on; after a damaged header it ends, for the
    /// frames behind it can't be found.
    type Item = Result<(u64, Frame<'a>), FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let position = self.next_position();
            if position >= self.end {
                return None;
            }
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let frame_len = match frame::peek_len(rest) {
                Ok(frame_len) if frame_len <= rest.len() => frame_len,
                other => {
                    // Ends the iteration, at this error.
                    self.end = 0;
                    let cut_off =
                        |needed: usize| FormatError::Truncated { what: "frame", needed: needed as u64, present: rest.len() as u64 };
                    return Some(Err(other.map_or_else(|error| error, cut_off)));
                }
            };
            self.at += frame_len;
            if position >= self.start {
                return Some(frame::decode(rest).map(|(frame, _)| (position, frame)));
            }
        }
    }
}

struct Footer {
    file_len: u64,
    body_len: usize,
    body_crc: u32,
    flush: u64,
    attempt: u32,
}

fn split_footer(tail: &[u8]) -> Result<(&[u8], Footer), FormatError> {
    let Some(at) = tail.len().checked_sub(FOOTER_BYTES) else {
        return Err(FormatError::Truncated { what: WHAT, needed: FOOTER_BYTES as u64, present: tail.len() as u64 });
    };
    let (before, footer) = tail.split_at(at);
    let mut cursor = Cursor::new(WHAT, footer);
    let (file_len, body_len, body_crc) = (cursor.u64()?, cursor.u32()? as usize, cursor.u32()?);
    let (flush, attempt) = (cursor.u64()?, cursor.u32()?);
    let version = cursor.take(4)?;
    let (reserved, crc) = (cursor.u32()?, cursor.u32()?);
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err(FormatError::Magic { what: WHAT });
    }
    check_version(&mut Cursor::new(WHAT, version))?;
    check_crc(WHAT, FOOTER_SEED, &footer[..36], crc)?;
    if reserved != 0 {
        return Err(FormatError::invalid(WHAT, "reserved bytes are not zero"));
    }
    Ok((before, Footer { file_len, body_len, body_crc, flush, attempt }))
}

fn read_body(body: &[u8], body_start: u64) -> Result<RawTrailer, FormatError> {
    let mut cursor = Cursor::new("raw trailer", body);
    let writer = text(&mut cursor)?;
    let flush = cursor.varint()?;
    let attempt = small(&mut cursor)?;
    let count = cursor.count(3)?;
    let mut offers = Vec::with_capacity(count);
    for _ in 0..count {
        offers.push(Offer { epoch: small(&mut cursor)?, partition: small(&mut cursor)?, start: cursor.varint()? });
    }
    let count = cursor.count(EXTENT_BYTES_MIN)?;
    let mut extents = Vec::with_capacity(count);
    let mut start = HEADER_BYTES as u64;
    for _ in 0..count {
        let key = ExtentKey { partition: small(&mut cursor)?, section: text(&mut cursor)?, window_s: unzigzag(cursor.varint()?) };
        let (bytes, payloads, points) = (cursor.varint()?, small(&mut cursor)?, cursor.varint()?);
        let received_min_us = unzigzag(cursor.varint()?);
        let received_max_us = received_min_us.wrapping_add(cursor.varint()? as i64);
        let end = start.checked_add(bytes).filter(|end| *end <= body_start && bytes > 0);
        let end = end.ok_or_else(|| FormatError::invalid("raw trailer", "an extent lies outside the file"))?;
        extents.push(Extent { key, start, end, payloads, points, received_min_us, received_max_us });
        start = end;
    }
    if start != body_start {
        return Err(FormatError::invalid("raw trailer", "bytes between the extents and the trailer"));
    }
    let count = cursor.count(1)?;
    let mut frame_index = Vec::with_capacity(count);
    let mut position = 0u64;
    for _ in 0..count {
        let next = position.checked_add(cursor.varint()?).filter(|next| *next > position && *next < body_start);
        position = next.ok_or_else(|| FormatError::invalid("raw trailer", "the frame index does not ascend inside the file"))?;
        frame_index.push(position);
    }
    cursor.finish()?;
    Ok(RawTrailer { writer, flush, attempt, offers, extents, frame_index })
}

fn body_seed(flush: u64, attempt: u32, file_len: u64) -> Vec<u8> {
    [BODY_SEED, &flush.to_le_bytes(), &attempt.to_le_bytes(), &file_len.to_le_bytes()].concat()
}

fn put_version(out: &mut Vec<u8>) {
    out.extend_from_slice(&MAJOR.to_le_bytes());
    out.extend_from_slice(&MINOR.to_le_bytes());
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<(), FormatError> {
    let (major, _minor) = (cursor.u16()?, cursor.u16()?);
    if major == MAJOR { Ok(()) } else { Err(FormatError::Unknown { what: WHAT, field: "major version", number: u64::from(major) }) }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, FormatError> {
    let bytes = cursor.count(1)?;
    let text = std::str::from_utf8(cursor.take(bytes)?);
    text.map(str::to_owned).map_err(|_| FormatError::invalid("raw trailer", "a name that is not UTF-8"))
}

fn small(cursor: &mut Cursor<'_>) -> Result<u32, FormatError> {
    u32::try_from(cursor.varint()?).map_err(|_| FormatError::invalid("raw trailer", "a number beyond 32 bits"))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
