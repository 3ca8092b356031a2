//! The run block: which series has how many points, where in time.
//!
//! ```text
//! count        varint
//! series       per run: 0: the number after the run before's, 1: the same, n + 2: number n
//! points       per run
//! first_ms     per run: zigzag of (first offset in the window - the run before's)
//! step_ms      per run
//! ```

use tailors_model::Window;
use tailors_model::limits::PAYLOAD_POINTS_MAX;
use tailors_model::window::WINDOW_MS;

use super::block::{self, Part};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const WHAT: &str = "run block";

/// Consecutive points of one series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Number of the series in the label block.
    pub series: u32,
    /// Points, at least one.
    pub points: u32,
    /// First timestamp, milliseconds from the window's start.
    pub first_ms: u32,
    /// Milliseconds between points; 0 = irregular: all its timestamps, the first one too, are in `Points`. A single point has step 1.
    pub step_ms: u32,
}

impl Run {
    /// Whether its timestamps are in [`super::Points::timestamps`].
    pub fn is_irregular(&self) -> bool {
        self.step_ms == 0
    }
}

/// A run before its window is known.
#[derive(Clone, Copy)]
pub(super) struct OpenRun {
    pub(super) series: u32,
    pub(super) points: u32,
    pub(super) first_unix_ms: i64,
    pub(super) step_ms: u32,
}

/// Appends the run block. All times were checked to lie in the window.
pub(super) fn encode(out: &mut Vec<u8>, runs: &[OpenRun], window: Window) {
    put_varint(out, runs.len() as u64);
    let mut before = u32::MAX;
    for run in runs {
        let next = before.wrapping_add(1);
        let code = if run.series == next { 0 } else { u64::from(run.series) + 2 };
        put_varint(out, if run.series == before { 1 } else { code });
        before = run.series;
    }
    runs.iter().for_each(|run| put_varint(out, u64::from(run.points)));
    let mut first = window.start_ms();
    for run in runs {
        put_varint(out, zigzag(run.first_unix_ms - first));
        first = run.first_unix_ms;
    }
    runs.iter().for_each(|run| put_varint(out, u64::from(run.step_ms)));
}

/// Decodes the run block of a payload, or of a prefix of `census_len` bytes. Regular runs end inside the window.
pub fn decode_runs(payload: &[u8]) -> Result<Vec<Run>, FormatError> {
    let (envelope, raw) = block::get(payload, Part::Runs)?;
    let mut cursor = Cursor::new(WHAT, &raw);
    let count = cursor.count(4)?;
    if count > PAYLOAD_POINTS_MAX as usize {
        return Err(FormatError::invalid(WHAT, format!("{count} runs, at most {PAYLOAD_POINTS_MAX}")));
    }
    let mut runs = Vec::with_capacity(count);
    let mut before = u32::MAX;
    for _ in 0..count {
        let series = match cursor.varint()? {
            0 => before.wrapping_add(1),
            1 => before,
            code => u32::try_from(code - 2).unwrap_or(u32::MAX),
        };
        if series >= envelope.header.series {
            return Err(FormatError::invalid(WHAT, "a run of an unknown series"));
        }
        runs.push(Run { series, points: 0, first_ms: 0, step_ms: 0 });
        before = series;
    }
    let mut points = 0u64;
    for run in &mut runs {
        run.points = number(&mut cursor)?;
        points += u64::from(run.points);
        if run.points == 0 {
            return Err(FormatError::invalid(WHAT, "a run without points"));
        }
    }
    if points != u64::from(envelope.header.points) {
        return Err(FormatError::invalid(WHAT, format!("{points} points, its envelope says {}", envelope.header.points)));
    }
    let mut first = 0i64;
    for run in &mut runs {
        first = first.wrapping_add(unzigzag(cursor.varint()?));
        run.first_ms = offset(first)?;
    }
    for run in &mut runs {
        run.step_ms = number(&mut cursor)?;
        let last = i64::from(run.first_ms) + i64::from(run.points - 1) * i64::from(run.step_ms);
        offset(last)?;
    }
    cursor.finish()?;
    Ok(runs)
}

/// An offset inside the window.
pub(super) fn offset(offset_ms: i64) -> Result<u32, FormatError> {
    let inside = (0..WINDOW_MS).contains(&offset_ms);
    // Below WINDOW_MS it fits.
    if inside { Ok(offset_ms as u32) } else { Err(FormatError::invalid(WHAT, "a time outside the window")) }
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn number(cursor: &mut Cursor<'_>) -> Result<u32, FormatError> {
    u32::try_from(cursor.varint()?).map_err(|_| FormatError::invalid(WHAT, "a number beyond 32 bits"))
}
