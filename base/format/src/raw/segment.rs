//! A log segment: a header, then frames without a trailer, in space allocated beforehand (zeros); markers say how far everything was fsynced.
//!
//! ```text
//!  0  magic        8 B  "tlr.seg\0"
//!  8  major, minor u16, u16
//! 12  epoch        u32
//! 16  partition    u32
//! 20  base offset  u64   no record of this segment is below it
//! 28  identity     16 B  of the log, minted at random when it was created
//! 44  reserved     16 B  0
//! 60  crc          u32   CRC32C of 0..60, seeded "tailors segment header"
//! 64  frames of this epoch and partition, offsets strictly increasing; markers between them; zeros to the end
//!
//! marker = a frame with partition u32::MAX, offset = the next record's, and this payload (36 B):
//!  0  identity     16 B
//! 16  partition    u32
//! 20  base offset  u64
//! 28  synced until u64   position in this segment up to which everything was fsynced before this marker was written
//! ```
//! What a bad frame means is decided by the markers of the whole segment: one that lies behind it and says "synced beyond it" makes it damage;
//! without one it is a torn tail, and the writer cuts it off **by zeroing all bytes from `good_until`** (an old frame behind must never come to life again).
//! Only zeros from a frame's edge to the end are a clean end. The identity inside a marker can't be known to a tenant, so no payload can play one.

use tailors_model::limits::PAYLOAD_BYTES_MAX;

use super::frame;
use crate::FormatError;
use crate::bytes::{Cursor, check_crc, seeded_crc};

/// Bytes before the first frame.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a marker.
pub const MARKER_BYTES: usize = frame::HEADER_BYTES + MARKER_PAYLOAD_BYTES;
/// Partition number that tells a marker from a record; no partition has it.
pub const MARKER_PARTITION: u32 = u32::MAX;

const MARKER_PAYLOAD_BYTES: usize = 36;
const WHAT: &str = "log segment";
const MAGIC: &[u8; 8] = b"tlr.seg\0";
const MAJOR: u16 = 0;
const MINOR: u16 = 0;
const SEED: &[u8] = b"tailors segment header";

const _: () = assert!(MARKER_PAYLOAD_BYTES < PAYLOAD_BYTES_MAX as usize);

/// Whose records a segment holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Identity of the log.
    pub identity: [u8; 16],
    /// Epoch of the stream.
    pub epoch: u32,
    /// Partition.
    pub partition: u32,
    /// No record of this segment has a lower offset.
    pub base_offset: u64,
}

/// A record whose checksums are good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScannedRecord {
    /// Its offset.
    pub offset: u64,
    /// Position of its frame in the segment.
    pub start: u64,
    /// One past its frame.
    pub end: u64,
}

/// What a scan concludes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All frames are good, then zeros to the end.
    Clean,
    /// A batch was being written when the machine stopped; nothing of it was acknowledged. In a segment that is not the newest of its partition
    /// this is damage, for a segment is fsynced before the next one begins.
    TornTail {
        /// Position of the bad frame.
        at: u64,
    },
    /// Bytes that were fsynced are bad.
    Damage {
        /// Position of the first bad frame.
        at: u64,
        /// First offset that may be lost there.
        offset: u64,
    },
}

/// Bytes that were fsynced and are bad; what `--accept-log-damage` turns into an explicit hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DamagedRange {
    /// Position of the bad frame.
    pub start: u64,
    /// Position of the next good frame.
    pub end: u64,
    /// First offset lost.
    pub from_offset: u64,
    /// One past the last offset that may be lost.
    pub to_offset: u64,
}

/// What a segment holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Its header.
    pub header: SegmentHeader,
    /// Its good records in offset order; behind damage too.
    pub records: Vec<ScannedRecord>,
    /// Position after the last good frame: where writing goes on, after everything from here on was zeroed.
    pub good_until: u64,
    /// Highest position that a good marker says was fsynced.
    pub synced_until: u64,
    /// The next record's offset, as far as this segment knows.
    pub next_offset: u64,
    /// Damage, if there is any, else a torn tail, if there is one.
    pub verdict: Verdict,
    /// Every damaged range.
    pub damaged: Vec<DamagedRange>,
}

/// The header's bytes.
pub fn encode_header(header: &SegmentHeader) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..10].copy_from_slice(&MAJOR.to_le_bytes());
    out[10..12].copy_from_slice(&MINOR.to_le_bytes());
    out[12..16].copy_from_slice(&header.epoch.to_le_bytes());
    out[16..20].copy_from_slice(&header.partition.to_le_bytes());
    out[20..28].copy_from_slice(&header.base_offset.to_le_bytes());
    out[28..44].copy_from_slice(&header.identity);
    let crc = seeded_crc(SEED, &out[..60]);
    out[60..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The header at the start of a segment.
pub fn decode_header(bytes: &[u8]) -> Result<SegmentHeader, FormatError> {
    let mut cursor = Cursor::new(WHAT, bytes);
    if cursor.take(8)? != MAGIC {
        return Err(FormatError::Magic { what: WHAT });
    }
    let (major, _minor) = (cursor.u16()?, cursor.u16()?);
    let (epoch, partition, base_offset) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
    let mut identity = [0; 16];
    identity.copy_from_slice(cursor.take(16)?);
    let reserved = cursor.take(16)?;
    if major != MAJOR {
        return Err(FormatError::Unknown { what: WHAT, field: "major version", number: u64::from(major) });
    }
    check_crc(WHAT, SEED, &bytes[..60], cursor.u32()?)?;
    if reserved.iter().any(|byte| *byte != 0) {
        return Err(FormatError::invalid(WHAT, "reserved bytes are not zero"));
    }
    Ok(SegmentHeader { identity, epoch, partition, base_offset })
}

/// Whether nothing was ever written: a crash between allocation and header.
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Appends a marker; `synced_until` is the position up to which an fsync has returned before this is written.
pub fn encode_marker(out: &mut Vec<u8>, header: &SegmentHeader, next_offset: u64, synced_until: u64) {
    let mut payload = [0; MARKER_PAYLOAD_BYTES];
    payload[..16].copy_from_slice(&header.identity);
    payload[16..20].copy_from_slice(&header.partition.to_le_bytes());
    payload[20..28].copy_from_slice(&header.base_offset.to_le_bytes());
    payload[28..].copy_from_slice(&synced_until.to_le_bytes());
    frame::encode(out, header.epoch, MARKER_PARTITION, next_offset, &payload);
}

/// Reads a whole segment. Its header must be good; anything else that is wrong with it is in the result.
pub fn scan(bytes: &[u8]) -> Result<Scan, FormatError> {
    let header = decode_header(bytes)?;
    let mut scan = Scan {
        header,
        records: Vec::new(),
        good_until: HEADER_BYTES as u64,
        synced_until: 0,
        next_offset: header.base_offset,
        verdict: Verdict::Clean,
        damaged: Vec::new(),
    };
    let mut at = HEADER_BYTES;
    // Highest "synced until" of the whole segment, looked for at the first bad frame only.
    let mut synced_of_all = None;
    while at < bytes.len() {
        if let Some(frame_len) = take_frame(bytes, at, &mut scan) {
            at += frame_len;
            scan.good_until = at as u64;
            continue;
        }
        if is_blank(&bytes[at..]) {
            break;
        }
        let synced = *synced_of_all
            .get_or_insert_with(|| markers_from(bytes, at, &header).map(|m| m.synced_until).fold(scan.synced_until, u64::max));
        if synced <= at as u64 {
            if scan.damaged.is_empty() {
                scan.verdict = Verdict::TornTail { at: at as u64 };
            }
            break;
        }
        let offset = scan.next_offset;
        if scan.damaged.is_empty() {
            scan.verdict = Verdict::Damage { at: at as u64, offset };
        }
        let good = next_good(bytes, at, &scan).unwrap_or(Good { position: bytes.len(), offset });
        scan.damaged.push(DamagedRange { start: at as u64, end: good.position as u64, from_offset: offset, to_offset: good.offset });
        scan.next_offset = scan.next_offset.max(good.offset);
        at = good.position;
    }
    Ok(scan)
}

/// Takes the frame at `at` into the scan when it is good and belongs here; its length.
fn take_frame(bytes: &[u8], at: usize, scan: &mut Scan) -> Option<usize> {
    if let Some(marker) = marker_at(bytes, at, &scan.header) {
        if marker.next_offset < scan.next_offset {
            return None;
        }
        scan.synced_until = scan.synced_until.max(marker.synced_until);
        scan.next_offset = marker.next_offset;
        return Some(MARKER_BYTES);
    }
    let (frame, frame_len) = frame::decode(&bytes[at..]).ok()?;
    let fits = frame.epoch == scan.header.epoch && frame.partition == scan.header.partition && frame.offset >= scan.next_offset;
    if !fits || frame.offset == u64::MAX {
        return None;
    }
    scan.records.push(ScannedRecord { offset: frame.offset, start: at as u64, end: (at + frame_len) as u64 });
    scan.next_offset = frame.offset + 1;
    Some(frame_len)
}

struct Marker {
    position: usize,
    next_offset: u64,
    synced_until: u64,
}

/// The marker of this very segment at `at`.
fn marker_at(bytes: &[u8], at: usize, header: &SegmentHeader) -> Option<Marker> {
    let rest = bytes.get(at..)?;
    if !rest.starts_with(&marker_start(header)) {
        return None;
    }
    let (frame, _) = frame::decode(rest).ok()?;
    let mut cursor = Cursor::new(WHAT, frame.payload);
    let ours =
        cursor.take(16).ok()? == header.identity && cursor.u32().ok()? == header.partition && cursor.u64().ok()? == header.base_offset;
    let synced_until = cursor.u64().ok()?;
    (ours && synced_until <= at as u64).then_some(Marker { position: at, next_offset: frame.offset, synced_until })
}

/// The first bytes of every marker of a segment: length, epoch, partition.
fn marker_start(header: &SegmentHeader) -> [u8; 12] {
    let mut start = [0; 12];
    start[..4].copy_from_slice(&(MARKER_PAYLOAD_BYTES as u32).to_le_bytes());
    start[4..8].copy_from_slice(&header.epoch.to_le_bytes());
    start[8..].copy_from_slice(&MARKER_PARTITION.to_le_bytes());
    start
}

/// All good markers from `from` on, whatever lies between them.
fn markers_from<'a>(bytes: &'a [u8], from: usize, header: &'a SegmentHeader) -> impl Iterator<Item = Marker> + 'a {
    // A marker starts with its length; looking for that byte first keeps a walk over 64 MiB short.
    (from..bytes.len().saturating_sub(MARKER_BYTES - 1))
        .filter(|at| bytes[*at] == MARKER_PAYLOAD_BYTES as u8)
        .filter_map(|at| marker_at(bytes, at, header))
}

struct Good {
    position: usize,
    /// Offsets from the expected one up to this one may be lost.
    offset: u64,
}

/// Where the row of frames goes on behind a bad one: right after it where its header is good, else at the next marker (the only thing that can be
/// recognised for certain amid any bytes; what lies between is given up with it).
fn next_good(bytes: &[u8], at: usize, scan: &Scan) -> Option<Good> {
    if bytes[at..].starts_with(&marker_start(&scan.header)) && frame::peek_len(&bytes[at..]) == Ok(MARKER_BYTES) {
        // A bad marker; no record is lost with it.
        return Some(Good { position: (at + MARKER_BYTES).min(bytes.len()), offset: scan.next_offset });
    }
    if let Ok(bad) = frame::decode_header(&bytes[at..]) {
        let position = at.checked_add(bad.frame_len).filter(|position| *position <= bytes.len());
        let ours = bad.epoch == scan.header.epoch && bad.partition == scan.header.partition && bad.offset >= scan.next_offset;
        if let Some(position) = position.filter(|_| ours && bad.offset < u64::MAX) {
            return Some(Good { position, offset: bad.offset + 1 });
        }
    }
    let marker = markers_from(bytes, at + 1, &scan.header).find(|marker| marker.next_offset >= scan.next_offset)?;
    Some(Good { position: marker.position, offset: marker.next_offset })
}
