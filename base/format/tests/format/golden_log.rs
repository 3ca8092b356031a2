//! Golden payloads, raw files and log segments, kept for ever: today's code reads each of them as it was meant, writes the newest to the byte, refuses
//! their corrupt twins, and takes no prefix or flipped bit of any for something else.
//!
//! `TAILORS_GOLDEN=write` makes the newest anew.

use std::fmt::Write;
use std::path::PathBuf;

use tailors_format::FormatError;
use tailors_format::payload::{
    PayloadWriter, SeriesMeta, Stamp, TagRef, census_len, decode_labels, decode_points, decode_runs, read_header,
};
use tailors_format::raw::file::{self, ExtentKey, FrameIter, RawFileWriter};
use tailors_format::raw::segment::{Header, Verdict, put_marker, scan};
use tailors_format::raw::{frame, segment};
use tailors_format::version::{LOG_SEGMENT, PAYLOAD, RAW_FILE};
use tailors_model::{MetricKind, MetricMeta, OrgId, TagKind, Window};

const CLUSTER: &str = "0b0c0d0e-0000-4000-8000-000000000007";
const WINDOW: Window = Window::of_ms(1_795_132_800_000);

/// A format: how its newest golden files are made, and what is read in any of them.
struct Format {
    name: &'static str,
    version: String,
    files: Vec<(&'static str, Vec<u8>)>,
    list: fn(&[u8]) -> Result<String, FormatError>,
}

fn formats() -> [Format; 3] {
    let two = |version: (u16, u16)| format!("{}.{}", version.0, version.1);
    [
        Format { name: "payload", version: two(PAYLOAD), files: vec![("small", payload(1)), ("large", payload(400))], list: list_payload },
        Format { name: "raw", version: two(RAW_FILE), files: vec![("small", raw_file(1)), ("large", raw_file(40))], list: list_raw },
        Format { name: "segment", version: LOG_SEGMENT.to_string(), files: vec![("small", log_segment())], list: list_segment },
    ]
}

/// splitmix64.
fn noise(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Regular and irregular runs, decimals with and without differences, raw doubles, bare tags, own metadata; `times` as long.
fn payload(times: i64) -> Vec<u8> {
    let mut writer = PayloadWriter::with_hash_seed(5);
    let start = WINDOW.start_ms();
    let pair = |key: &'static str, value: &'static str| TagRef { key: key.as_bytes(), kind: TagKind::Pair, value: value.as_bytes() };
    let bare = TagRef { key: b"canary", kind: TagKind::Bare, value: b"" };
    writer.metadata(b"mem", &MetricMeta { help: "Memory in use.".into(), ..MetricMeta::default() });
    type Row<'a> = (&'static [u8], Vec<TagRef<'a>>, SeriesMeta<'a>, Vec<f64>, i64);
    let rows: [Row<'_>; 5] = [
        (
            b"cpu",
            vec![pair("env", "prod"), pair("host", "a")],
            SeriesMeta::default(),
            (0..40 * times).map(|i| (i * i % 977) as f64 / 10.0).collect(),
            1,
        ),
        (
            b"cpu",
            vec![pair("env", "prod"), pair("host", "b")],
            SeriesMeta::default(),
            vec![f64::NAN, 0.3, -0.0, f64::from_bits(0x7ff0_0000_0000_0002)],
            0,
        ),
        (
            b"mem",
            vec![bare, pair("role", "db"), pair("role", "web")],
            SeriesMeta { kind: MetricKind::Count, unit: b"byte", interval_s: 10 },
            vec![1.0],
            1,
        ),
        (b"noise", vec![], SeriesMeta::default(), (0..3 * times as u64).map(|i| f64::from_bits(noise(i))).collect(), 0),
        (b"up", vec![bare], SeriesMeta::default(), (0..35 * times).map(|i| (i * 7) as f64).collect(), 1),
    ];
    for (metric, tags, meta, values, regular) in rows {
        let series = writer.series(metric, &tags, meta);
        let at = |i: i64| start + if regular == 1 { i * 100 } else { i * 100 + (noise(i as u64) % 90) as i64 };
        writer.points(series, &(0..values.len() as i64).map(at).collect::<Vec<_>>(), &values);
    }
    let (admitted_from_ms, admitted_to_ms) = (WINDOW.start_ms() - 1, WINDOW.end_ms());
    let stamp = Stamp {
        org: OrgId(7),
        window: WINDOW,
        received_at_us: start * 1_000 + 123,
        intake_id: 99,
        sequence: 3,
        admitted_from_ms,
        admitted_to_ms,
    };
    writer.finish(&stamp).unwrap()
}

fn list_payload(payload: &[u8]) -> Result<String, FormatError> {
    let header = read_header(payload)?;
    let census = &payload[..census_len(payload)?];
    let (labels, runs) = (decode_labels(census)?, decode_runs(census)?);
    let points = decode_points(payload, &runs)?;
    let (mut times, mut values) = (points.timestamps.iter(), points.values.iter());
    let (window_s, admitted) = (header.window.start_s(), (header.admitted_from_ms, header.admitted_to_ms));
    let times_ms = (header.min_ms, header.max_ms);
    let stamp = (header.org.0, window_s, header.received_at_us, header.intake_id, header.sequence);
    let mut out = format!("{stamp:?} {admitted:?} {} {} {times_ms:?}\n", header.series, header.points);
    for (metric, meta) in &labels.metadata {
        let meta = format!("{} {:?} {} {:?}", meta.kind as u8, meta.unit, meta.interval_s, meta.help);
        writeln!(out, "{:?} {meta}", labels.metrics[*metric as usize]).unwrap();
    }
    for run in &runs {
        let series = &labels.series[run.series as usize];
        let tags: Vec<String> = labels.tags_of(series).map(|tag| format!("{:?} {} {:?}", tag.key, tag.kind as u8, tag.value)).collect();
        let meta = format!("{} {:?} {}", series.kind as u8, series.unit, series.interval_s);
        write!(out, "{:?}\t{}\t{meta}\t", labels.metrics[series.metric as usize], tags.join(",")).unwrap();
        for place in 0..run.points {
            let offset = if run.is_irregular() { times.next().copied() } else { Some(run.first_ms + place * run.step_ms) };
            write!(out, " {}:{:016x}", offset.unwrap(), values.next().unwrap().to_bits()).unwrap();
        }
        out.push('\n');
    }
    Ok(out)
}

/// Extents of several partitions, sections and windows; payloads any bytes, `times` as many of them.
fn raw_file(times: u64) -> Vec<u8> {
    let mut writer = RawFileWriter::new("ab12", 7, 1);
    writer.offers(1, 0, 100);
    writer.offers(1, 3, 5);
    for (partition, section, window_s) in [(0, "mod-0064-0001", 14_400), (0, "mod-0064-0002", 14_400), (3, "none", 0)] {
        writer.begin_extent(ExtentKey { partition, section: section.to_owned(), window_s });
        for offset in 0..3 * times {
            let payload: Vec<u8> = (0..10 + offset % 50).map(|i| noise(i << 32 | offset) as u8).collect();
            let mut framed = Vec::new();
            frame::encode(&mut framed, 1, partition, 100 + offset, &payload);
            writer.frame(&framed, 4, -5 + offset as i64).unwrap();
        }
    }
    writer.finish().unwrap().bytes.to_vec()
}

fn list_raw(bytes: &[u8]) -> Result<String, FormatError> {
    let trailer = file::verify(bytes)?;
    let offers: Vec<_> = trailer.offers.iter().map(|offer| (offer.epoch, offer.partition, offer.start)).collect();
    let mut out = format!("{} {} {} {offers:?}\n{:?}\n", trailer.writer, trailer.flush, trailer.attempt, trailer.frame_index);
    for extent in &trailer.extents {
        let (key, received_us) = (&extent.key, (extent.received_min_us, extent.received_max_us));
        let counted = (extent.start, extent.end, extent.payloads, extent.points);
        writeln!(out, "{} {} {} {counted:?} {received_us:?}", key.partition, key.section, key.window_s).unwrap();
        for frame in FrameIter::new(&bytes[extent.start as usize..extent.end as usize], extent.start, extent.start, extent.end) {
            let (position, frame) = frame?;
            writeln!(out, "{position} {}", list_frame(&frame)).unwrap();
        }
    }
    Ok(out)
}

fn list_frame(frame: &frame::Frame<'_>) -> String {
    format!("{} {} {} {:?}", frame.epoch, frame.partition, frame.offset, frame.payload)
}

/// Two batches over both partitions, each ended by its marker, one that vouches for all, zeros.
fn log_segment() -> Vec<u8> {
    let header = Header { cluster: CLUSTER.to_owned(), epoch: 3, number: 12, previous_ends: vec![100, 5], bases: vec![100, 9] };
    let mut bytes = header.to_bytes();
    let mut synced = bytes.len();
    for batch in 0..2 {
        for (partition, base) in [(0, 100), (1, 9)] {
            frame::encode(&mut bytes, 3, partition, base + batch, format!("payload {partition} {batch}").as_bytes());
        }
        put_marker(&mut bytes, CLUSTER, 3, synced as u64);
        synced = bytes.len();
    }
    put_marker(&mut bytes, CLUSTER, 3, synced as u64);
    bytes.resize(bytes.len() + 200, 0);
    bytes
}

/// Records first, a line each, then how the segment ends. Damage is an error here, as it is to a log that starts.
fn list_segment(bytes: &[u8]) -> Result<String, FormatError> {
    let found = scan(bytes)?;
    if let Verdict::Damage { why, .. } = found.verdict {
        return Err(FormatError::invalid("log segment", why.to_string()));
    }
    let mut out = String::new();
    for record in &found.records {
        let start = record.entry.position as usize;
        writeln!(out, "{}", list_frame(&frame::decode(&bytes[start..start + record.entry.length as usize])?.0)).unwrap();
    }
    let ended = if found.verdict == Verdict::Clean { "clean" } else { "torn" };
    writeln!(out, "{ended} {} {}", found.good_until, found.synced_to).unwrap();
    Ok(out)
}

fn directory(format: &Format) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(format.name)
}

/// (version/name, bytes, listing, corrupt twin) of all golden files.
fn golden(format: &Format) -> Vec<(String, Vec<u8>, String, Vec<u8>)> {
    let mut found = Vec::new();
    for version in std::fs::read_dir(directory(format)).unwrap() {
        let folder = version.unwrap().path();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "bin") && !name.ends_with("-corrupt") {
                let text = zstd::decode_all(std::fs::read(folder.join(format!("{name}.txt.zst"))).unwrap().as_slice()).unwrap();
                let twin = std::fs::read(folder.join(format!("{name}-corrupt.bin"))).unwrap();
                let version = folder.file_name().unwrap().to_string_lossy().into_owned();
                found.push((format!("{version}/{name}"), std::fs::read(&path).unwrap(), String::from_utf8(text).unwrap(), twin));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_newest_are_what_this_writer_writes() {
    for format in formats() {
        let folder = directory(&format).join(&format.version);
        for (name, bytes) in &format.files {
            if std::env::var("TAILORS_GOLDEN").is_ok_and(|value| value == "write") {
                let mut corrupt = bytes.clone();
                let middle = corrupt.len() / 3;
                corrupt[middle] ^= 4;
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(format!("{name}.bin")), bytes).unwrap();
                std::fs::write(folder.join(format!("{name}-corrupt.bin")), corrupt).unwrap();
                let text = zstd::encode_all((format.list)(bytes).unwrap().as_bytes(), 19).unwrap();
                std::fs::write(folder.join(format!("{name}.txt.zst")), text).unwrap();
            }
            let kept = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
            assert!(kept == *bytes, "{} {name}: the writer writes other bytes; a new version needs new golden files", format.name);
        }
    }
}

#[test]
fn all_are_read_as_they_were_meant() {
    for format in formats() {
        let golden = golden(&format);
        assert!(golden.len() >= format.files.len(), "{}: golden files are missing", format.name);
        for (name, bytes, text, twin) in golden {
            assert!((format.list)(&bytes).unwrap() == text, "{} {name}", format.name);
            assert!((format.list)(&twin).is_err(), "{} {name}: the corrupt twin is accepted", format.name);
        }
    }
}

/// Whether damaged bytes were refused, or said less without saying anything else. Only a segment may: a crash cuts it anywhere, and what no marker
/// vouches for was acknowledged to nobody; the next segment knows where it must end.
fn is_refused(format: &Format, damaged: &[u8], whole: &str) -> bool {
    let Ok(text) = (format.list)(damaged) else { return true };
    let (records, verdict) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
    format.name == "segment" && !whole.contains(verdict) && whole.starts_with(records)
}

#[test]
fn every_prefix_and_every_bit_of_the_small_ones_is_refused() {
    for format in formats() {
        for (name, bytes, text, _) in golden(&format).into_iter().filter(|(name, ..)| name.ends_with("/small")) {
            for end in 0..bytes.len() {
                let zeros_left = bytes[end..].iter().all(|byte| *byte == 0) && format.name == "segment";
                assert!(zeros_left || is_refused(&format, &bytes[..end], &text), "{} {name}: prefix of {end}", format.name);
            }
            let mut bad = bytes.clone();
            for bit in 0..bytes.len() * 8 {
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(is_refused(&format, &bad, &text), "{} {name}: bit {bit}", format.name);
                bad[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn a_hundred_thousand_flips_of_the_large_ones_are_refused() {
    for format in formats().iter().filter(|format| format.files.len() > 1) {
        for (name, bytes, _, _) in golden(format).into_iter().filter(|(name, ..)| name.ends_with("/large")) {
            let mut bad = bytes.clone();
            for flip in 0..100_000 {
                let bit = (noise(flip) % (bytes.len() as u64 * 8)) as usize;
                bad[bit / 8] ^= 1 << (bit % 8);
                // All checksums; what is behind them is decoded only if they hold.
                let refused = match format.name {
                    "payload" => list_payload(&bad).is_err(),
                    _ => file::verify(&bad).is_err(),
                };
                assert!(refused, "{} {name}: bit {bit}", format.name);
                bad[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn a_newer_major_version_is_named() {
    let unknown = |error: FormatError| matches!(error, FormatError::Unknown { number: 9, .. });
    let (mut payload, mut raw, mut log) = (payload(1), raw_file(1), log_segment());
    (payload[8], log[6]) = (9, 9);
    let footer = raw.len() - file::FOOTER_BYTES;
    (raw[8], raw[footer + 28]) = (9, 9);
    assert!(unknown(list_payload(&payload).unwrap_err()));
    assert!(unknown(segment::Header::from_bytes(&log, CLUSTER).unwrap_err()) && unknown(scan(&log).unwrap_err()));
    assert!(unknown(file::verify(&raw).unwrap_err()), "{:?}", file::verify(&raw));
}
