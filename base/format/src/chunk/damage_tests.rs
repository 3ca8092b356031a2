//! Damage: any flipped bit is refused, and what a wrong writer could have sealed never panics, loops or takes memory without end.

use tailors_model::{OrgId, ShardId};

use super::layout::{CRC_BYTES, HEADER_BYTES, Region, TRAILER_BYTES, Trailer};
use super::*;

const GOLDEN: &[u8] = include_bytes!("../../golden/chunk/0.2/everything.tchk");
const DISTRIBUTIONS: &[u8] = include_bytes!("../../golden/chunk/0.2/distributions.tchk");
const SMALL: &[u8] = include_bytes!("../../golden/chunk/0.2/small.tchk");

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
