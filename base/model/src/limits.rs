//! Every fixed limit of the system on one screen, with their relations asserted at compile time. Limits that an operator may move are settings of a stage.

/// Tags of one series.
pub const SERIES_TAGS_MAX: usize = 128;
/// Bytes of a metric name.
pub const METRIC_BYTES_MAX: usize = 512;
/// Bytes of a tag key.
pub const TAG_KEY_BYTES_MAX: usize = 512;
/// Bytes of a tag value.
pub const TAG_VALUE_BYTES_MAX: usize = 2_048;
/// Points of one payload; a request with more is split by series, then in request order.
pub const PAYLOAD_POINTS_MAX: u32 = 64 * 1024;
/// Bytes of one payload before it is split.
pub const PAYLOAD_SPLIT_BYTES: usize = 900_000;
/// Bytes of one payload that any reader accepts.
pub const PAYLOAD_BYTES_MAX: u32 = 16 << 20;
/// Points of one request.
pub const REQUEST_POINTS_MAX: usize = 1_000_000;
/// Bytes of a request's target and headers.
pub const REQUEST_HEADER_BYTES_MAX: usize = 16 << 10;
/// Compressed bytes of a request body.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Decompressed bytes of a request body, protocols without a limit of their own.
pub const REQUEST_DECODED_BYTES_MAX: usize = 32 << 20;
/// Windows that one request may touch.
pub const REQUEST_WINDOWS_MAX: usize = 64;
/// Dirty windows of one org (ended, with acknowledged points that no published generation holds).
pub const DIRTY_WINDOWS_MAX: usize = 512;
/// Bytes of a JSON document; a longer body is a content-addressed object that the document names.
pub const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// Bytes that one checksum covers at most.
pub const CHECKED_BYTES_MAX: usize = 1 << 20;
/// Points of a bucket, the unit of parallel encoding.
pub const BUCKET_POINTS: u64 = 1 << 22;
/// Points of a pco chunk.
pub const PCO_CHUNK_POINTS: usize = 1 << 18;
/// Points that a packed page holds at least.
pub const PACKED_PAGE_POINTS: usize = 1_024;
/// Bins of one sketch, or buckets, spans and bounds of one native histogram, all together: a page must hold one.
pub const DISTRIBUTION_ITEMS_MAX: usize = 1 << 15;
/// Bytes of pages after which the next bucket edge starts a new chunk file.
pub const CHUNK_FILE_BYTES: u64 = 256 << 20;
/// Series after which the next bucket edge starts a new chunk file: what an index may take of memory has a limit.
pub const CHUNK_FILE_SERIES: u64 = 1 << 19;
/// Points that a series counts as at least when buckets are cut, for the same reason: 2^17 series are the most that one holds.
pub const BUCKET_SERIES_POINTS: u64 = 32;
/// Series from which on a series has statistics of its own.
pub const SERIES_STATS_POINTS: u32 = 256;
/// Orgs that may have a section of their own in raw files.
pub const OWN_SECTIONS_MAX: usize = 128;
/// Earliest time accepted, 2000-01-01T00:00:00Z; nothing that this system keeps is older.
pub const TIME_MIN_MS: i64 = 946_684_800_000;
/// Latest time any file may hold, 2106-02-07T06:28:15Z: a u32 of seconds.
pub const TIME_MAX_MS: i64 = 4_294_967_295_000;

const _: () = assert!(PAYLOAD_SPLIT_BYTES < PAYLOAD_BYTES_MAX as usize);
const _: () = assert!(PACKED_PAGE_POINTS <= PCO_CHUNK_POINTS);
const _: () = assert!((PCO_CHUNK_POINTS as u64) <= BUCKET_POINTS);
