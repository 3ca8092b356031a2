//! Round trips bit for bit, and every prefix and flipped bit of small payloads.

use proptest::prelude::*;
use tailors_model::{MetricKind, MetricMeta, OrgId, TagKind, Window};

use super::*;

fn stamp() -> Stamp {
    let window = Window::of_ms(1_795_132_800_000);
    let (admitted_from_ms, admitted_to_ms) = (window.start_ms() - 1, window.end_ms());
    Stamp { org: OrgId(7), window, received_at_us: 1_795_132_801_000_123, intake_id: 99, sequence: 3, admitted_from_ms, admitted_to_ms }
}

fn pair<'a>(key: &'a str, value: &'a str) -> TagRef<'a> {
    TagRef { key: key.as_bytes(), kind: TagKind::Pair, value: value.as_bytes() }
}

/// One series of input: name, host, timestamps, values.
type Input = (String, String, Vec<i64>, Vec<f64>);

fn write(writer: &mut PayloadWriter, input: &[Input]) -> Result<Vec<u8>, crate::FormatError> {
    for (metric, host, timestamps, values) in input {
        let meta = SeriesMeta { kind: MetricKind::Gauge, unit: b"byte", interval_s: 10 };
        let series = writer.series(metric.as_bytes(), &[pair("env", "prod"), pair("host", host)], meta);
        writer.points(series, timestamps, values);
    }
    writer.finish(&stamp())
}

/// All points in index order as (metric, host, time, bits).
fn read(payload: &[u8]) -> Result<Vec<(String, String, i64, u64)>, crate::FormatError> {
    let header = read_header(payload)?;
    let census = &payload[..census_len(payload)?];
    let (labels, runs) = (decode_labels(census)?, decode_runs(census)?);
    let points = decode_points(payload, &runs)?;
    let (mut times, mut values) = (points.timestamps.iter(), points.values.iter());
    let mut out = Vec::new();
    for run in &runs {
        let series = &labels.series[run.series as usize];
        let host = labels.tags_of(series).find(|tag| &tag.key[..] == b"host").map(|tag| tag.value.clone()).unwrap_or_default();
        for place in 0..run.points {
            let offset = if run.is_irregular() { *times.next().expect("time") } else { run.first_ms + place * run.step_ms };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let metric = text(&labels.metrics[series.metric as usize]);
            out.push((metric, text(&host), header.window.start_ms() + i64::from(offset), values.next().expect("value").to_bits()));
        }
    }
    assert!(times.next().is_none() && values.next().is_none());
    Ok(out)
}

fn expected(input: &[Input]) -> Vec<(String, String, i64, u64)> {
    let all = input.iter().flat_map(|(metric, host, times, values)| {
        times.iter().zip(values).map(move |(time, value)| (metric.clone(), host.clone(), *time, value.to_bits()))
    });
    all.collect()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(f64::from),
        (any::<i32>(), 0i32..16).prop_map(|(m, e)| f64::from(m) / 10f64.powi(e)),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::MIN_POSITIVE,
            1e15,
            0.1 + 0.2,
            f64::from_bits(0x7ff0_0000_0000_0002)
        ]),
        (0u64..1 << 51).prop_map(|m| m as f64),
    ]
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        prop::collection::vec(value(), 0..120),
        (any::<i32>(), prop::collection::vec(0i32..1000, 0..200))
            .prop_map(|(base, steps)| { steps.iter().map(|step| (f64::from(base) + f64::from(*step)) / 100.0).collect() }),
        // A long row with a stale marker or two, as Prometheus sends it.
        (prop::collection::vec(0u32..50_000, 100), 0usize..100).prop_map(|(row, stale)| {
            let mut row: Vec<f64> = row.into_iter().map(f64::from).collect();
            row[stale] = f64::from_bits(0x7ff0_0000_0000_0002);
            row
        }),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    (0u8..3, 0u8..5, 0u8..4, values(), 0i64..14_000_000, prop::collection::vec(0i64..300, 200)).prop_map(
        |(metric, host, shape, values, first, jitter)| {
            let at = |place: usize| match shape {
                0 => 1000 * place as i64,
                1 => 1000 * place as i64 + jitter[place],
                2 => jitter[place],
                _ => 500 * place as i64 + if place > 40 { 7_001 } else { 0 },
            };
            let times = (0..values.len()).map(|place| stamp().window.start_ms() + first + at(place)).collect();
            (format!("m{metric}"), format!("h{host}"), times, values)
        },
    )
}

proptest! {
    #[test]
    fn points_come_back_bit_for_bit_and_in_order(inputs in prop::collection::vec(input(), 0..8)) {
        let mut writer = PayloadWriter::with_hash_seed(5);
        let payload = write(&mut writer, &inputs).expect("writes");
        prop_assert_eq!(read(&payload).expect("reads"), expected(&inputs));
        // Reuse and another hash seed change no byte.
        prop_assert_eq!(&write(&mut writer, &inputs).expect("writes"), &payload);
        prop_assert_eq!(&write(&mut PayloadWriter::new(), &inputs).expect("writes"), &payload);
    }
}

fn small() -> Vec<u8> {
    let start = stamp().window.start_ms();
    let row = |n: i64, step: i64| (0..n).map(|i| start + i * step).collect::<Vec<_>>();
    let inputs = [
        ("cpu".to_owned(), "a".to_owned(), row(40, 1000), (0..40).map(|i| f64::from(i * i) / 10.0).collect()),
        ("cpu".to_owned(), "b".to_owned(), vec![start + 5, start + 1, start + 9], vec![f64::NAN, 0.3, -0.0]),
        ("mem".to_owned(), "a".to_owned(), vec![start + 77], vec![1.0]),
    ];
    let mut writer = PayloadWriter::new();
    writer.metadata(b"mem", &MetricMeta { help: "Memory in use.".into(), ..MetricMeta::default() });
    write(&mut writer, &inputs).expect("writes")
}

#[test]
fn every_prefix_and_every_flipped_bit_is_an_error() {
    let payload = small();
    assert_eq!(read(&payload).expect("reads").len(), 44);
    for len in 0..payload.len() {
        assert!(read_header(&payload[..len]).is_err(), "prefix {len}");
        assert!(read(&payload[..len]).is_err(), "prefix {len}");
    }
    let mut longer = payload.clone();
    longer.push(0);
    assert!(read(&longer).is_err());
    for bit in 0..payload.len() * 8 {
        let mut bad = payload.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn metadata_and_numbers_of_series() {
    let mut writer = PayloadWriter::new();
    assert!(writer.is_empty());
    let help = MetricMeta { kind: MetricKind::Counter, unit: "s".into(), interval_s: 4, help: "Seconds.".into() };
    writer.metadata(b"up", &help);
    assert!(!writer.is_empty());
    let header = read_header(&writer.finish(&stamp()).expect("writes")).expect("reads");
    assert_eq!((header.points, header.series, header.min_ms, header.org), (0, 0, stamp().window.start_ms(), OrgId(7)));

    writer.metadata(b"other", &help);
    let bare = TagRef { key: b"canary", kind: TagKind::Bare, value: b"" };
    let one = writer.series(b"up", &[bare, pair("a", "")], SeriesMeta::default());
    assert_eq!(writer.series(b"up", &[bare, pair("a", "")], SeriesMeta::default()), one);
    let counted = SeriesMeta { kind: MetricKind::Count, unit: b"byte", interval_s: 10 };
    let two = writer.series(b"up", &[bare, pair("a", "")], counted);
    assert_ne!(one, two);
    assert_eq!(writer.series(b"up", &[bare, pair("a", "")], SeriesMeta::default()), one);
    let three = writer.series(b"up", &[], SeriesMeta::default());
    writer.points(three, &[stamp().window.start_ms()], &[1.0]);
    let payload = writer.finish(&stamp()).expect("writes");
    let labels = decode_labels(&payload).expect("reads");
    assert_eq!(labels.series.len(), 3);
    assert_eq!((labels.series[1].kind, &labels.series[1].unit[..], labels.series[1].interval_s), (MetricKind::Count, &b"byte"[..], 10));
    assert_eq!(labels.refs_of(&labels.series[0]), labels.refs_of(&labels.series[1]));
    assert_eq!(labels.tags_of(&labels.series[0]).map(|tag| tag.kind).collect::<Vec<_>>(), [TagKind::Bare, TagKind::Pair]);
    assert_eq!(labels.metadata, vec![(0, help)]);
    assert_eq!(&labels.metrics[labels.series[2].metric as usize][..], b"up");
}

#[test]
fn mistakes_of_the_caller_are_errors_and_leave_a_clean_writer() {
    let start = stamp().window.start_ms();
    let mut writer = PayloadWriter::new();
    let mistake = |writer: &mut PayloadWriter, times: &[i64], values: &[f64], other: u32| {
        let series = writer.series(b"m", &[], SeriesMeta::default());
        writer.points(series + other, times, values);
        assert!(writer.finish(&stamp()).is_err());
        assert!(writer.is_empty());
    };
    mistake(&mut writer, &[start - 1], &[1.0], 0);
    mistake(&mut writer, &[start, start + 14_400_000], &[1.0, 2.0], 0);
    mistake(&mut writer, &[i64::MIN, i64::MAX, 0], &[1.0, 2.0, 3.0], 0);
    mistake(&mut writer, &[start], &[1.0, 2.0], 0);
    mistake(&mut writer, &[start], &[1.0], 1);
    mistake(&mut writer, &vec![start; 70_000], &vec![1.0; 70_000], 0);
    assert_eq!(read_header(&small()).expect("reads").points, 44);
}

#[test]
fn sizes_and_speed_of_remote_write_shapes() {
    // Printed with --nocapture; the bounds are loose ones for the dev profile, docs/numbers.md has the real ones.
    for (samples, kinds_max) in [(1usize, 7.0), (5, 5.0), (500, 4.0)] {
        let series_count = (8_000 / samples).max(4);
        let start = stamp().window.start_ms();
        let hosts: Vec<String> = (0..series_count).map(|host| format!("host-{host:05}")).collect();
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let times: Vec<i64> = (0..samples as i64).map(|place| start + place * 1000).collect();
        let rows: Vec<Vec<f64>> = (0..series_count)
            .map(|series| {
                let mut level = (random() % 100_000) as f64;
                (0..samples)
                    .map(|_| {
                        level += (random() % 200) as f64 - if series % 5 == 1 { 0.0 } else { 100.0 };
                        match series % 5 {
                            0 => level.round() / 100.0,
                            2 => 42.0,
                            4 => (random() as f64).sqrt(),
                            _ => level,
                        }
                    })
                    .collect()
            })
            .collect();
        let mut writer = PayloadWriter::new();
        let mut payload = Vec::new();
        for round in 0..3 {
            for (host, row) in hosts.iter().zip(&rows) {
                let tags = [pair("env", "prod"), pair("host", host), pair("region", "eu"), pair("service", &host[8..])];
                let series = writer.series(b"fleet_value", &tags, SeriesMeta::default());
                writer.points(series, &times, row);
            }
            let estimate = writer.bytes_estimate();
            payload = writer.finish(&stamp()).expect("writes");
            assert!(payload.len() <= estimate, "round {round}");
        }
        let points = (series_count * samples) as f64;
        let runs = decode_runs(&payload).expect("runs");
        assert_eq!(decode_points(&payload, &runs).expect("points").values, rows.concat());
        let bytes = payload.len() as f64 / points;
        println!("{samples} samples a series: {bytes:.2} bytes/point");
        assert!(bytes < kinds_max, "{samples} samples a series: {bytes:.2} bytes/point");
    }
}
