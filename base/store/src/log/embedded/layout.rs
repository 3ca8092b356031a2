//! Bytes of a segment: header, frames of all partitions in the order of writing, markers between batches. Pure.
//!
//! ```text
//!  0  magic        8   "tlrseg" 0 0 (version)
//!  8  length       u32 bytes of the header
//! 12  epoch        u32
//! 16  number       u64 of the segment
//! 24  partitions   u32
//! 28  per partition: previous end u64, base u64     base > previous end: offsets skipped at a start (chain head beyond log end)
//!     crc          u32 CRC32C of all before it, seeded "tailors log segment" and the log's cluster id
//! then frames (`tailors_format::raw::frame`); a frame with partition u32::MAX is a marker; its payload is the cluster id, a random UUID that
//! no tenant knows, so that no payload can play a marker:
//!     its offset = position in this file up to which everything was fsynced before the marker was written
//! then zeros (allocated, not yet written) up to the end of the file
//! ```

use tailors_format::FormatError;
use tailors_format::bytes::{Cursor, check_crc, seeded_crc};
use tailors_format::raw::frame;

const MAGIC: [u8; 8] = *b"tlrseg\0\0";
const WHAT: &str = "log segment";
const HEADER_FIXED_BYTES: usize = 28;
const MARKER_PARTITION: u32 = u32::MAX;

/// Bytes of a marker.
pub(super) const MARKER_BYTES: u64 = frame::HEADER_BYTES as u64 + 36;

/// What a segment says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The log's cluster id (UUID text); seeds the header's checksum and stands in every marker.
    pub(super) cluster: String,
    pub(super) epoch: u32,
    pub(super) number: u64,
    /// Per partition: one past the last record of the segments before.
    pub(super) previous_ends: Vec<u64>,
    /// Per partition: its first offset in this segment.
    pub(super) bases: Vec<u64>,
}

impl Header {
    /// The header's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let length = header_bytes(self.bases.len());
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&(self.bases.len() as u32).to_le_bytes());
        for (previous, base) in self.previous_ends.iter().zip(&self.bases) {
            out.extend_from_slice(&previous.to_le_bytes());
            out.extend_from_slice(&base.to_le_bytes());
        }
        let crc = seeded_crc(&header_seed(&self.cluster), &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of a segment, and its length.
    pub(super) fn from_bytes(bytes: &[u8], cluster: &str) -> Result<(Self, usize), FormatError> {
        let mut cursor = Cursor::new(WHAT, bytes);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        let (length, epoch, number, partitions) = (cursor.u32()? as usize, cursor.u32()?, cursor.u64()?, cursor.u32()? as usize);
        if partitions > bytes.len() / 16 || length != header_bytes(partitions) {
            return Err(FormatError::invalid(WHAT, format!("{partitions} partitions in a header of {length} bytes")));
        }
        let (mut previous_ends, mut bases) = (Vec::with_capacity(partitions), Vec::with_capacity(partitions));
        for _ in 0..partitions {
            previous_ends.push(cursor.u64()?);
            bases.push(cursor.u64()?);
        }
        let crc = cursor.u32()?;
        check_crc("log segment header", &header_seed(cluster), &bytes[..length - 4], crc)?;
        Ok((Self { cluster: cluster.to_owned(), epoch, number, previous_ends, bases }, length))
    }
}

fn header_bytes(partitions: usize) -> usize {
    HEADER_FIXED_BYTES + partitions * 16 + 4
}

fn header_seed(cluster: &str) -> Vec<u8> {
    [b"tailors log segment".as_slice(), cluster.as_bytes()].concat()
}

/// Appends a marker.
pub(super) fn put_marker(out: &mut Vec<u8>, cluster: &str, epoch: u32, synced_to: u64) {
    frame::encode(out, epoch, MARKER_PARTITION, synced_to, cluster.as_bytes());
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) position: u32,
    pub(super) length: u32,
}

/// What a scan says of a segment's bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Scan {
    /// Whole records by partition, in offset order.
    pub(super) records: Vec<Vec<Entry>>,
    /// End of the last whole frame (or header) before the tail.
    pub(super) good_until: u64,
    /// Greatest position a marker vouches for.
    pub(super) synced_to: u64,
    /// Bad bytes below `synced_to`: position and why.
    pub(super) damage: Vec<(u64, String)>,
    /// Bytes behind `good_until` are not all zero: a torn tail.
    pub(super) torn: bool,
}

/// Reads all frames of a segment that is wholly in memory. Bad bytes with a good marker beyond them that vouches for them are damage; bad
/// bytes at the end that no marker vouches for are a torn tail.
pub(super) fn scan(bytes: &[u8], header: &Header, header_len: usize, mut each: impl FnMut(&[u8])) -> Scan {
    let mut found = Scan {
        records: vec![Vec::new(); header.bases.len()],
        good_until: header_len as u64,
        synced_to: header_len as u64,
        ..Scan::default()
    };
    let mut expected = header.bases.clone();
    let mut at = header_len;
    let mut bad: Option<(usize, String)> = None;
    // Records behind bad bytes count only once a marker vouches for the bad bytes: else all of it is the torn tail.
    let mut pending: Vec<(usize, Entry)> = Vec::new();
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let strict = bad.is_none() && found.damage.is_empty();
        match take_frame(rest, header, &expected, strict) {
            Ok((decoded, used)) => {
                if decoded.partition == MARKER_PARTITION {
                    found.synced_to = found.synced_to.max(decoded.offset.min(at as u64));
                } else {
                    let entry = Entry { offset: decoded.offset, position: at as u32, length: used as u32 };
                    expected[decoded.partition as usize] = decoded.offset + 1;
                    pending.push((decoded.partition as usize, entry));
                }
                at += used;
                if bad.as_ref().is_some_and(|(from, _)| found.synced_to > *from as u64) {
                    found.damage.extend(bad.take().map(|(from, why)| (from as u64, why)));
                }
                if bad.is_none() {
                    found.good_until = at as u64;
                    for (partition, entry) in pending.drain(..) {
                        if let Some(payload) = bytes.get(entry.position as usize + frame::HEADER_BYTES..) {
                            each(&payload[..(entry.length as usize - frame::HEADER_BYTES).min(payload.len())]);
                        }
                        found.records[partition].push(entry);
                    }
                }
            }
            Err(why) => {
                let from = bad.get_or_insert((at, why)).0;
                match next_header(rest, header.epoch, expected.len()) {
                    Some(ahead) => at += ahead,
                    None => {
                        found.torn = !is_zero(&bytes[from..]);
                        return found;
                    }
                }
            }
        }
    }
    found.torn = bad.is_some();
    found
}

static ZEROS: [u8; 4_096] = [0; 4_096];

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn take_frame<'a>(rest: &'a [u8], header: &Header, expected: &[u64], strict: bool) -> Result<(frame::Frame<'a>, usize), String> {
    let (decoded, used) = frame::decode(rest).map_err(|error| error.to_string())?;
    if decoded.epoch != header.epoch {
        return Err(format!("a frame of epoch {}", decoded.epoch));
    }
    if decoded.partition == MARKER_PARTITION {
        if decoded.payload != header.cluster.as_bytes() {
            return Err("a marker of another log".to_owned());
        }
        return Ok((decoded, used));
    }
    match expected.get(decoded.partition as usize) {
        Some(next) if decoded.offset == *next || (!strict && decoded.offset > *next) => Ok((decoded, used)),
        _ => Err(format!("a frame of partition {} offset {}, which can't be here", decoded.partition, decoded.offset)),
    }
}

/// Distance to the next place, at least one byte on, that has a good frame header of this log.
fn next_header(rest: &[u8], epoch: u32, partitions: usize) -> Option<usize> {
    let last = rest.len().checked_sub(frame::HEADER_BYTES)?;
    let zeros = rest.chunks(ZEROS.len()).take_while(|chunk| is_zero(chunk)).count() * ZEROS.len();
    (zeros.saturating_sub(frame::HEADER_BYTES).max(1)..=last).find(|ahead| {
        let candidate = &rest[*ahead..];
        // Cheap test first: most candidates are inside payloads, or zeros.
        candidate[4..8] == epoch.to_le_bytes()
            && candidate[..24] != [0; 24]
            && frame::decode_header(candidate)
                .is_ok_and(|header| header.partition == MARKER_PARTITION || (header.partition as usize) < partitions)
    })
}
