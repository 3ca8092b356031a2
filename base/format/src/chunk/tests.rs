//! Chunk files: bit-exact round trips, equal bytes for any input order, every prefix and flipped bit an error.

use bytes::Bytes;
use proptest::prelude::*;
use tailors_model::{MetricKind, MetricMeta, OrgId, ShardId, Tag, window::WINDOW_MS};

use super::*;
use crate::FormatError;

const SPAN: Span = Span { start_ms: 125_000 * WINDOW_MS, span_ms: WINDOW_MS as u32 };

fn shard() -> ShardId {
    ShardId::of_org(OrgId(7), 64)
}

fn column(tags: Vec<Tag>, timestamps: Vec<u32>, values: Vec<f64>) -> SeriesColumn {
    SeriesColumn { tags, meta: MetricMeta::default(), timestamps, values: values.into() }
}

fn regular(host: usize, values: Vec<f64>) -> SeriesColumn {
    let timestamps = (0..values.len() as u32).map(|i| i * 1_000).collect();
    column(vec![Tag::bare("canary"), Tag::pair("host", format!("h{host:04}"))], timestamps, values)
}

fn bucket(org: u32, metric: &str, series: Vec<SeriesColumn>) -> BucketInput {
    let meta =
        MetricMeta { kind: MetricKind::Gauge, unit: Bytes::from_static(b"byte"), interval_s: 0, help: Bytes::from_static(b"a help") };
    BucketInput { org: OrgId(org), metric: Bytes::from(metric.to_owned()), meta, series }
}

fn files(buckets: &[BucketInput]) -> Vec<ChunkFile> {
    let encoded = buckets.iter().map(|bucket| encode_bucket(bucket).unwrap()).collect();
    assemble(shard(), SPAN, encoded).unwrap()
}

type Row = (u32, Bytes, Vec<Tag>, Vec<(u32, u64)>);

/// All points of a file, series by series, through the public reading path.
fn rows(file: &ChunkFile) -> Vec<Row> {
    let index = verify_file(shard(), &file.bytes).unwrap();
    let mut scratch = DecodeScratch::default();
    let mut rows = Vec::new();
    for (i, metric) in index.metrics().iter().enumerate() {
        let selected = index.select(metric.org, i, &mut |_| true).unwrap();
        assert_eq!(selected, metric.series.clone().collect::<Vec<_>>());
        let base = rows.len();
        for series in &selected {
            rows.push((metric.org.0, metric.metric.clone(), index.tags(*series).unwrap(), Vec::new()));
        }
        let mut points = 0;
        for read in index.plan_reads(&selected) {
            let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
            let each = &mut |series: u32, times: &[u32], values: &[f64]| {
                points += times.len() as u64;
                let row: &mut Row = &mut rows[base + (series - metric.series.start) as usize];
                row.3.extend(times.iter().copied().zip(values.iter().map(|value| value.to_bits())));
            };
            index.decode(&read, bytes, &mut scratch, each).unwrap();
        }
        assert_eq!(points, metric.points);
        assert!(selected.iter().zip(&rows[base..]).all(|(series, row)| index.points_of(*series) as usize == row.3.len()));
    }
    rows.sort();
    rows
}

fn rows_of(buckets: &[BucketInput]) -> Vec<Row> {
    let rows = buckets.iter().flat_map(|bucket| {
        bucket.series.iter().map(|series| {
            let points = series.timestamps.iter().copied().zip(series.values.doubles().iter().map(|value| value.to_bits()));
            (bucket.org.0, bucket.metric.clone(), series.tags.clone(), points.collect())
        })
    });
    let mut rows: Vec<Row> = rows.collect();
    rows.sort();
    rows
}

fn noise(seed: u64) -> u64 {
    // splitmix64: tests need numbers that compress badly, the same every time.
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn sample() -> Vec<BucketInput> {
    let walk = |seed: u64, n: u64| (0..n).map(|i| (noise(seed + i) % 1_000) as f64 / 100.0).collect::<Vec<_>>();
    let mut own = regular(3, vec![f64::NAN, 1.5, -0.0, f64::INFINITY, 2.25, 3.0, 4.0, 5.0]);
    own.meta = MetricMeta { kind: MetricKind::Counter, interval_s: 10, ..Default::default() };
    let doubles = (0..40).map(|i| f64::from_bits(noise(i))).collect();
    vec![
        bucket(7, "cpu", vec![regular(1, walk(1, 30)), regular(2, vec![3.25; 12]), own]),
        bucket(
            7,
            "mem",
            vec![regular(1, vec![4096.0, 8192.0, 4096.0]), column(vec![], vec![5, 7, 20, 21, 95, 230, 231, 300, 411], walk(9, 9))],
        ),
        bucket(71, "cpu", vec![regular(1, doubles), regular(2, vec![f64::from_bits(0x7ff8_0000_0000_0002)])]),
    ]
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-100_000i64..100_000, 0i32..15).prop_map(|(i, e)| i as f64 / 10f64.powi(e)),
        2 => any::<i32>().prop_map(f64::from),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => prop_oneof![Just(-0.0), Just(0.0), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::NAN), Just(5e-324), Just(f64::MAX),
            Just(f64::from_bits(0x7ff0_0000_0000_0002)), Just(9_007_199_254_740_993.0), Just(1e15), Just(0.1 + 0.2)],
    ]
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    let decimals = (0i32..6, prop::collection::vec(-1_000i64..1_000, 1..200));
    prop_oneof![
        prop::collection::vec(value(), 1..60),
        (value(), 1usize..200).prop_map(|(value, n)| vec![value; n]),
        decimals.prop_map(|(e, integers)| integers.into_iter().map(|i| i as f64 / 10f64.powi(e)).collect()),
        (prop::collection::vec(-1_000i64..1_000, 20..400), value())
            .prop_map(|(integers, odd)| integers.into_iter().map(|i| if i % 50 == 7 { odd } else { i as f64 / 4.0 }).collect()),
    ]
}

fn series(values: Vec<f64>, host: usize, regular_times: bool, seed: u64) -> SeriesColumn {
    let mut column = regular(host, values);
    if !regular_times {
        let mut at = 0;
        for (i, time) in column.timestamps.iter_mut().enumerate() {
            at += 1 + (noise(seed + i as u64) % 20_000) as u32;
            *time = at;
        }
    }
    column
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_double_comes_back_bit_for_bit(metrics in prop::collection::vec(prop::collection::vec((values(), any::<bool>(), 0u64..1000), 0..12), 1..5)) {
        let buckets: Vec<BucketInput> = metrics.into_iter().enumerate().map(|(m, columns)| {
            let columns = columns.into_iter().enumerate().map(|(i, (values, even, seed))| series(values, i, even, seed));
            bucket(7, &format!("m{m}"), columns.collect())
        }).collect();
        let files = files(&buckets);
        let read: Vec<Row> = files.iter().flat_map(rows).collect();
        prop_assert_eq!(read, rows_of(&buckets));
    }

    #[test]
    fn order_of_series_changes_no_byte(columns in prop::collection::vec((values(), any::<bool>(), 0u64..9), 1..12), rotate in 0usize..12) {
        let columns = columns.into_iter().enumerate().map(|(i, (values, even, seed))| series(values, i, even, seed));
        let input = bucket(7, "m", columns.collect());
        let mut other = input.clone();
        other.series.reverse();
        let n = other.series.len();
        other.series.rotate_left(rotate % n);
        prop_assert_eq!(files(&[input]), files(&[other]));
    }
}

#[test]
fn a_small_file_round_trips_with_its_metadata() {
    let buckets = sample();
    let files = files(&buckets);
    assert_eq!(files.len(), 1);
    let file = &files[0];
    assert_eq!(rows(file), rows_of(&buckets));
    assert_eq!(file.points, 30 + 12 + 8 + 3 + 9 + 40 + 1);
    assert_eq!((file.min_ms, file.max_ms), (SPAN.start_ms, SPAN.start_ms + 39_000));
    let index = verify_file(shard(), &file.bytes).unwrap();
    assert_eq!(index.span(), SPAN);
    assert_eq!(index.encoder(), ENCODER_VERSION);
    assert_eq!(index.metrics().iter().map(|metric| metric.org.0).collect::<Vec<_>>(), [7, 7, 71]);
    assert_eq!(index.metrics()[0].meta, buckets[0].meta);
    let own: Vec<&MetricMeta> = (0..index.series_len()).filter_map(|series| index.own_meta(series)).collect();
    assert_eq!(own, [&buckets[0].series[2].meta]);
    assert_eq!(index.meta(0).unwrap(), &buckets[0].meta);
    assert!(index.meta(99).is_err() && index.tags(99).is_err() && index.select(OrgId(7), 99, &mut |_| true).is_err());
    assert_eq!(index.points_of(99), 0);
    assert!(index.select(OrgId(71), 0, &mut |_| true).unwrap().is_empty());
    let report = index.report();
    assert_eq!(report.parts.iter().map(|(_, bytes)| bytes).sum::<u64>(), file.bytes.len() as u64);
    assert!(report.metrics.iter().all(|metric| metric.encodings.iter().map(|encoding| encoding.points).sum::<u64>() == metric.points));
    let pages: u64 = report.parts.iter().filter(|(part, _)| part.starts_with("page")).map(|(_, bytes)| bytes).sum();
    assert_eq!(report.metrics.iter().map(|metric| metric.bytes).sum::<u64>(), pages);
}

#[test]
fn one_series_needs_one_page_and_a_constant_none() {
    let short = (0..200).map(|i| regular(i, (0..100).map(|k| noise((i * 100 + k) as u64) as f64).collect())).collect();
    let file = files(&[bucket(7, "m", short)]).remove(0);
    let index = verify_file(shard(), &file.bytes).unwrap();
    let reads = index.plan_reads(&[17]);
    assert_eq!(reads.len(), 1);
    assert_eq!(reads[0].series().collect::<Vec<_>>(), [17]);
    assert_eq!(reads[0].points(), 100);
    assert!(index.plan_reads(&(0..200).collect::<Vec<_>>()).len() >= 18);
    let file = files(&[bucket(7, "m", vec![regular(1, vec![2.5; 14_400])])]).remove(0);
    let index = verify_file(shard(), &file.bytes).unwrap();
    assert_eq!(index.plan_reads(&[0])[0].range, 0..0);
    assert!(file.bytes.len() < 600, "{} bytes", file.bytes.len());
}

#[test]
fn every_prefix_and_every_flipped_bit_is_an_error() {
    let file = files(&sample()).remove(0);
    for end in 0..file.bytes.len() {
        assert!(verify_file(shard(), &file.bytes[..end]).is_err(), "prefix of {end}");
    }
    let mut bytes = file.bytes.clone();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_file(shard(), &bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes.push(0);
    assert!(verify_file(shard(), &bytes).is_err());
    assert!(matches!(verify_file(ShardId::of_org(OrgId(8), 64), &file.bytes), Err(FormatError::Checksum { .. })));
    assert!(verify_file(ShardId::Org(OrgId(7)), &file.bytes).is_err());
}

#[test]
fn a_page_in_the_wrong_place_is_refused() {
    let noisy = |host| regular(host, (0..2_000).map(|i| f64::from_bits(noise(i))).collect());
    let file = files(&[bucket(7, "m", vec![noisy(1), noisy(2)])]).remove(0);
    let index = verify_file(shard(), &file.bytes).unwrap();
    let reads = index.plan_reads(&[0, 1]);
    let page = |i: usize| &file.bytes[reads[i].range.start as usize..reads[i].range.end as usize];
    assert_eq!(page(0).len(), page(1).len());
    let mut scratch = DecodeScratch::default();
    let error = index.decode(&reads[0], page(1), &mut scratch, &mut |_, _, _| panic!("handed out"));
    assert!(matches!(error, Err(FormatError::Checksum { .. })), "{error:?}");
    assert!(index.decode(&reads[0], &page(0)[1..], &mut scratch, &mut |_, _, _| panic!("handed out")).is_err());
    assert!(index.decode(&reads[0], page(0), &mut scratch, &mut |_, _, _| {}).is_ok());
}

#[test]
fn long_series_span_pages_and_chunks() {
    let n = 600_000u64;
    let at_20_ms = |values: Vec<f64>, host: &str| {
        let timestamps = (0..values.len() as u32).map(|i| i * 20).collect();
        column(vec![Tag::pair("host", host.to_owned())], timestamps, values)
    };
    let walk = (0..n).map(|i| (noise(i) % 64) as f64 / 4.0).collect();
    let constant = vec![7.5; n as usize];
    let doubles = (0..70_000).map(|i| f64::from_bits(noise(i) >> 2)).collect();
    let buckets = [bucket(7, "m", vec![at_20_ms(walk, "a"), at_20_ms(constant, "b"), at_20_ms(doubles, "c"), regular(1, vec![1.0, 2.0])])];
    let file = files(&buckets).remove(0);
    assert_eq!(rows(&file), rows_of(&buckets));
    let index = verify_file(shard(), &file.bytes).unwrap();
    assert!(index.chunks.len() >= 4);
    assert!(index.pages.iter().all(|page| page.length <= 1 << 20 && page.points <= 65_536));
}

#[test]
fn a_metric_of_several_buckets_is_one_entry() {
    let part = |from: usize| bucket(7, "m", (from..from + 50).map(|i| regular(i, vec![i as f64, 2.0, 3.0])).collect());
    let mut buckets: Vec<BucketInput> = vec![part(0), part(50), part(100)];
    buckets.extend((0..40).map(|i| bucket(8, &format!("n{i:03}"), vec![regular(1, vec![1.0, 2.0])])));
    let file = files(&buckets).remove(0);
    assert_eq!(rows(&file), rows_of(&buckets));
    let index = verify_file(shard(), &file.bytes).unwrap();
    assert_eq!(index.metrics().len(), 41);
    assert_eq!(index.metrics()[0].series, 0..150);
    let wanted = index.select(OrgId(7), 0, &mut |tags| tags.contains(&Tag::pair("host", "h0120"))).unwrap();
    assert_eq!(wanted.len(), 1);
    buckets.reverse();
    let encoded = buckets.iter().map(|bucket| encode_bucket(bucket).unwrap()).collect();
    assert!(assemble(shard(), SPAN, encoded).is_err());
    assert_eq!(assemble(shard(), SPAN, Vec::new()), Ok(Vec::new()));
}

#[test]
fn bad_input_is_refused() {
    let encode = |series| encode_bucket(&bucket(7, "m", series));
    assert!(encode(vec![regular(1, vec![1.0]), regular(1, vec![2.0])]).is_err());
    assert!(encode(vec![column(vec![], vec![1, 1], vec![1.0, 2.0])]).is_err());
    assert!(encode(vec![column(vec![], vec![1], vec![1.0, 2.0])]).is_err());
    assert!(encode(vec![column(vec![], vec![], vec![])]).is_err());
    assert!(encode(vec![column(vec![Tag::bare("b"), Tag::bare("a")], vec![1], vec![1.0])]).is_err());
    let late = encode(vec![column(vec![], vec![WINDOW_MS as u32], vec![1.0])]).unwrap();
    assert!(assemble(shard(), SPAN, vec![late]).is_err());
}

#[test]
fn exceptions_cost_what_their_frequency_says() {
    // Two of five values are NaN, in runs, as of a ratio whose denominator was 0; the walk between them has nine increments.
    let mut sum = 0;
    let value = |i: u64| {
        sum += noise(i) as i64 % 5;
        if i % 50 < 20 { f64::NAN } else { sum as f64 / 100.0 }
    };
    let buckets = [bucket(1, "ratio", vec![regular(1, (0..14_400).map(value).collect())])];
    let file = &files(&buckets)[0];
    assert_eq!(rows(file), rows_of(&buckets));
    let bits = file.bytes.len() as f64 * 8.0 / 14_400.0;
    // Entropy of which values are NaN, .97, and of increments for the others, .6 x 3.1.
    assert!(bits < 3.3, "{bits}");
}

#[test]
fn decimals_stay_small() {
    let walk = |e: f64| {
        (0..14_400u64).scan(0i64, move |at, i| {
            *at += (noise(i) % 7) as i64 - 3;
            Some(*at as f64 / e)
        })
    };
    for exponent in [1.0, 100.0, 1e9] {
        let file = files(&[bucket(7, "m", vec![regular(1, walk(exponent).collect())])]).remove(0);
        assert!(file.bytes.len() < 14_400 / 2, "{} bytes at {exponent}", file.bytes.len());
    }
    let multiples = walk(1.0).map(|value| value * 4_096.0).collect();
    let file = files(&[bucket(7, "m", vec![regular(1, multiples)])]).remove(0);
    assert!(file.bytes.len() < 14_400 / 2, "{} bytes", file.bytes.len());
}

#[test]
fn series_are_found_by_their_tags() {
    let tags = |i: usize| vec![Tag::pair("env", ["dev", "prod"][i % 2]), Tag::pair("host", format!("h{i:02}")), Tag::pair("zone", "a")];
    let series = (0..40).map(|i| column(if i % 10 == 9 { Vec::new() } else { tags(i) }, vec![i as u32], vec![1.0]));
    let mut series: Vec<SeriesColumn> = series.filter(|column| !column.tags.is_empty()).collect();
    series.push(column(vec![], vec![1], vec![5.0]));
    let file = files(&[bucket(7, "m", series), bucket(7, "n", vec![column(tags(3), vec![1], vec![1.0])])]).remove(0);
    let index = verify_file(shard(), &file.bytes).unwrap();
    let prod = index.mark_tags(b"env", &mut |tag| &tag.value[..] == b"prod").unwrap();
    let mut tested = 0;
    let late = index
        .mark_tags(b"host", &mut |tag| {
            tested += 1;
            tag.value.starts_with(b"h3")
        })
        .unwrap();
    assert_eq!(tested, 36);
    let by_marks = index.select_marked(OrgId(7), 0, &[(prod.clone(), true), (late.clone(), false)]).unwrap();
    let by_test = index
        .select(OrgId(7), 0, &mut |tags| {
            tags.contains(&Tag::pair("env", "prod")) && !tags.iter().any(|tag| &tag.key[..] == b"host" && tag.value.starts_with(b"h3"))
        })
        .unwrap();
    assert_eq!(by_marks, by_test);
    assert_eq!(by_marks.len(), 12);
    let none = index.mark_tags(b"absent", &mut |_| true).unwrap();
    assert!(index.select_marked(OrgId(7), 0, &[(none.clone(), true)]).unwrap().is_empty());
    assert_eq!(index.select_marked(OrgId(7), 0, &[(none, false)]).unwrap().len(), 37);
    assert!(index.select_marked(OrgId(8), 0, &[]).unwrap().is_empty());
    for i in [0, 3, 38] {
        let found = index.find(OrgId(7), b"m", &tags(i)).unwrap();
        assert_eq!(found.iter().map(|series| index.tags(*series).unwrap()).collect::<Vec<_>>(), [tags(i)]);
    }
    assert_eq!(index.find(OrgId(7), b"m", &[]).unwrap().len(), 1);
    assert_eq!(index.find(OrgId(7), b"n", &tags(3)).unwrap().len(), 1);
    assert!(index.find(OrgId(7), b"n", &tags(5)).unwrap().is_empty());
    assert!(index.find(OrgId(8), b"m", &tags(3)).unwrap().is_empty());
    assert!(index.find(OrgId(7), b"m", &[Tag::pair("host", "h00")]).unwrap().is_empty());
}

/// Count, sum, minimum and maximum of each step by a plain loop.
fn by_hand(series: &SeriesColumn, steps: &Steps) -> Vec<Aggregate> {
    let mut out = vec![Aggregate::NONE; steps.count as usize];
    for (time, value) in series.timestamps.iter().zip(series.values.doubles()) {
        let step = time.checked_sub(steps.start).map(|since| since / steps.step).filter(|step| *step < steps.count);
        let Some(step) = step else { continue };
        let own = &mut out[step as usize];
        if value.is_nan() {
            own.nans += 1;
        } else {
            *own = Aggregate {
                count: own.count + 1,
                nans: own.nans,
                sum: own.sum + value,
                min: if *value < own.min { *value } else { own.min },
                max: if *value > own.max { *value } else { own.max },
            };
        }
    }
    out
}

/// The only double of which 10^11 times rounds up to 2^51: neither sign of it is a fraction at that exponent, as a reader refuses such an integer.
#[test]
fn an_integer_that_only_rounding_makes_too_great_is_not_written() {
    let edge = 22_517.998_136_852_48;
    assert!(edge * 1e11 < (1u64 << 51) as f64 && (edge * 1e11).round_ties_even() == (1u64 << 51) as f64);
    let of = |sign: f64| regular(1, (0..300).map(|i| sign * if i == 7 { edge } else { f64::from(i % 9) + 0.000_000_000_01 }).collect());
    for input in [of(1.0), of(-1.0)] {
        let input = [bucket(7, "m", vec![input])];
        assert_eq!(rows(&files(&input)[0]), rows_of(&input));
    }
}

/// 2^51 is the end of what two readers must make the same doubles of, times the divisor too.
#[test]
fn a_divisor_that_makes_integers_too_great_is_refused() {
    let input = bucket(7, "m", vec![regular(1, (0..300).map(|i| f64::from(i % 7 - 3) * 4.0 + 0.5).collect())]);
    // Greatest integer 25, least -23 (of tenths: 125 and -115, times 5).
    let decoded = |divisor: u64| {
        let mut encoded = encode_bucket(&input).unwrap();
        encoded.chunks[0].divisor = divisor;
        let file = assemble(shard(), SPAN, vec![encoded]).unwrap().remove(0);
        let tail = ChunkIndex::tail_range(&file.bytes, file.bytes.len() as u64).unwrap();
        let index = ChunkIndex::parse(shard(), &file.bytes[tail.start as usize..], file.bytes.len() as u64).unwrap();
        let read = index.plan_reads(&[0]).remove(0);
        let (mut values, mut scratch) = (Vec::new(), DecodeScratch::default());
        let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
        index.decode(&read, bytes, &mut scratch, &mut |_, _, own| values.extend_from_slice(own)).map(|()| values)
    };
    let most = (1u64 << 51) / 25;
    assert_eq!(decoded(5).unwrap()[6], 12.5);
    assert_eq!(decoded(most).unwrap()[6], (25 * most) as f64 / 10.0);
    for divisor in [most + 1, 1 << 52, i64::MAX as u64] {
        assert!(decoded(divisor).unwrap_err().to_string().contains("outside what its transform takes"), "{divisor}");
    }
}

/// Chunks share pages, not what these mean: a copy whose values can't be made is found though its bytes are the original's.
#[test]
fn a_chunk_that_shares_its_pages_is_verified_too() {
    let values: Vec<f64> = (0..300).map(|i| f64::from(i % 7)).collect();
    let of = |divisor: u64| {
        let buckets = ["a", "b"].map(|metric| encode_bucket(&bucket(7, metric, vec![regular(1, values.clone())])).unwrap());
        let [first, mut second] = buckets;
        second.chunks[0].divisor = divisor;
        assemble(shard(), SPAN, vec![first, second]).unwrap().remove(0).bytes
    };
    let (sound, odd) = (of(1), of(1 << 52));
    assert_eq!(verify_file(shard(), &sound).unwrap().pages.iter().map(|page| page.at).collect::<Vec<_>>(), [32, 32], "one page for both");
    assert!(verify_file(shard(), &odd).unwrap_err().to_string().contains("outside what its transform takes"));
}

/// Wherever both zeros stand in whatever lanes, the first one is the extreme: in aggregates as in the statistics of a file.
#[test]
fn of_both_zeros_the_first_is_least_and_greatest() {
    for (n, other) in [(5, 1.0), (16, 1.0), (27, -1.0), (40, 1.0)] {
        for (first, second) in (0..n).flat_map(|first| (first + 1..n).map(move |second| (first, second))) {
            for zero in [0.0, -0.0] {
                let mut values = vec![other; n];
                (values[first], values[second]) = (zero, -zero);
                let own = Aggregate::of(&values);
                let extreme = if other > 0.0 { own.min } else { own.max };
                assert_eq!(extreme.to_bits(), f64::to_bits(zero), "{first} and {second} of {n}");
                let mut added = Aggregate::NONE;
                values.iter().for_each(|value| added.add(&Aggregate::of(&[*value])));
                assert_eq!((added.min.to_bits(), added.max.to_bits()), (own.min.to_bits(), own.max.to_bits()));
            }
        }
    }
    for zero in [0.0, -0.0] {
        let mut values: Vec<f64> = (0..300).map(|i| f64::from(i % 7) + 0.1).collect();
        (values[17], values[201]) = (zero, -zero);
        let index = verify_file(shard(), &files(&[bucket(7, "m", vec![regular(1, values)])])[0].bytes).unwrap();
        assert_eq!(index.statistics(0).unwrap().min.to_bits(), f64::to_bits(zero));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn steps_are_what_a_plain_loop_makes(
        columns in prop::collection::vec((values(), any::<bool>(), 0u64..1000), 1..8),
        start in 0u32..300_000, step in 1u32..400_000, count in 1u32..50,
    ) {
        let columns: Vec<SeriesColumn> =
            columns.into_iter().enumerate().map(|(i, (values, even, seed))| series(values, i, even, seed)).collect();
        let steps = Steps { start, step, count };
        let file = files(&[bucket(7, "m", columns.clone())]).remove(0);
        let index = verify_file(shard(), &file.bytes).unwrap();
        let mut found = vec![vec![Aggregate::NONE; count as usize]; columns.len()];
        let mut each = |series: u32, step: u32, own: &[Aggregate]| {
            for (to, from) in found[series as usize][step as usize..].iter_mut().zip(own) {
                to.add(from);
            }
        };
        let all: Vec<u32> = (0..index.series_len()).collect();
        let mut scratch = DecodeScratch::default();
        for read in index.plan_aggregate(&all, &steps, &mut each).unwrap() {
            let bytes = &file.bytes[read.range.start as usize..read.range.end as usize];
            index.aggregate(&read, bytes, &steps, &mut scratch, &mut each).unwrap();
        }
        let whole = index.aggregate_metric(0).unwrap();
        let one = Steps { start: 0, step: SPAN.span_ms, count: 1 };
        let mut plain = Aggregate::NONE;
        columns.iter().for_each(|column| plain.add(&by_hand(column, &one)[0]));
        prop_assert_eq!((whole.count, whole.nans, whole.min, whole.max), (plain.count, plain.nans, plain.min, plain.max));
        for series in all {
            let column = columns.iter().find(|column| column.tags == index.tags(series).unwrap()).unwrap();
            for (own, other) in found[series as usize].iter().zip(by_hand(column, &steps)) {
                prop_assert_eq!((own.count, own.nans), (other.count, other.nans));
                prop_assert_eq!((own.min.to_bits(), own.max.to_bits()), (other.min.to_bits(), other.max.to_bits()));
                let size: f64 = column.values.doubles().iter().map(|value| if value.is_finite() { value.abs() } else { 0.0 }).sum();
                let near = (own.sum - other.sum).abs() <= size * 1e-12 || own.sum.to_bits() == other.sum.to_bits();
                prop_assert!(near || (!own.sum.is_finite() && !other.sum.is_finite()), "{} {}", own.sum, other.sum);
            }
        }
    }

    #[test]
    fn statistics_are_those_of_the_points(values in values(), repeat in 1usize..30) {
        let values: Vec<f64> = std::iter::repeat_n(values, repeat).flatten().take(5_000).collect();
        let file = files(&[bucket(7, "m", vec![regular(1, values.clone())])]).remove(0);
        let index = verify_file(shard(), &file.bytes).unwrap();
        let Some(own) = index.statistics(0) else {
            prop_assert!(values.len() < 256);
            return Ok(());
        };
        let real: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        prop_assert_eq!((own.count, own.nans), (values.len() as u64, (values.len() - real.len()) as u64));
        prop_assert_eq!((own.first.to_bits(), own.last.to_bits()), (values[0].to_bits(), values[values.len() - 1].to_bits()));
        if !real.is_empty() {
            let (min, max) = real.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(*value), max.max(*value)));
            prop_assert_eq!((own.min, own.max), (min, max));
            let (sum, size) = (real.iter().sum::<f64>(), real.iter().map(|value| value.abs()).sum::<f64>());
            let near = (own.sum - sum).abs() <= size * 1e-12;
            prop_assert!(near || !sum.is_finite() || !size.is_finite(), "{} {sum}", own.sum);
        }
    }
}
