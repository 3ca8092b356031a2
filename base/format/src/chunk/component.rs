//! Columns that a sketch or histogram is taken apart into: integers or doubles, each with a coder of its own, its tables shared by the pages of a chunk.
//!
//! ```text
//! chunk metadata, per column
//!   doubles    transform u8 (1 DECIMAL, 2 BINARY, 3 DOUBLE) | parameter u8 | divisor varint | exceptions u8, then as integers
//!   integers   form u8 (0 plain, 1 differences) | coder u8; 0 CONST: zigzag varint, else: length varint | the coder's metadata
//! page, per column of n values
//!   doubles    exceptions, if the column has any, then as integers
//!   integers   nothing if the coder is CONST or n is 0, else: length varint | bytes
//! ```
//! What a difference is taken from, the column says; everywhere modulo 2^64. The writer tries each form and keeps the smaller, plain if equal.

use super::assemble::transform_parts;
use super::coder::{Coded, Coder, CoderScratch, OpenCoder, encode_bytes, encode_integers};
use super::parse::transform_of;
use super::value::{Class, FRACTION_MAX, Transform, classify, divide, from_ordered, gcd_of, to_integers};
use super::zigzag::{unzigzag, zigzag};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const WHAT: &str = "chunk file page";
/// Coder of a column whose integers are all the same.
const CONST: u8 = 0;

/// Columns of one chunk, as they are written.
#[derive(Debug)]
pub(super) struct ColumnWriter {
    pub(super) meta: Vec<u8>,
    pub(super) pages: Vec<Vec<u8>>,
}

impl ColumnWriter {
    pub(super) fn new(pages: usize) -> Self {
        Self { meta: Vec::new(), pages: vec![Vec::new(); pages] }
    }

    /// A column of integers: plain, and as differences where they are worth a try. `sizes`: how many of them each page holds.
    pub(super) fn integers(&mut self, plain: &[i64], differences: Option<&[i64]>, sizes: &[usize]) -> Result<(), FormatError> {
        let (mut form, mut best) = (0u8, encode(plain, sizes)?);
        if let Some(differences) = differences {
            let other = encode(differences, sizes)?;
            if other.1.len() < best.1.len() {
                (form, best) = (1, other);
            }
        }
        let (coder, coded) = best;
        self.meta.extend_from_slice(&[form, coder]);
        if coder == CONST {
            self.meta.extend_from_slice(&coded.meta);
            return Ok(());
        }
        put_varint(&mut self.meta, coded.meta.len() as u64);
        self.meta.extend_from_slice(&coded.meta);
        let (mut rest, mut lengths) = (coded.pages.as_slice(), coded.page_lengths.into_iter());
        for (page, _) in self.pages.iter_mut().zip(sizes).filter(|(_, size)| **size > 0) {
            let (own, after) = rest.split_at(lengths.next().unwrap_or(0));
            put_varint(page, own.len() as u64);
            page.extend_from_slice(own);
            rest = after;
        }
        Ok(())
    }

    /// A column of doubles; `differences` makes them of their integers.
    pub(super) fn doubles(
        &mut self,
        values: &[f64],
        sizes: &[usize],
        differences: impl FnOnce(&[i64]) -> Vec<i64>,
    ) -> Result<(), FormatError> {
        let transform = match classify(values) {
            Class::Integers(transform) => transform,
            Class::Const | Class::Distribution => Transform::Double,
        };
        let (mut integers, mut exceptions, mut divisor) = (Vec::new(), Vec::new(), 1);
        to_integers(values, transform, &mut integers, &mut exceptions);
        let (number, parameter) = transform_parts(transform);
        if transform.is_fraction() {
            divisor = gcd_of(&integers);
            divide(&mut integers, divisor);
        }
        self.meta.extend_from_slice(&[number, parameter]);
        put_varint(&mut self.meta, divisor.unsigned_abs());
        self.meta.push(u8::from(!exceptions.is_empty()));
        if !exceptions.is_empty() {
            let (mut start, mut rest) = (0, exceptions.as_slice());
            for (page, size) in self.pages.iter_mut().zip(sizes) {
                let (own, after) = rest.split_at(rest.partition_point(|(at, _)| *at < start + size));
                put_exceptions(page, start, own);
                (start, rest) = (start + size, after);
            }
        }
        let differences = differences(&integers);
        self.integers(&integers, Some(&differences), sizes)
    }
}

/// The smallest coder of these integers; a constant lies in the metadata alone.
fn encode(integers: &[i64], sizes: &[usize]) -> Result<(u8, Coded), FormatError> {
    let first = integers.first().copied().unwrap_or(0);
    if integers.iter().all(|integer| *integer == first) {
        let mut meta = Vec::new();
        put_varint(&mut meta, zigzag(first));
        return Ok((CONST, Coded { meta, ..Default::default() }));
    }
    let sizes: Vec<usize> = sizes.iter().copied().filter(|size| *size > 0).collect();
    let (coder, best) = encode_integers(integers, &sizes)?;
    // As in pages.rs: below four bits an integer, patterns may be worth more than frequencies.
    if best.len() * 2 < integers.len()
        && let Some(bytes) = encode_bytes(integers, &sizes, best.len())?
    {
        return Ok((Coder::Bytes as u8, bytes));
    }
    Ok((coder as u8, best))
}

/// Differences from the value before in the part; the first of a part from the first of the part before, the page's first from 0.
pub(super) fn differences(integers: &[i64], pages: &[Vec<usize>]) -> Vec<i64> {
    let (mut out, mut rest) = (Vec::with_capacity(integers.len()), integers);
    for page in pages {
        let mut first = 0;
        for points in page {
            let (own, after) = rest.split_at(*points);
            let mut before = first;
            for integer in own {
                out.push(integer.wrapping_sub(before));
                before = *integer;
            }
            (first, rest) = (own.first().copied().unwrap_or(first), after);
        }
    }
    out
}

/// Inverse of [`differences`] for one page.
pub(super) fn sum_up(integers: &mut [i64], parts: &[u32]) {
    let (mut first, mut rest) = (0i64, integers);
    for points in parts {
        let (own, after) = rest.split_at_mut((*points as usize).min(rest.len()));
        let mut before = first;
        for integer in own.iter_mut() {
            before = before.wrapping_add(*integer);
            *integer = before;
        }
        (first, rest) = (own.first().copied().unwrap_or(first), after);
    }
}

/// A bin or bucket with none before it.
pub(super) const NONE: u32 = u32::MAX;

/// Counts of bins or buckets as differences: `before[i]` is the position of the count that the i-th is told from, or [`NONE`]: from 0.
pub(super) fn differences_from(counts: &[i64], before: &[u32]) -> Vec<i64> {
    let earlier = |at: &u32| counts.get(*at as usize).copied().unwrap_or(0);
    counts.iter().zip(before).map(|(count, at)| count.wrapping_sub(earlier(at))).collect()
}

/// Inverse of [`differences_from`].
pub(super) fn sum_up_from(counts: &mut [i64], before: &[u32]) {
    for (at, before) in before.iter().enumerate().take(counts.len()) {
        counts[at] = counts[at].wrapping_add(counts.get(*before as usize).copied().unwrap_or(0));
    }
}

/// For each key, ascending, the position of the same key among `earlier`, whose first is at `start`; or [`NONE`].
pub(super) fn match_keys(keys: impl Iterator<Item = i32>, earlier: impl Iterator<Item = i32>, start: u32, out: &mut Vec<u32>) {
    let mut earlier = earlier.zip(start..).peekable();
    for key in keys {
        while earlier.next_if(|(other, _)| *other < key).is_some() {}
        out.push(earlier.next_if(|(other, _)| *other == key).map_or(NONE, |(_, at)| at));
    }
}

/// Positions of one page and the bits there. A list, unlike the codes of chunks of doubles: what a value is told from differs from column to column.
fn put_exceptions(out: &mut Vec<u8>, page_start: usize, exceptions: &[(usize, u64)]) {
    put_varint(out, exceptions.len() as u64);
    let mut next = page_start;
    for (at, bits) in exceptions {
        put_varint(out, (at - next) as u64);
        out.extend_from_slice(&bits.to_le_bytes());
        next = at + 1;
    }
}

/// Reads what [`put_exceptions`] wrote; positions are below `points`.
fn take_exceptions(page: &mut Cursor<'_>, points: usize, exceptions: &mut Vec<(u32, u64)>) -> Result<(), FormatError> {
    let mut next = 0u64;
    for _ in 0..page.count(9)? {
        let at = next.saturating_add(page.varint()?);
        if at >= points as u64 {
            return Err(FormatError::invalid(WHAT, "exception outside its page"));
        }
        exceptions.push((at as u32, page.u64()?));
        next = at + 1;
    }
    Ok(())
}

/// An opened column.
pub(super) struct OpenColumn {
    /// Whether its integers are differences.
    pub(super) is_differences: bool,
    coder: OpenColumnCoder,
    fraction: Fraction,
}

enum OpenColumnCoder {
    Const(i64),
    Coded(Box<OpenCoder>),
}

/// How the integers of a column of doubles become doubles.
struct Fraction {
    transform: Transform,
    divisor: u64,
    has_exceptions: bool,
}

/// Buffers of reading columns.
#[derive(Default)]
pub(super) struct ColumnScratch {
    coder: CoderScratch,
    exceptions: Vec<(u32, u64)>,
}

impl OpenColumn {
    /// A column of integers.
    pub(super) fn integers(meta: &mut Cursor<'_>) -> Result<Self, FormatError> {
        Self::open(meta, Fraction { transform: Transform::Double, divisor: 1, has_exceptions: false })
    }

    /// A column of integers that are never differences.
    pub(super) fn plain(meta: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let column = Self::integers(meta)?;
        if column.is_differences { Err(FormatError::invalid(WHAT, "differences in a column that has none")) } else { Ok(column) }
    }

    /// A column of doubles.
    pub(super) fn doubles(meta: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let (number, parameter, divisor, exceptions) = (meta.u8()?, meta.u8()?, meta.varint()?, meta.u8()?);
        let unknown = || FormatError::Unknown { what: WHAT, field: "transform of a column", number: u64::from(number) };
        let transform = transform_of(u32::from(number), u32::from(parameter)).filter(|_| number <= 3).ok_or_else(unknown)?;
        if exceptions > 1 || divisor == 0 || divisor >= FRACTION_MAX {
            return Err(FormatError::invalid(WHAT, "divisor or flag of a column out of range"));
        }
        Self::open(meta, Fraction { transform, divisor, has_exceptions: exceptions == 1 })
    }

    fn open(meta: &mut Cursor<'_>, fraction: Fraction) -> Result<Self, FormatError> {
        let unknown = |field, number: u8| FormatError::Unknown { what: WHAT, field, number: u64::from(number) };
        let (form, coder) = (meta.u8()?, meta.u8()?);
        if form > 1 {
            return Err(unknown("form of a column", form));
        }
        let coder = if coder == CONST {
            OpenColumnCoder::Const(unzigzag(meta.varint()?))
        } else {
            let coder =
                Coder::from_u8(coder).filter(|coder| *coder != Coder::Columns).ok_or_else(|| unknown("coder of a column", coder))?;
            let length = meta.count(1)?;
            OpenColumnCoder::Coded(Box::new(OpenCoder::open(WHAT, coder, meta.take(length)?)?))
        };
        Ok(Self { is_differences: form == 1, coder, fraction })
    }

    /// The `n` integers of a page as they were written; the caller bounds `n`.
    pub(super) fn read(&self, page: &mut Cursor<'_>, n: usize, scratch: &mut ColumnScratch) -> Result<Vec<i64>, FormatError> {
        match &self.coder {
            OpenColumnCoder::Const(integer) => Ok(vec![*integer; n]),
            OpenColumnCoder::Coded(_) if n == 0 => Ok(Vec::new()),
            OpenColumnCoder::Coded(coder) => {
                let length = page.count(1)?;
                let mut out = vec![0; n];
                coder.read(WHAT, page.take(length)?, &mut scratch.coder, &mut out)?;
                Ok(out)
            }
        }
    }

    /// The integers of a page of one value for each point, differences summed up.
    pub(super) fn read_values(&self, page: &mut Cursor<'_>, parts: &[u32], scratch: &mut ColumnScratch) -> Result<Vec<i64>, FormatError> {
        let n = parts.iter().map(|points| *points as usize).sum();
        let mut integers = self.read(page, n, scratch)?;
        if self.is_differences {
            sum_up(&mut integers, parts);
        }
        Ok(integers)
    }

    /// The doubles of a page; `sum_up` undoes differences, if the column holds such.
    pub(super) fn read_doubles(
        &self,
        page: &mut Cursor<'_>,
        n: usize,
        scratch: &mut ColumnScratch,
        sum_up: impl FnOnce(&mut [i64]),
    ) -> Result<Vec<f64>, FormatError> {
        scratch.exceptions.clear();
        if self.fraction.has_exceptions {
            take_exceptions(page, n, &mut scratch.exceptions)?;
        }
        let mut integers = self.read(page, n, scratch)?;
        if self.is_differences {
            sum_up(&mut integers);
        }
        let Fraction { transform, divisor, .. } = self.fraction;
        let mut out: Vec<f64> = if transform == Transform::Double {
            integers.into_iter().map(from_ordered).collect()
        } else {
            if integers.iter().any(|integer| integer.unsigned_abs().saturating_mul(divisor) >= FRACTION_MAX) {
                return Err(FormatError::invalid(WHAT, "integer outside what its transform takes"));
            }
            integers.into_iter().map(|integer| integer as f64 * divisor as f64 / transform.divisor()).collect()
        };
        for (at, bits) in &scratch.exceptions {
            if let Some(value) = out.get_mut(*at as usize) {
                *value = f64::from_bits(*bits);
            }
        }
        Ok(out)
    }
}
