//! The envelope: plain, fixed, all that capture and the planner read.
//!
//! ```text
//!   0  magic            8 B  "tlr.pay\0"
//!   8  major, minor     u16, u16
//!  12  org              u32
//!  16  window start     i64  Unix seconds
//!  24  received_at      i64  Unix microseconds
//!  32  intake id        u64
//!  40  sequence         u64                        (0..48: the seed of the blocks' checksums)
//!  48  admitted from    i64  Unix milliseconds, inclusive
//!  56  admitted to      i64  Unix milliseconds, inclusive
//!  64  series, points   u32, u32
//!  72  min, max time    i64, i64  Unix milliseconds; the window's start without points
//!  88  codec            u32  1: zstd, or plain where stored length = raw length
//!  92  label block      u32 stored length, u32 raw length, u32 CRC32C of its first MiB
//! 104  run block        the same
//! 116  point block      the same
//! 128  reserved         u32  0
//! 132  crc              u32  CRC32C of 0..132, seeded "tailors payload envelope"
//! 136  label block, run block, point block; each followed by a u32 CRC32C per further MiB
//! ```

use tailors_model::limits::{PAYLOAD_BYTES_MAX, PAYLOAD_POINTS_MAX};
use tailors_model::{OrgId, PayloadHeader, Window};

use super::block::{Block, Part};
use crate::FormatError;
use crate::bytes::{Cursor, check_crc, seeded_crc};
use crate::version::PAYLOAD;

/// Bytes of the envelope.
pub const ENVELOPE_BYTES: usize = 136;

pub(super) const WHAT: &str = "payload";
/// Bytes that say what a payload is: the seed of its blocks' checksums.
pub(super) const IDENTITY_BYTES: usize = 48;
const MAGIC: &[u8; 8] = b"tlr.pay\0";
const MAJOR: u16 = PAYLOAD.0;
const MINOR: u16 = PAYLOAD.1;
const CODEC_ZSTD: u32 = 1;
const CRC_AT: usize = ENVELOPE_BYTES - 4;
const SEED: &[u8] = b"tailors payload envelope";

/// What the intake says of a payload; the rest of the envelope is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Tenant, from the API key.
    pub org: OrgId,
    /// The one window of all its points.
    pub window: Window,
    /// Unix microseconds, strictly increasing per intake process (P4).
    pub received_at_us: i64,
    /// Random id of the intake process.
    pub intake_id: u64,
    /// Position among this intake's payloads.
    pub sequence: u64,
    /// Earliest time admitted, Unix milliseconds, inclusive.
    pub admitted_from_ms: i64,
    /// Latest time admitted, Unix milliseconds, inclusive.
    pub admitted_to_ms: i64,
}

/// What the writer counted.
pub(super) struct Counted {
    pub(super) series: u32,
    pub(super) points: u32,
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
}

/// A checked envelope and where its blocks lie.
pub(super) struct Envelope {
    pub(super) header: PayloadHeader,
    pub(super) blocks: [Block; 3],
}

/// Appends everything before `admitted from`.
pub(super) fn put_identity(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&MAJOR.to_le_bytes());
    out.extend_from_slice(&MINOR.to_le_bytes());
    out.extend_from_slice(&stamp.org.0.to_le_bytes());
    out.extend_from_slice(&stamp.window.start_s().to_le_bytes());
    out.extend_from_slice(&stamp.received_at_us.to_le_bytes());
    out.extend_from_slice(&stamp.intake_id.to_le_bytes());
    out.extend_from_slice(&stamp.sequence.to_le_bytes());
}

/// Appends the rest of the envelope to its identity.
pub(super) fn put_rest(out: &mut Vec<u8>, stamp: &Stamp, counted: &Counted, blocks: &[Block; 3]) {
    out.extend_from_slice(&stamp.admitted_from_ms.to_le_bytes());
    out.extend_from_slice(&stamp.admitted_to_ms.to_le_bytes());
    out.extend_from_slice(&counted.series.to_le_bytes());
    out.extend_from_slice(&counted.points.to_le_bytes());
    out.extend_from_slice(&counted.min_ms.to_le_bytes());
    out.extend_from_slice(&counted.max_ms.to_le_bytes());
    out.extend_from_slice(&CODEC_ZSTD.to_le_bytes());
    for block in blocks {
        for field in [block.stored_len, block.raw_len, block.crc] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&seeded_crc(SEED, out).to_le_bytes());
}

/// Facts about a payload from its envelope; checks the envelope and that the payload is as long as it says, no block.
pub fn read_header(payload: &[u8]) -> Result<PayloadHeader, FormatError> {
    let envelope = read(payload)?;
    let end = envelope.blocks[Part::Points as usize].end();
    if payload.len() < end {
        return Err(FormatError::Truncated { what: WHAT, needed: end as u64, present: payload.len() as u64 });
    }
    if payload.len() > end {
        return Err(FormatError::invalid(WHAT, format!("{} bytes too many", payload.len() - end)));
    }
    Ok(envelope.header)
}

/// Bytes of the prefix that holds envelope, label and run block: all a census has to fetch. The prefix needs to hold the envelope only.
pub fn census_len(payload: &[u8]) -> Result<usize, FormatError> {
    Ok(read(payload)?.blocks[Part::Runs as usize].end())
}

/// Reads and checks the envelope; the blocks need not be there.
pub(super) fn read(payload: &[u8]) -> Result<Envelope, FormatError> {
    let mut cursor = Cursor::new("payload envelope", payload);
    if cursor.take(8)? != MAGIC {
        return Err(FormatError::Magic { what: WHAT });
    }
    let (major, _minor) = (cursor.u16()?, cursor.u16()?);
    if major != MAJOR {
        return Err(FormatError::Unknown { what: WHAT, field: "major version", number: u64::from(major) });
    }
    let org = OrgId(cursor.u32()?);
    let window_s = cursor.i64()?;
    let (received_at_us, intake_id, sequence) = (cursor.i64()?, cursor.u64()?, cursor.u64()?);
    let (admitted_from_ms, admitted_to_ms) = (cursor.i64()?, cursor.i64()?);
    let (series, points) = (cursor.u32()?, cursor.u32()?);
    let (min_ms, max_ms) = (cursor.i64()?, cursor.i64()?);
    let codec = cursor.u32()?;
    let mut blocks = [Block::default(); 3];
    let mut start = ENVELOPE_BYTES;
    for block in &mut blocks {
        *block = Block { start, stored_len: cursor.u32()?, raw_len: cursor.u32()?, crc: cursor.u32()? };
        start = block.end();
    }
    let reserved = cursor.u32()?;
    check_crc("payload envelope", SEED, &payload[..CRC_AT], cursor.u32()?)?;
    if codec != CODEC_ZSTD {
        return Err(FormatError::Unknown { what: WHAT, field: "codec", number: u64::from(codec) });
    }
    let invalid = |why: &str| Err(FormatError::invalid("payload envelope", why));
    // TIME_MAX_MS bounds every window, so that the arithmetic below can't overflow.
    let edge = Window::starting_at_s(window_s).filter(|_| (0..=i64::from(u32::MAX)).contains(&window_s));
    let Some(window) = edge else { return invalid("its window is no window") };
    if min_ms < window.start_ms() || min_ms > max_ms || max_ms >= window.end_ms() {
        return invalid("its times are outside its window");
    }
    if reserved != 0 || points > PAYLOAD_POINTS_MAX || series > PAYLOAD_POINTS_MAX || start > PAYLOAD_BYTES_MAX as usize {
        return invalid("larger than any payload may be");
    }
    let header = PayloadHeader {
        org,
        window,
        received_at_us,
        intake_id,
        sequence,
        admitted_from_ms,
        admitted_to_ms,
        series,
        points,
        min_ms,
        max_ms,
    };
    Ok(Envelope { header, blocks })
}
