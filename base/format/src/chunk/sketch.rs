//! Sketches <-> columns: bins of all sketches of a chunk share tables, so a bin costs what its count tells.
//!
//! ```text
//! integers   bins, one for each sketch                                        differences: from the sketch before
//!            first key of each (without bins: any)                            differences: from the sketch before
//!            key - key before - 1, of each further bin                        plain
//!            count - 1, of each bin                                           differences: from the same bin of the sketch before in the part, if any
//!            count - sum of the bins' counts, modulo 2^64, of each sketch     plain
//! doubles    sum, minimum, maximum                                            differences: from the sketch before
//! integers   average - (sum / count), as ordered integers, of each            plain
//! ```

use tailors_model::{Bin, Sketch};

use super::component::{ColumnScratch, ColumnWriter, OpenColumn, differences, differences_from, match_keys, sum_up, sum_up_from};
use super::distribution::{PAGE_ITEMS_MAX, average, take_total};
use super::value::{from_ordered, to_ordered};
use crate::FormatError;
use crate::bytes::Cursor;

const WHAT: &str = "chunk file page";

/// Writes the sketches of a chunk: page by page, part by part.
pub(super) fn put_sketches(pages: &[Vec<&[Sketch]>], out: &mut ColumnWriter) -> Result<(), FormatError> {
    let parts: Vec<Vec<usize>> = pages.iter().map(|page| page.iter().map(|part| part.len()).collect()).collect();
    let each = |of: &dyn Fn(&Sketch) -> i64| -> Vec<i64> { pages.iter().flatten().copied().flatten().map(of).collect() };
    let per_page =
        |of: &dyn Fn(&Sketch) -> usize| -> Vec<usize> { pages.iter().map(|page| page.iter().copied().flatten().map(of).sum()).collect() };
    let sizes = per_page(&|_| 1);
    let bins = each(&|sketch| sketch.bins.len() as i64);
    out.integers(&bins, Some(&differences(&bins, &parts)), &sizes)?;
    let mut first = 0;
    let firsts: Vec<i64> = pages
        .iter()
        .flatten()
        .copied()
        .flatten()
        .map(|sketch| {
            // One without bins repeats the key before: that costs least.
            first = sketch.bins.first().map_or(first, |bin| i64::from(bin.key));
            first
        })
        .collect();
    out.integers(&firsts, Some(&differences(&firsts, &parts)), &sizes)?;
    let all = || pages.iter().flatten().copied().flatten();
    let gap = |pair: &[Bin]| i64::from(pair[1].key) - i64::from(pair[0].key) - 1;
    let gaps: Vec<i64> = all().flat_map(|sketch| sketch.bins.windows(2).map(gap)).collect();
    out.integers(&gaps, None, &per_page(&|sketch| sketch.bins.len().saturating_sub(1)))?;
    let counts: Vec<i64> = all().flat_map(|sketch| &sketch.bins).map(|bin| bin.count.wrapping_sub(1) as i64).collect();
    let (mut from_before, mut rest) = (Vec::with_capacity(counts.len()), counts.as_slice());
    for page in pages {
        let lengths = || page.iter().copied().flatten().map(|sketch| sketch.bins.len());
        let keys: Vec<i32> = page.iter().copied().flatten().flat_map(|sketch| &sketch.bins).map(|bin| bin.key).collect();
        let parts = page.iter().map(|part| part.len());
        let (own, after) = rest.split_at(keys.len());
        from_before.append(&mut differences_from(own, &before(&keys, lengths(), parts)));
        rest = after;
    }
    out.integers(&counts, Some(&from_before), &per_page(&|sketch| sketch.bins.len()))?;
    out.integers(&each(&|sketch| sketch.count.wrapping_sub(sum_of(&sketch.bins)) as i64), None, &sizes)?;
    let fields: [fn(&Sketch) -> f64; 3] = [|sketch| sketch.sum, |sketch| sketch.min, |sketch| sketch.max];
    for field in fields {
        out.doubles(&all().map(field).collect::<Vec<f64>>(), &sizes, |integers| differences(integers, &parts))?;
    }
    let off = |sketch: &Sketch| to_ordered(sketch.avg).wrapping_sub(to_ordered(average(sketch.sum, sketch.count)));
    out.integers(&each(&off), None, &sizes)
}

/// For each bin of a page, the position of the same bin of the sketch before in the part.
fn before(keys: &[i32], mut lengths: impl Iterator<Item = usize>, parts: impl Iterator<Item = usize>) -> Vec<u32> {
    let (mut out, mut at) = (Vec::with_capacity(keys.len()), 0);
    for points in parts {
        let mut last = 0..0;
        for length in lengths.by_ref().take(points) {
            let own = at..at + length;
            let of = |range: std::ops::Range<usize>| keys.get(range).unwrap_or(&[]).iter().copied();
            match_keys(of(own.clone()), of(last.clone()), last.start as u32, &mut out);
            (at, last) = (own.end, own);
        }
    }
    out
}

fn sum_of(bins: &[Bin]) -> u64 {
    bins.iter().fold(0, |sum, bin| sum.wrapping_add(bin.count))
}

/// Opened columns of a chunk of sketches.
pub(super) struct OpenSketches {
    bins: OpenColumn,
    firsts: OpenColumn,
    gaps: OpenColumn,
    counts: OpenColumn,
    more: OpenColumn,
    /// Sum, minimum, maximum.
    doubles: [OpenColumn; 3],
    averages: OpenColumn,
}

impl OpenSketches {
    pub(super) fn open(meta: &mut Cursor<'_>) -> Result<Self, FormatError> {
        Ok(Self {
            bins: OpenColumn::integers(meta)?,
            firsts: OpenColumn::integers(meta)?,
            gaps: OpenColumn::plain(meta)?,
            counts: OpenColumn::integers(meta)?,
            more: OpenColumn::plain(meta)?,
            doubles: [OpenColumn::doubles(meta)?, OpenColumn::doubles(meta)?, OpenColumn::doubles(meta)?],
            averages: OpenColumn::plain(meta)?,
        })
    }

    /// The sketches of a page into `out`; `parts`: points of each part.
    pub(super) fn read(
        &self,
        page: &mut Cursor<'_>,
        parts: &[u32],
        scratch: &mut ColumnScratch,
        out: &mut Vec<Sketch>,
    ) -> Result<(), FormatError> {
        let bad = |why: &str| FormatError::invalid(WHAT, why);
        let bins = self.bins.read_values(page, parts, scratch)?;
        let total = take_total(bins.iter().copied(), PAGE_ITEMS_MAX)?;
        let firsts = self.firsts.read_values(page, parts, scratch)?;
        let gaps = self.gaps.read(page, total - bins.iter().filter(|bins| **bins > 0).count(), scratch)?;
        let keys = keys_of(&bins, &firsts, &gaps)?;
        let mut counts = self.counts.read(page, total, scratch)?;
        if self.counts.is_differences {
            let parts = parts.iter().map(|points| *points as usize);
            sum_up_from(&mut counts, &before(&keys, bins.iter().map(|bins| *bins as usize), parts));
        }
        let n = bins.len();
        let more = self.more.read(page, n, scratch)?;
        let mut double = |column: &OpenColumn| column.read_doubles(page, n, scratch, |integers| sum_up(integers, parts));
        let [sums, mins, maxs] = [double(&self.doubles[0])?, double(&self.doubles[1])?, double(&self.doubles[2])?];
        let averages = self.averages.read(page, n, scratch)?;
        let mut all = keys.into_iter().zip(counts);
        for (at, own) in bins.into_iter().enumerate() {
            let bin = |(key, count): (i32, i64)| (count as u64).checked_add(1).map(|count| Bin { key, count });
            let bins: Option<Vec<Bin>> = all.by_ref().take(own as usize).map(bin).collect();
            let bins = bins.ok_or_else(|| bad("count of a bin out of range"))?;
            let (count, sum) = (sum_of(&bins).wrapping_add(more[at] as u64), sums[at]);
            let avg = from_ordered(averages[at].wrapping_add(to_ordered(average(sum, count))));
            out.push(Sketch { bins, count, sum, min: mins[at], max: maxs[at], avg });
        }
        Ok(())
    }
}

/// Keys of all bins of a page.
fn keys_of(bins: &[i64], firsts: &[i64], gaps: &[i64]) -> Result<Vec<i32>, FormatError> {
    let bad = || FormatError::invalid(WHAT, "keys of a sketch do not ascend, or leave the range of an i32");
    let (mut out, mut gaps) = (Vec::with_capacity(bins.len() + gaps.len()), gaps.iter());
    for (own, first) in bins.iter().zip(firsts) {
        let mut key = *first;
        for place in 0..*own {
            if place > 0 {
                let gap = gaps.next().and_then(|gap| u32::try_from(*gap).ok()).ok_or_else(bad)?;
                key += i64::from(gap) + 1;
            }
            out.push(i32::try_from(key).map_err(|_| bad())?);
        }
    }
    Ok(out)
}
