//! Files at rest: log segments, raw files, documents, chunk files.

use bytes::Bytes;
use serde_json::json;
use tailors_format::chunk::{BucketInput, ChunkIndex, DecodeScratch, SeriesColumn, Span, Values, assemble, encode_bucket, verify_file};
use tailors_format::doc::{
    CapIdxDoc, Document, DoneDoc, FeedDoc, GenesisDoc, GoneDoc, JobDoc, KeyDoc, ManifestDoc, NodeDoc, PinDoc, PlanDoc, RevocationDoc,
    RouteDoc, SealDoc, SnapDoc, StreamDoc, StreamEndDoc,
};
use tailors_format::raw::file::{ExtentKey, FrameIter, RawFileWriter, read_trailer, trailer_len, verify};
use tailors_format::raw::{frame, segment as layout};
use tailors_model::window::WINDOW_MS;
use tailors_model::{MetricMeta, OrgId, ShardId, Tag};

const CLUSTER: &str = "0b0c0d0e-0000-4000-8000-000000000007";
const SPAN: Span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };
const KEY: &str = "fuzz";

pub(crate) fn segment(data: &[u8]) -> bool {
    layout::scan(data).is_ok_and(|found| {
        assert!(found.good_until <= data.len() as u64);
        assert!(found.records.iter().all(|record| {
            let start = record.entry.position as usize;
            frame::decode(&data[start..])
                .is_ok_and(|(frame, used)| frame.partition == record.partition && used == record.entry.length as usize)
        }));
        assert!(found.by_partition().iter().all(|entries| entries.is_sorted_by(|a, b| a.offset < b.offset)));
        true
    })
}

pub(crate) fn segment_seeds() -> Vec<Vec<u8>> {
    let header = layout::Header { cluster: CLUSTER.to_owned(), epoch: 3, number: 1, previous_ends: vec![0, 5], bases: vec![0, 9] };
    let mut bytes = header.to_bytes();
    let synced = bytes.len() as u64;
    frame::encode(&mut bytes, 3, 0, 0, b"first");
    frame::encode(&mut bytes, 3, 1, 9, b"second");
    layout::put_marker(&mut bytes, CLUSTER, 3, synced);
    let whole = bytes.clone();
    let synced = bytes.len() as u64;
    frame::encode(&mut bytes, 3, 0, 1, b"third");
    layout::put_marker(&mut bytes, CLUSTER, 3, synced);
    bytes.resize(bytes.len() + 100, 0);
    vec![whole, bytes]
}

pub(crate) fn raw_file(data: &[u8]) -> bool {
    if trailer_len(data).is_ok() {
        // A tail alone, of a file of any length.
        let _ = read_trailer(data, 1 << 40);
    }
    verify(data).is_ok()
}

pub(crate) fn raw_file_seeds() -> Vec<Vec<u8>> {
    let mut writer = RawFileWriter::new("ab12", 7, 1);
    writer.offers(1, 0, 100);
    for section in ["mod-0064-0001", "none"] {
        writer.begin_extent(ExtentKey { partition: 0, section: section.to_owned(), window_s: 14_400 });
        for offset in 0..3u64 {
            let mut framed = Vec::new();
            frame::encode(&mut framed, 1, 0, 100 + offset, b"payload");
            if writer.frame(&framed, 4, 5).is_err() {
                return Vec::new();
            }
        }
    }
    writer.finish().map(|raw| raw.bytes.to_vec()).into_iter().collect()
}

pub(crate) fn raw_frames(data: &[u8]) -> bool {
    // Any cut: frames are those that start inside it.
    let end = data.len() as u64;
    let mut good = 0;
    for start in [0, end / 2] {
        let frames = FrameIter::new(data, 0, start, end);
        good += frames.filter(|frame| frame.is_ok()).count();
    }
    good > 0
}

pub(crate) fn raw_frames_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    (0..4).for_each(|offset| frame::encode(&mut out, 1, 2, offset, b"some payload"));
    vec![out]
}

type ReadDocument = fn(&[u8]) -> bool;

fn document<D: Document>(data: &[u8]) -> bool {
    let Ok(read) = D::from_bytes(KEY, data) else { return false };
    // What was read is written and read again as the same.
    let again = read.to_bytes(KEY).and_then(|bytes| D::from_bytes(KEY, &bytes)).and_then(|again| again.to_bytes(KEY));
    assert_eq!(again, read.to_bytes(KEY));
    true
}

/// The first byte chooses the kind.
const DOCUMENTS: [ReadDocument; 18] = [
    document::<StreamDoc>,
    document::<GenesisDoc>,
    document::<NodeDoc>,
    document::<SealDoc>,
    document::<PlanDoc>,
    document::<ManifestDoc>,
    document::<FeedDoc>,
    document::<DoneDoc>,
    document::<GoneDoc>,
    document::<RouteDoc>,
    document::<JobDoc>,
    document::<KeyDoc>,
    document::<RevocationDoc>,
    |data| serde_json::from_slice::<serde_json::Value>(data).is_ok(),
    document::<CapIdxDoc>,
    document::<SnapDoc>,
    document::<StreamEndDoc>,
    document::<PinDoc>,
];

pub(crate) fn documents(data: &[u8]) -> bool {
    data.split_first().is_some_and(|(kind, body)| DOCUMENTS[usize::from(*kind) % DOCUMENTS.len()](body))
}

fn document_seed<D: Document>(kind: u8, fields: serde_json::Value) -> Vec<u8> {
    let read: D = serde_json::from_value(fields).expect("fields of the document");
    [&[kind], &read.to_bytes(KEY).expect("a small document")[..]].concat()
}

pub(crate) fn documents_seeds() -> Vec<Vec<u8>> {
    let shard = json!(ShardId::of_org(OrgId(7), 64));
    let body = json!({"key": "ab12/body/v1/00", "bytes": 10, "raw_bytes": 20, "hash": "00ff"});
    vec![
        document_seed::<CapIdxDoc>(14, json!({"start": 3, "next": 9, "received_max_us": null, "body": body})),
        document_seed::<SnapDoc>(15, json!({"seq": 4_096, "entries": 4_000, "body": body})),
        document_seed::<StreamEndDoc>(16, json!({"ends": {"00000": 7}, "writer": "w"})),
        document_seed::<PinDoc>(17, json!({"feed": 7, "expires_s": 600})),
        document_seed::<FeedDoc>(6, json!({"shard": shard, "window": 1_795_132_800, "g": 2})),
        document_seed::<GenesisDoc>(1, json!({"start": 0, "writer": "w"})),
        document_seed::<GoneDoc>(8, json!({"superseded_by": 3})),
        document_seed::<StreamDoc>(0, json!({"cluster": CLUSTER, "topic_uuid": CLUSTER, "name": "embedded", "created_ms": 5})),
        document_seed::<RevocationDoc>(12, json!({"revoked_ms": 5})),
        document_seed::<SealDoc>(
            3,
            json!({"kind": "hand", "window": 14_400, "k": 1, "ends": {"1": {"0": 5}}, "route_version": 1, "decided_ms": 9, "writer": "w"}),
        ),
    ]
}

pub(crate) fn shard() -> ShardId {
    ShardId::of_org(OrgId(7), 64)
}

pub(crate) fn chunk_file(data: &[u8]) -> bool {
    // As a query does it: trailer, index, selections, pages; each may be refused, none may panic.
    let trailer = &data[data.len().saturating_sub(64)..];
    let tail = ChunkIndex::tail_range(trailer, data.len() as u64);
    let tail = tail.ok().and_then(|range| data.get(range.start as usize..range.end as usize));
    if let Some(Ok(index)) = tail.map(|tail| ChunkIndex::parse(shard(), tail, data.len() as u64)) {
        read_all(&index, data);
    }
    verify_file(shard(), data).is_ok()
}

/// Decodes whatever can be, and gives the bits of all values in file order.
fn read_all(index: &ChunkIndex, data: &[u8]) -> Vec<(u32, u64)> {
    let (mut scratch, mut bits) = (DecodeScratch::default(), Vec::new());
    for (number, metric) in index.metrics().iter().enumerate() {
        let Ok(selected) = index.select(metric.org, number, &mut |_| true) else { continue };
        for series in &selected {
            let _ = (index.tags(*series), index.meta(*series).is_ok(), index.edges_of(*series));
        }
        for read in index.plan_reads(&selected) {
            let Some(page) = data.get(read.range.start as usize..read.range.end as usize) else { continue };
            // A damaged page is an error and nothing of it is handed out.
            let _ = index.decode_values(&read, page, &mut scratch, &mut |_, times, values| match values {
                Values::Doubles(values) => {
                    assert_eq!(times.len(), values.len());
                    bits.extend(times.iter().copied().zip(values.iter().map(|value| value.to_bits())));
                }
                Values::Sketches(values) => assert!(times.len() == values.len() && values.iter().all(|value| value.check().is_ok())),
                Values::Histograms(values) => assert!(times.len() == values.len() && values.iter().all(|value| value.check().is_ok())),
            });
        }
    }
    bits
}

/// Series cut from bytes: 1 B how many points, 1 B how they are spaced, 1 B how many bytes a value takes, then the values.
fn bucket(data: &[u8]) -> BucketInput {
    let (mut rest, mut series) = (data, Vec::new());
    for number in 0u32..48 {
        let [count, spacing, width, tail @ ..] = rest else { break };
        let width = 1 + usize::from(*width) % 8;
        let wanted = usize::from(*count).min(tail.len() / width);
        let (body, after) = tail.split_at(wanted * width);
        rest = after;
        if wanted == 0 {
            continue;
        }
        let values = body.chunks_exact(width).map(|bytes| {
            let mut eight = [0; 8];
            eight[..width].copy_from_slice(bytes);
            // Narrow values become small decimals, whole ones any double there is.
            if width == 8 { f64::from_le_bytes(eight) } else { i64::from_le_bytes(eight) as f64 / 100.0 }
        });
        let step = 1 + u32::from(*spacing % 16) * 1_000;
        let jitter = |at: u32| if *spacing >= 128 { at * at % 7 } else { 0 };
        let timestamps = (0..wanted as u32).map(|at| at * (step + 6) + jitter(at)).collect();
        let tags = vec![Tag::pair("host", format!("h{number:03}"))];
        series.push(SeriesColumn { tags, meta: MetricMeta::default(), timestamps, values: values.collect::<Vec<f64>>().into() });
    }
    BucketInput { org: OrgId(7), metric: Bytes::from_static(b"m"), meta: MetricMeta::default(), series }
}

pub(crate) fn chunk_of(input: &BucketInput) -> Option<Vec<u8>> {
    let encoded = encode_bucket(input).ok()?;
    let files = assemble(shard(), SPAN, vec![encoded]).ok()?;
    files.into_iter().next().map(|file| file.bytes)
}

/// Encodes and decodes: the same points, bit for bit, whatever they are.
pub(crate) fn chunk_round_trip(data: &[u8]) -> bool {
    let input = bucket(data);
    if input.series.is_empty() {
        return false;
    }
    let mut expected: Vec<(u32, u64)> = Vec::new();
    for series in &input.series {
        expected.extend(series.timestamps.iter().copied().zip(series.values.doubles().iter().map(|value| value.to_bits())));
    }
    let bytes = chunk_of(&input).unwrap_or_default();
    let index = verify_file(shard(), &bytes).unwrap_or_else(|error| panic!("what was written is read: {error}"));
    let mut read = read_all(&index, &bytes);
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected, "chunk round trip");
    true
}

pub(crate) fn chunk_seeds() -> Vec<Vec<u8>> {
    let doubles = chunk_round_trip_seeds().into_iter().map(|seed| bucket(&seed));
    doubles.chain(crate::distributions::seed_buckets()).filter_map(|bucket| chunk_of(&bucket)).collect()
}

pub(crate) fn chunk_round_trip_seeds() -> Vec<Vec<u8>> {
    let series = |spacing: u8, width: u8, bytes: &[u8]| {
        let count = bytes.len() / usize::from(width);
        [&[count as u8, spacing, width - 1], bytes].concat()
    };
    let doubles: Vec<u8> =
        [0.1 + 0.2, -0.0, f64::NAN, 1e300, f64::from_bits(0x7ff0_0000_0000_0002)].iter().flat_map(|v| v.to_le_bytes()).collect();
    vec![
        series(1, 1, &[5; 60]),
        [series(1, 1, &[1, 2, 3, 4, 5, 6, 7, 9]), series(200, 8, &doubles)].concat(),
        [series(10, 2, b"abcdefghijkl"), series(1, 3, &[7; 30])].concat(),
    ]
}
