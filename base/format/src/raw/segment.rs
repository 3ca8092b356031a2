//! Bytes of a segment of the embedded log: header, frames of all partitions in the order of writing, markers between batches.
//!
//! ```text
//!  0  magic        6   "tlrseg"
//!  6  version      u16
//!  8  length       u32 bytes of the header, 32 + 16 per partition
//! 12  epoch        u32
//! 16  number       u64 of the segment
//! 24  partitions   u32
//! 28  per partition: previous end u64, base u64     base > previous end: offsets skipped at a start (chain head beyond log end)
//!     crc          u32 CRC32C of all before it, seeded "tailors log segment" and the log's cluster id
//! then frames ([`frame`]); a frame with partition u32::MAX is a marker; its payload is the cluster id, a random UUID (36 bytes of text) that
//! no tenant knows, so that no payload can play a marker:
//!     its offset = position in this file up to which everything was fsynced before the marker was written
//! then zeros (allocated, not yet written) up to the end of the file
//! ```
//! In: a segment wholly in memory. Out: where its records lie, how far it is good, what is wrong with it. Names, fsyncs and cuts are the log's
//! (`tailors_store::log::embedded`).

use super::frame;
use crate::FormatError;
use crate::bytes::{Cursor, check_crc, seeded_crc};
use crate::version::LOG_SEGMENT;

/// Bytes of a marker.
pub const MARKER_BYTES: u64 = (frame::HEADER_BYTES + CLUSTER_BYTES) as u64;

pub(crate) const MAGIC: [u8; 6] = *b"tlrseg";
const WHAT: &str = "log segment";
const HEADER_FIXED_BYTES: usize = 28;
const MARKER_PARTITION: u32 = u32::MAX;
/// Bytes of a cluster id, a UUID in text.
const CLUSTER_BYTES: usize = 36;

/// What a segment says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The log's cluster id (UUID text); seeds the header's checksum and stands in every marker.
    pub cluster: String,
    /// Epoch of the stream.
    pub epoch: u32,
    /// Number of the segment; the sequence has no gap.
    pub number: u64,
    /// Per partition: one past the last record of the segments before.
    pub previous_ends: Vec<u64>,
    /// Per partition: its first offset in this segment.
    pub bases: Vec<u64>,
}

impl Header {
    /// The header's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = header_bytes(self.bases.len());
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&LOG_SEGMENT.to_le_bytes());
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

    /// The header at the start of a segment of the log `cluster`, and its length.
    ///
    /// # Errors
    /// When it is not whole, or belongs to another log.
    pub fn from_bytes(bytes: &[u8], cluster: &str) -> Result<(Self, usize), FormatError> {
        let (mut header, length) = Self::unchecked(bytes)?;
        check_header(&bytes[..length], cluster)?;
        cluster.clone_into(&mut header.cluster);
        Ok((header, length))
    }

    /// The header but for its checksum, which takes the cluster id to check; that is left empty. Its length is there in `bytes`.
    fn unchecked(bytes: &[u8]) -> Result<(Self, usize), FormatError> {
        let mut cursor = Cursor::new(WHAT, bytes);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        let version = cursor.u16()?;
        if version != LOG_SEGMENT {
            return Err(FormatError::Unknown { what: WHAT, field: "version", number: u64::from(version) });
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(FormatError::invalid(WHAT, format!("{} bytes; places in a segment have 32 bits", bytes.len())));
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
        cursor.u32()?;
        Ok((Self { cluster: String::new(), epoch, number, previous_ends, bases }, length))
    }
}

/// Checks the checksum that ends a whole header.
fn check_header(header: &[u8], cluster: &str) -> Result<(), FormatError> {
    let (body, crc) = header.split_at(header.len().saturating_sub(4));
    check_crc("log segment header", &header_seed(cluster), body, Cursor::new(WHAT, crc).u32()?)
}

fn header_bytes(partitions: usize) -> usize {
    HEADER_FIXED_BYTES + partitions * 16 + 4
}

fn header_seed(cluster: &str) -> Vec<u8> {
    [b"tailors log segment".as_slice(), cluster.as_bytes()].concat()
}

/// Appends a marker; `synced_to` is the position up to which an fsync has returned before the marker is written.
pub fn put_marker(out: &mut Vec<u8>, cluster: &str, epoch: u32, synced_to: u64) {
    debug_assert_eq!(cluster.len(), CLUSTER_BYTES);
    frame::encode(out, epoch, MARKER_PARTITION, synced_to, cluster.as_bytes());
}

/// Where a record of a known partition lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its offset.
    pub offset: u64,
    /// Position of its frame in the segment.
    pub position: u32,
    /// Bytes of its frame.
    pub length: u32,
}

/// A whole record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its partition.
    pub partition: u32,
    /// Where it lies.
    pub entry: Entry,
}

/// What a scan concludes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All frames are good, then zeros to the end.
    Clean,
    /// Bad bytes at the end that no marker vouches for: a batch was being written when the machine stopped; nothing of it was acknowledged.
    TornTail {
        /// Position of the bad frame.
        at: u64,
    },
    /// Bytes that were fsynced are bad.
    Damage {
        /// Position of the first bad frame.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Only from [`scan`], which finds the log's cluster id in markers: there is none, so the header could not be checked. No batch of this
    /// segment was written whole, so none was acknowledged.
    NoMarker,
}

/// What a scan says of a segment's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Its header.
    pub header: Header,
    /// Whole records in the order of the file, so those of a partition in offset order.
    pub records: Vec<Record>,
    /// End of the last whole frame (or header) before the tail.
    pub good_until: u64,
    /// Greatest position a marker vouches for.
    pub synced_to: u64,
    /// Bad bytes below `synced_to`: position and why.
    pub damage: Vec<(u64, String)>,
    /// Bytes behind `good_until` are not all zero: a torn tail.
    pub torn: bool,
    /// Damage, if there is any, else a torn tail, if there is one.
    pub verdict: Verdict,
}

impl Scan {
    /// The records of each partition of the header.
    pub fn by_partition(&self) -> Vec<Vec<Entry>> {
        let mut index = vec![Vec::new(); self.header.bases.len()];
        for record in &self.records {
            if let Some(entries) = index.get_mut(record.partition as usize) {
                entries.push(record.entry);
            }
        }
        index
    }

    fn judged(mut self) -> Self {
        self.verdict = match self.damage.first() {
            Some((at, why)) => Verdict::Damage { at: *at, why: why.clone() },
            None if self.torn => Verdict::TornTail { at: self.good_until },
            None => Verdict::Clean,
        };
        self
    }
}

/// Reads a segment without its log's directory beside it: the cluster id is taken from the segment's own markers, and the header's checksum
/// proves it. For people and tools; the log itself knows its id and uses [`scan_frames`].
///
/// # Errors
/// When the header is bad; anything else that is wrong is in the result.
pub fn scan(bytes: &[u8]) -> Result<Scan, FormatError> {
    let (mut header, header_len) = Header::unchecked(bytes)?;
    let cluster = find_cluster(bytes, &header, header_len)?;
    let known = cluster.is_some();
    header.cluster = cluster.unwrap_or_default();
    let mut found = scan_frames(bytes, &header, header_len, |_| {});
    if !known {
        found.verdict = Verdict::NoMarker;
    }
    Ok(found)
}

/// The cluster id of the first marker that the header's checksum agrees with; `None` when there is no marker.
fn find_cluster(bytes: &[u8], header: &Header, header_len: usize) -> Result<Option<String>, FormatError> {
    let (mut at, mut searching) = (header_len, false);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Ok((decoded, used)) = frame::decode(rest) else {
            let Some(ahead) = next_marker(rest, header.epoch) else { break };
            (at, searching) = (at + ahead, true);
            continue;
        };
        if decoded.partition == MARKER_PARTITION
            && decoded.payload.len() == CLUSTER_BYTES
            && let Ok(cluster) = std::str::from_utf8(decoded.payload)
        {
            match check_header(&bytes[..header_len], cluster) {
                Ok(()) => return Ok(Some(cluster.to_owned())),
                // In an unbroken row of frames this is a true marker, so it is the header that is bad. Behind bad bytes it may be a payload's.
                Err(error) if !searching => return Err(error),
                Err(_) => {}
            }
        }
        at += used;
    }
    Ok(None)
}

/// Reads all frames of a segment that is wholly in memory; `each` gets the payload of every record. Bad bytes with a good marker beyond them
/// that vouches for them are damage; bad bytes at the end that no marker vouches for are a torn tail. Behind a bad payload reading goes on
/// with the next frame, behind a bad frame header with the next marker: what lies between can't be told from frames inside a payload.
pub fn scan_frames(bytes: &[u8], header: &Header, header_len: usize, mut each: impl FnMut(&[u8])) -> Scan {
    let mut found = Scan {
        header: header.clone(),
        records: Vec::new(),
        good_until: header_len as u64,
        synced_to: header_len as u64,
        damage: Vec::new(),
        torn: false,
        verdict: Verdict::Clean,
    };
    let mut expected = header.bases.clone();
    let mut at = header_len;
    let mut bad: Option<(usize, String)> = None;
    // Records behind bad bytes count only once a marker vouches for the bad bytes: else all of it is the torn tail.
    let mut pending: Vec<(Record, &[u8])> = Vec::new();
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let strict = bad.is_none() && found.damage.is_empty();
        match take_frame(rest, header, &expected, strict) {
            Ok((decoded, used)) => {
                if decoded.partition == MARKER_PARTITION {
                    found.synced_to = found.synced_to.max(decoded.offset.min(at as u64));
                } else {
                    let entry = Entry { offset: decoded.offset, position: at as u32, length: used as u32 };
                    expected[decoded.partition as usize] = decoded.offset + 1;
                    pending.push((Record { partition: decoded.partition, entry }, decoded.payload));
                }
                at += used;
                if bad.as_ref().is_some_and(|(from, _)| found.synced_to > *from as u64) {
                    found.damage.extend(bad.take().map(|(from, why)| (from as u64, why)));
                }
                if bad.is_none() {
                    found.good_until = at as u64;
                    for (record, payload) in pending.drain(..) {
                        each(payload);
                        found.records.push(record);
                    }
                }
            }
            Err(why) => {
                let from = bad.get_or_insert((at, why)).0;
                match resume(rest, header) {
                    Some(ahead) => at += ahead,
                    None => {
                        found.torn = !is_zero(&bytes[from..]);
                        return found.judged();
                    }
                }
            }
        }
    }
    found.torn = bad.is_some();
    found.judged()
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
        if decoded.payload.len() != CLUSTER_BYTES || decoded.payload != header.cluster.as_bytes() {
            return Err("a marker of another log".to_owned());
        }
        return Ok((decoded, used));
    }
    match expected.get(decoded.partition as usize) {
        // No record has the last offset there is: the one after it could not be told.
        Some(next) if decoded.offset < u64::MAX && (decoded.offset == *next || (!strict && decoded.offset > *next)) => Ok((decoded, used)),
        _ => Err(format!("a frame of partition {} offset {}, which can't be here", decoded.partition, decoded.offset)),
    }
}

/// Distance from a bad frame to the next place that is an edge of frames for certain; `None` when nothing says where one is.
///
/// `rest` starts at such an edge, so a header with a good checksum is the log's own and says where its frame ends. Without one, only the cluster
/// id tells an edge: everything else could be a tenant's payload that plays frames.
fn resume(rest: &[u8], header: &Header) -> Option<usize> {
    if let Ok(frame) = frame::decode_header(rest)
        && frame.frame_len <= rest.len()
    {
        return Some(frame.frame_len);
    }
    let id = header.cluster.as_bytes();
    let at = rest.windows(CLUSTER_BYTES).position(|window| window == id)?;
    // A whole marker is taken as one, one with a bad header is stepped over.
    let marker = at.checked_sub(frame::HEADER_BYTES).filter(|start| frame::decode(&rest[*start..]).is_ok());
    Some(marker.unwrap_or(at + CLUSTER_BYTES))
}

/// Distance to the next place, at least one byte on, that has a good header of a marker of some log.
fn next_marker(rest: &[u8], epoch: u32) -> Option<usize> {
    (1..=rest.len().checked_sub(frame::HEADER_BYTES)?).find(|ahead| {
        let candidate = &rest[*ahead..];
        // Cheap test first: most candidates are inside payloads, or zeros.
        candidate[4..12] == [epoch.to_le_bytes(), MARKER_PARTITION.to_le_bytes()].concat()[..] && frame::decode_header(candidate).is_ok()
    })
}
