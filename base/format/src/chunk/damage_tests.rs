//! Damage: any flipped bit is refused, and what a wrong writer could have sealed never panics, loops or takes memory without end.

use tailors_model::{OrgId, ShardId, Tag};

use super::column::{put_blob, put_column};
use super::index::ALLOWANCE_BYTES;
use super::labels::Labels;
use super::layout::{CRC_BYTES, HEADER_BYTES, Region, Seal, TRAILER_BYTES, Trailer, put_header};
use super::*;
use crate::bytes::put_varint;

const GOLDEN: &[u8] = include_bytes!("../../golden/chunk/1.0/everything.tchk");
const DISTRIBUTIONS: &[u8] = include_bytes!("../../golden/chunk/1.0/distributions.tchk");
const SMALL: &[u8] = include_bytes!("../../golden/chunk/1.0/small.tchk");

fn shard() -> ShardId {
    ShardId::of_org(OrgId(7), 64)
}

/// xorshift: where to flip.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn open(bytes: &[u8]) -> Result<ChunkIndex, crate::FormatError> {
    let tail = ChunkIndex::tail_range(bytes, bytes.len() as u64)?;
    ChunkIndex::parse(shard(), &bytes[tail.start as usize..], bytes.len() as u64)
}

#[test]
fn every_prefix_and_every_bit_of_the_small_one_is_refused() {
    verify_file(shard(), SMALL).unwrap();
    for end in 0..SMALL.len() {
        assert!(verify_file(shard(), &SMALL[..end]).is_err(), "prefix of {end}");
    }
    let mut bytes = SMALL.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_file(shard(), &bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_hundred_thousand_flips_of_the_large_ones_are_refused() {
    flip(GOLDEN, 70_000);
    flip(DISTRIBUTIONS, 30_000);
}

fn flip(golden: &[u8], flips: usize) {
    let index = verify_file(shard(), golden).unwrap();
    let (mut bytes, mut random, mut scratch) = (golden.to_vec(), Random(4), DecodeScratch::default());
    let tail = index.trailer.times_at as usize;
    for _ in 0..flips {
        let (at, bit) = (random.below(bytes.len()), random.below(8));
        bytes[at] ^= 1 << bit;
        // A reader sees the tail when it opens a file, and each page when it asks for it.
        let error = if at >= tail {
            open(&bytes).is_err()
        } else if at < HEADER_BYTES {
            verify_file(shard(), &bytes).is_err()
        } else {
            let page = index.pages.iter().find(|page| (page.at..page.at + u64::from(page.length)).contains(&(at as u64))).unwrap();
            index.check_values_of(page, &bytes[page.at as usize..page.at as usize + page.length as usize], &mut scratch).is_err()
        };
        assert!(error, "byte {at} bit {bit}");
        bytes[at] ^= 1 << bit;
    }
}

/// Seals a damaged page or section again, so that the damage reaches the decoder behind the checksum.
fn seal_again(bytes: &mut [u8], index: &ChunkIndex, at: usize) {
    let trailer: Trailer = index.trailer;
    let end = (bytes.len() - TRAILER_BYTES) as u64;
    let sections = trailer.sections(end).into_iter().map(|(region, _, range)| (region, range));
    let pages = index.pages.iter().map(|page| (Region::Pages, page.at..page.at + u64::from(page.length)));
    let Some((region, range)) = sections.chain(pages).find(|(_, range)| range.contains(&(at as u64))) else { return };
    let (from, to) = (range.start as usize, range.end as usize - CRC_BYTES);
    let crc = index.seal.crc(region, range.start, &bytes[from..to]);
    bytes[to..to + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// A file of these sections, sealed as a writer would; it has no pages.
fn sealed(sections: [&[u8]; 4]) -> Vec<u8> {
    let span = Span { start_ms: 0, span_ms: 14_400_000 };
    let seal = Seal::new(shard(), span);
    let mut out = Vec::new();
    put_header(&mut out, seal, span);
    let regions = [Region::Times, Region::Series, Region::Labels, Region::Directory];
    let mut at = [0; 4];
    for ((region, section), at) in regions.into_iter().zip(sections).zip(&mut at) {
        *at = out.len() as u64;
        seal.put_section(&mut out, region, section);
    }
    let [times_at, series_at, labels_at, directory_at] = at;
    Trailer { times_at, series_at, labels_at, directory_at, span, encoder: ENCODER_VERSION }.put(&mut out);
    out
}

fn column(values: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::new();
    put_column(&mut out, &values.collect::<Vec<_>>()).unwrap();
    out
}

/// A column of equal values: three bytes and more for 65,536 each.
fn equal(value: u64, count: u64) -> Vec<u8> {
    column(std::iter::repeat_n(value, count as usize))
}

fn count_of(count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, count);
    out
}

/// 2^22 to 2^31 items in a few KB: columns of equal values, texts that share all they have, chunks that share all their pages. The tests of this
/// module run in one process: what none of these may do is allocate by such a number.
#[test]
fn few_bytes_do_not_stand_for_much_memory() {
    let many = 1 << 26;
    // One time column, of one point.
    let one_time = [count_of(1), equal(1, 1), equal(0, 1), equal(0, 1), equal(0, 1)].concat();
    let points = |points: u64| [count_of(1), equal(1, 1), equal(0, 1), equal(1, 1), equal(points - 1, 1)].concat();
    let series = |series: u64| {
        [
            count_of(series),
            equal(0, series).repeat(2),
            count_of(2),
            column([0, series].into_iter()),
            equal(0, series).repeat(2),
            count_of(0),
        ]
        .concat()
    };
    let few = 1 << 22;
    let metas = |prefix: u64| {
        // The first text is a megabyte long, each of the others all of it.
        let lengths = [1 << 20].into_iter().chain(std::iter::repeat_n(0, few as usize - 1));
        let prefixes = std::iter::once(0).chain(std::iter::repeat_n(prefix, few as usize - 1));
        let mut text = [column(prefixes), column(lengths)].concat();
        put_blob(&mut text, &vec![b'x'; 1 << 20]).unwrap();
        [count_of(few), equal(0, few), equal(0, few), equal(0, few), equal(0, few), text].concat()
    };
    let own_meta = [&series(few)[..series(few).len() - 1], &metas(1 << 20)].concat();
    // One series of 65,535 points in as many pages, and as many chunks that share them all.
    let shared = 65_535;
    let chunks = [
        count_of(1),
        equal(7, 1),
        equal(0, 1),
        equal(1, 1),
        b"\0m".to_vec(),
        equal(0, 1),
        equal(0, 1),
        equal(0, 1),
        equal(0, 1),
        equal(0, 1),
        equal(0, 1),
        equal(1, 1),
        count_of(shared),
        column(0..shared),
        equal(3, shared),
        equal(0, shared),
        equal(1, shared),
        equal(shared, 1),
        equal(4, 1),
        equal(0, 1),
        equal(0, 1),
        equal(1, shared),
        equal(8, shared),
    ];
    // Neither constants nor metadata of its own, but a summary.
    let varying = [count_of(1), equal(0, 1).repeat(2), count_of(1), equal(1, 1), equal(0, 1).repeat(6), count_of(0)].concat();
    let hostile: [(&str, [&[u8]; 4]); 4] = [
        ("series", [&one_time, &series(many), &[], &[]]),
        ("times", [&[count_of(many), equal(1, many), equal(0, many), equal(0, many), equal(0, many)].concat(), &[], &[], &[]]),
        ("texts", [&one_time, &own_meta, &[], &[]]),
        ("chunks", [&points(shared), &varying, &[], &chunks.concat()]),
    ];
    for (what, sections) in hostile {
        let bytes = sealed(sections);
        assert!(bytes.len() < 300_000, "{what}: {}", bytes.len());
        let refused = open(&bytes).unwrap_err().to_string();
        assert!(refused.contains("bytes of memory to decode more"), "{what}: {refused}");
    }
    // Labels are parsed when asked for, and pay for themselves.
    let tags = [count_of(1), equal(0, 1), equal(1, 1), b"\0k".to_vec(), count_of(many), equal(0, many), equal(0, many)].concat();
    let refused = Labels::read(&tags, ALLOWANCE_BYTES).unwrap_err().to_string();
    assert!(refused.contains("bytes of memory to decode more"), "{refused}");
}

#[test]
fn a_file_of_as_many_series_as_one_may_have_is_within_what_an_index_may_take() {
    let series = |i: u32| {
        let tags = vec![Tag::pair("dc", "a"), Tag::pair("host", format!("host-{i:06}")), Tag::pair("role", "b"), Tag::pair("service", "c")];
        SeriesColumn { tags, meta: Default::default(), timestamps: vec![0, 60_000], values: vec![1.0, 1.0].into() }
    };
    let bucket = |metric: &str, n: u32| {
        let input =
            BucketInput { org: OrgId(7), metric: metric.to_owned().into(), meta: Default::default(), series: (0..n).map(series).collect() };
        encode_bucket(&input).unwrap()
    };
    let most = tailors_model::limits::CHUNK_FILE_SERIES as u32;
    let files =
        assemble(shard(), Span { start_ms: 0, span_ms: 14_400_000 }, vec![bucket("a", most), bucket("b", 1), bucket("c", 1)]).unwrap();
    assert_eq!(files.iter().map(|file| file.series).collect::<Vec<_>>(), [u64::from(most) + 1, 1], "cut at the first edge past it");
    let index = open(&files[0].bytes).unwrap();
    assert_eq!(index.tags(most - 1).unwrap(), series(most - 1).tags);
}

#[test]
fn a_file_that_a_reader_would_refuse_is_halved() {
    // The same long text for each of 20,000 metrics: little on disk, 320 MB for who opens it.
    let meta = tailors_model::MetricMeta { help: vec![b'h'; 16_000].into(), ..Default::default() };
    let bucket = |number: u32| {
        let series = vec![SeriesColumn { tags: vec![], meta: Default::default(), timestamps: vec![0], values: vec![1.0].into() }];
        encode_bucket(&BucketInput { org: OrgId(7), metric: format!("m{number:06}").into(), meta: meta.clone(), series }).unwrap()
    };
    let files = assemble(shard(), Span { start_ms: 0, span_ms: 14_400_000 }, (0..20_000).map(bucket).collect()).unwrap();
    assert_eq!(files.iter().map(|file| file.series).collect::<Vec<_>>(), [10_000, 10_000]);
    assert!(files.iter().all(|file| open(&file.bytes).is_ok()));
}

#[test]
fn sealed_damage_never_panics() {
    for (golden, flips) in [(SMALL, 20_000), (GOLDEN, 4_000), (DISTRIBUTIONS, 4_000)] {
        let index = verify_file(shard(), golden).unwrap();
        let (mut random, mut scratch, mut read) = (Random(9), DecodeScratch::default(), 0);
        for _ in 0..flips {
            let mut bytes = golden.to_vec();
            let at = HEADER_BYTES + random.below(bytes.len() - HEADER_BYTES - TRAILER_BYTES);
            bytes[at] ^= 1 << random.below(8);
            if random.below(4) == 0 {
                bytes[at] = random.below(256) as u8;
            }
            seal_again(&mut bytes, &index, at);
            let Ok(damaged) = open(&bytes) else { continue };
            let steps = Steps { start: 0, step: 60_000, count: 240 };
            for series in 0..damaged.series_len() {
                let _ = (damaged.tags(series), damaged.meta(series), damaged.statistics(series), damaged.kind(series));
            }
            for page in damaged.pages.iter().filter(|page| (page.at..page.at + u64::from(page.length)).contains(&(at as u64))) {
                let range = page.at as usize..page.at as usize + page.length as usize;
                read += u32::from(damaged.check_values_of(page, &bytes[range], &mut scratch).is_ok());
            }
            let few: Vec<u32> = (0..damaged.series_len().min(3)).collect();
            let Ok(reads) = damaged.plan_aggregate(&few, &steps, &mut |_, _, _| {}) else { continue };
            for read in reads {
                let Some(page) = bytes.get(read.range.start as usize..read.range.end as usize) else { continue };
                let _ = damaged.aggregate(&read, page, &steps, &mut scratch, &mut |_, _, _| {});
            }
        }
        assert!(read > 0, "no damage passed its checksum: the test reaches nothing");
    }
}
