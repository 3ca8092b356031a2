//! What arrives by HTTP: content encodings and protocols. The first byte chooses the encoding; bodies of protocols come decompressed.

use std::io::Write;

use tailors_intake::decode::{self, DecodeScratch, Item, Protocol};
use tailors_intake::decompress::{Encoding, decompress as unpack};

const BYTES_MAX: usize = 32 << 20;
const POINTS_MAX: usize = 100_000;
const ENCODINGS: [Encoding; 5] = [Encoding::Identity, Encoding::Deflate, Encoding::Gzip, Encoding::Zstd, Encoding::SnappyBlock];

pub(crate) fn decompress(data: &[u8]) -> bool {
    let Some((first, body)) = data.split_first() else { return false };
    let mut out = Vec::new();
    let unpacked = unpack(ENCODINGS[usize::from(*first) % ENCODINGS.len()], body, BYTES_MAX, &mut out);
    unpacked.is_ok_and(|unpacked| {
        assert!(unpacked.len() <= BYTES_MAX, "the cap holds");
        true
    })
}

pub(crate) fn decompress_seeds() -> Vec<Vec<u8>> {
    let body = br#"{"series":[{"metric":"a"},{"metric":"a"},{"metric":"a"}]}"#;
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let packed = [
        Some(body.to_vec()),
        deflate.write_all(body).and_then(|()| deflate.finish()).ok(),
        gzip.write_all(body).and_then(|()| gzip.finish()).ok(),
        zstd::bulk::compress(body, 3).ok(),
        snap::raw::Encoder::new().compress_vec(body).ok(),
    ];
    packed.into_iter().zip(0u8..).filter_map(|(packed, first)| Some([&[first], &packed?[..]].concat())).collect()
}

pub(crate) fn remote_write(data: &[u8]) -> bool {
    protocol(Protocol::RemoteWrite, data)
}

pub(crate) fn datadog(data: &[u8]) -> bool {
    protocol(Protocol::Datadog, data)
}

fn protocol(protocol: Protocol, data: &[u8]) -> bool {
    let mut points = 0;
    let decoded = decode::decode(protocol, data, POINTS_MAX, &mut DecodeScratch::default(), &mut |item| {
        match item {
            Item::Series(series) => {
                assert_eq!(series.timestamps_ms.len(), series.values.len());
                assert!(!series.metric.is_empty() && series.tags.is_sorted_by_key(|tag| (tag.key, tag.kind, tag.value)));
                points += series.values.len();
            }
            Item::Metadata { metric, .. } => assert!(!metric.is_empty()),
            Item::Refused { .. } => {}
        }
        Ok(())
    });
    assert!(points <= POINTS_MAX, "the limit holds");
    decoded.is_ok()
}

/// A field of wire type 2.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    debug_assert!(body.len() < 128);
    [&[number << 3 | 2, body.len() as u8], body].concat()
}

pub(crate) fn remote_write_seeds() -> Vec<Vec<u8>> {
    let label = |name: &str, value: &str| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    let sample = |value: f64, ms: u8| field(2, &[&[1 << 3 | 1], &value.to_le_bytes()[..], &[2 << 3, ms]].concat());
    let series = [label("__name__", "up"), label("job", "node"), sample(1.0, 5), sample(f64::NAN, 6)].concat();
    let metadata = [&[1 << 3, 1][..], &field(2, b"up"), &field(4, b"help"), &field(5, b"s")].concat();
    vec![field(1, &series), [field(1, &series), field(3, &metadata)].concat()]
}

pub(crate) fn datadog_seeds() -> Vec<Vec<u8>> {
    let whole: &[u8] = br#"{"series":[{"metric":"system.load","type":3,"unit":"process","interval":10,"points":[{"timestamp":1795132800,"value":0.5}],
        "resources":[{"name":"h1","type":"host"}],"tags":["env:prod","canary"],"source_type_name":"x","metadata":{"origin":{"product":1}}}]}"#;
    vec![whole.to_vec(), br#"{"series":[]}"#.to_vec(), br#"{"series":[{"metric":"m","points":[{"timestamp":1e3,"value":-1}]}]}"#.to_vec()]
}
