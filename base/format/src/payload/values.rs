//! The point block: timestamps of irregular runs, values as columns.
//!
//! ```text
//! lengths      10 varints: of stamps, classes, short, each of 7 planes, and of one raw plane (all 8 are as long)
//! stamps       per irregular run of n points n - 1 zigzag varints: second - first, then differences of differences
//! classes      per run a byte: bits 0-3 exponent e, or 15 = raw; bit 4 delta; bits 5-7 width w of a long run
//! short        zigzag varints: the first m of every decimal run, and the others of runs of fewer than 32 points
//! planes       per long decimal run, its others' zigzag in w bytes, byte k in plane k: bytes of equal weight lie together for zstd
//! raw          bits of the f64 of raw runs, byte k in plane k
//! ```
//! A decimal value is m / 10^e (`decimal`); with delta, m is a difference to the value before.

use super::Run;
use super::block::{self, Part};
use super::decimal::{self, EXPONENT_MAX, POWERS};
use super::runs::{offset, unzigzag, zigzag};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const WHAT: &str = "point block";
/// From this many points on a run's values lie in planes.
const LONG_POINTS: usize = 32;
/// A change between decimal and raw is worth a new run when it lasts this long.
const STRETCH_POINTS: usize = 16;
const CLASS_RAW: u8 = 15;
const CLASS_DELTA: u8 = 16;
const WIDTH_SHIFT: u32 = 5;
/// |m| < 2^50, so a difference's zigzag is below 2^52: seven bytes.
const PLANES: usize = 7;

/// The point block.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Points {
    /// Milliseconds from the window's start, of all points of the irregular runs, in run order.
    pub timestamps: Vec<u32>,
    /// Values of all runs, in run order, bit-exact.
    pub values: Vec<f64>,
}

/// The columns while they grow.
#[derive(Default)]
pub(super) struct Columns {
    stamps: Vec<u8>,
    classes: Vec<u8>,
    short: Vec<u8>,
    planes: [Vec<u8>; PLANES],
    raw: [Vec<u8>; 8],
    mantissas: Vec<i64>,
}

impl Columns {
    /// Appends timestamps of an irregular run.
    pub(super) fn stamps(&mut self, timestamps_ms: &[i64]) {
        let mut step = 0i64;
        for pair in timestamps_ms.windows(2) {
            let next = pair[1].wrapping_sub(pair[0]);
            put_varint(&mut self.stamps, zigzag(next.wrapping_sub(step)));
            step = next;
        }
    }

    /// Appends the values of one run: as many of them as go well together, at least one; how many.
    pub(super) fn values(&mut self, values: &[f64]) -> usize {
        let (decimal, exponent) = decimal::prefix(values);
        if decimal == values.len() || decimal >= STRETCH_POINTS {
            self.decimals(&values[..decimal], exponent);
            return decimal;
        }
        // Raw up to where a stretch of decimals begins.
        let mut stretch = 0;
        let mut taken = values.len();
        for (place, value) in values.iter().enumerate() {
            stretch = if decimal::is_decimal(*value) { stretch + 1 } else { 0 };
            if stretch == STRETCH_POINTS {
                taken = place + 1 - STRETCH_POINTS;
                break;
            }
        }
        if taken == 0 {
            // Decimals of exponents that don't go together.
            self.decimals(&values[..decimal], exponent);
            return decimal;
        }
        self.classes.push(CLASS_RAW);
        for (byte, plane) in self.raw.iter_mut().enumerate() {
            plane.extend(values[..taken].iter().map(|value| value.to_bits().to_le_bytes()[byte]));
        }
        taken
    }

    fn decimals(&mut self, values: &[f64], exponent: usize) {
        let power = POWERS[exponent];
        let class = exponent as u8;
        if let [value] = values {
            self.classes.push(class);
            return put_varint(&mut self.short, zigzag(decimal::mantissa(*value, power)));
        }
        let mantissas = &mut self.mantissas;
        mantissas.clear();
        mantissas.extend(values.iter().map(|value| decimal::mantissa(*value, power)));
        let bits = |value: i64| u64::from(64 - zigzag(value).leading_zeros());
        let plain: u64 = mantissas[1..].iter().map(|m| bits(*m)).sum();
        let delta: u64 = mantissas.windows(2).map(|pair| bits(pair[1] - pair[0])).sum();
        put_varint(&mut self.short, zigzag(mantissas[0]));
        let class = if delta < plain {
            // From the end, so that each difference is taken before its left side changes.
            for place in (1..mantissas.len()).rev() {
                mantissas[place] -= mantissas[place - 1];
            }
            class | CLASS_DELTA
        } else {
            class
        };
        let others = &mantissas[1..];
        if values.len() < LONG_POINTS {
            self.classes.push(class);
            return others.iter().for_each(|m| put_varint(&mut self.short, zigzag(*m)));
        }
        let all = others.iter().fold(0, |all, m| all | zigzag(*m));
        let width = (64 - all.leading_zeros()).div_ceil(8);
        self.classes.push(class | (width as u8) << WIDTH_SHIFT);
        for (byte, plane) in self.planes.iter_mut().enumerate().take(width as usize) {
            plane.extend(others.iter().map(|m| zigzag(*m).to_le_bytes()[byte]));
        }
    }

    pub(super) fn bytes_estimate(&self) -> usize {
        let planes: usize = self.planes.iter().map(Vec::len).sum();
        self.stamps.len() + self.classes.len() + self.short.len() + planes + 8 * self.raw[0].len()
    }

    pub(super) fn clear(&mut self) {
        for column in [&mut self.stamps, &mut self.classes, &mut self.short] {
            column.clear();
        }
        self.planes.iter_mut().chain(&mut self.raw).for_each(Vec::clear);
    }

    /// Appends the point block.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let columns = || [&self.stamps, &self.classes, &self.short].into_iter().chain(&self.planes);
        columns().chain(&self.raw[..1]).for_each(|column| put_varint(out, column.len() as u64));
        columns().chain(&self.raw).for_each(|column| out.extend_from_slice(column));
    }
}

/// Decodes the point block; `runs` are those of the same payload.
pub fn decode_points(payload: &[u8], runs: &[Run]) -> Result<Points, FormatError> {
    let (envelope, raw) = block::get(payload, Part::Points)?;
    let count: u64 = runs.iter().map(|run| u64::from(run.points)).sum();
    if count != u64::from(envelope.header.points) {
        return Err(FormatError::invalid(WHAT, "runs of another payload"));
    }
    let irregular = runs.iter().filter(|run| run.is_irregular()).map(|run| run.points as usize).sum();
    let mut columns = Read::new(&raw)?;
    let mut points = Points { timestamps: Vec::with_capacity(irregular), values: Vec::with_capacity(count as usize) };
    for run in runs {
        if run.is_irregular() {
            columns.stamps(run, &mut points.timestamps)?;
        }
        columns.values(run.points as usize, &mut points.values)?;
    }
    columns.finish()?;
    Ok(points)
}

/// The columns while they are read.
struct Read<'a> {
    stamps: Cursor<'a>,
    classes: Cursor<'a>,
    short: Cursor<'a>,
    planes: [Cursor<'a>; PLANES],
    raw: [Cursor<'a>; 8],
    scratch: Vec<u64>,
}

impl<'a> Read<'a> {
    fn new(block: &'a [u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(WHAT, block);
        let mut lengths = [0; 3 + PLANES + 1];
        for length in &mut lengths {
            *length = cursor.count(1)?;
        }
        let mut column = |length: usize| cursor.take(length).map(|bytes| Cursor::new(WHAT, bytes));
        let (stamps, classes, short) = (column(lengths[0])?, column(lengths[1])?, column(lengths[2])?);
        let empty = || Cursor::new(WHAT, &[]);
        let (mut planes, mut raw) = (std::array::from_fn(|_| empty()), std::array::from_fn(|_| empty()));
        for (plane, length) in planes.iter_mut().zip(&lengths[3..]) {
            *plane = column(*length)?;
        }
        for plane in &mut raw {
            *plane = column(lengths[3 + PLANES])?;
        }
        cursor.finish()?;
        Ok(Self { stamps, classes, short, planes, raw, scratch: Vec::new() })
    }

    fn stamps(&mut self, run: &Run, out: &mut Vec<u32>) -> Result<(), FormatError> {
        let (mut time, mut step) = (i64::from(run.first_ms), 0i64);
        out.push(offset(time)?);
        for _ in 1..run.points {
            step = step.wrapping_add(unzigzag(self.stamps.varint()?));
            time = time.wrapping_add(step);
            out.push(offset(time)?);
        }
        Ok(())
    }

    fn values(&mut self, points: usize, out: &mut Vec<f64>) -> Result<(), FormatError> {
        let class = self.classes.u8()?;
        let exponent = usize::from(class & 15);
        if exponent > EXPONENT_MAX {
            return if class == CLASS_RAW {
                self.raws(points, out)
            } else {
                Err(FormatError::invalid(WHAT, "an impossible class of values"))
            };
        }
        let power = POWERS[exponent];
        let delta = class & CLASS_DELTA != 0;
        let width = usize::from(class >> WIDTH_SHIFT);
        let mut m = unzigzag(self.short.varint()?);
        out.push(m as f64 / power);
        let others = points - 1;
        if points < LONG_POINTS {
            if width != 0 {
                return Err(FormatError::invalid(WHAT, "an impossible class of values"));
            }
            for _ in 0..others {
                let next = unzigzag(self.short.varint()?);
                m = if delta { m.wrapping_add(next) } else { next };
                out.push(m as f64 / power);
            }
            return Ok(());
        }
        gather(&mut self.planes[..width], others, &mut self.scratch)?;
        if delta {
            out.extend(self.scratch.iter().map(|zigzag| {
                m = m.wrapping_add(unzigzag(*zigzag));
                m as f64 / power
            }));
        } else {
            out.extend(self.scratch.iter().map(|zigzag| unzigzag(*zigzag) as f64 / power));
        }
        Ok(())
    }

    fn raws(&mut self, points: usize, out: &mut Vec<f64>) -> Result<(), FormatError> {
        gather(&mut self.raw, points, &mut self.scratch)?;
        out.extend(self.scratch.iter().map(|bits| f64::from_bits(*bits)));
        Ok(())
    }

    fn finish(self) -> Result<(), FormatError> {
        for column in [self.stamps, self.classes, self.short].into_iter().chain(self.planes).chain(self.raw) {
            column.finish()?;
        }
        Ok(())
    }
}

/// Puts `count` numbers together from their planes.
fn gather(planes: &mut [Cursor<'_>], count: usize, out: &mut Vec<u64>) -> Result<(), FormatError> {
    out.clear();
    out.resize(count, 0);
    for (byte, plane) in planes.iter_mut().enumerate() {
        for (number, bits) in out.iter_mut().zip(plane.take(count)?) {
            *number |= u64::from(*bits) << (8 * byte);
        }
    }
    Ok(())
}
