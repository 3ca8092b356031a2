//! Values that a fraction can't hold (-0.0, NaN with its payload, infinities, odd doubles) among a chunk's integers: integers beyond the greatest
//! one stand for them, so the coder prices them by how often they come, and pages without any cost nothing.
//!
//! ```text
//! metadata of a chunk with exceptions   base, zigzag varint | patterns varint | patterns u64, ascending;  then the coder's
//! page                                  odds varint | odds u64 each;  then the rest
//! integer base + i                      pattern i; the one after the last pattern: the next of the page's odds
//! ```

use super::value::is_special;
use super::zigzag::{unzigzag, zigzag};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

/// Patterns that have integers of their own.
const PATTERNS_MAX: usize = 16;

/// Which integers stand for what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Codes {
    base: i64,
    patterns: Vec<u64>,
}

/// What an exception is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exception {
    /// These bits.
    Pattern(u64),
    /// The next odd double of the page.
    Odd,
}

impl Codes {
    /// For a chunk whose coder gets `coded`; exceptions are (position, bits).
    pub(super) fn of(coded: &[i64], exceptions: &[(usize, u64)]) -> Self {
        let mut patterns: Vec<u64> = exceptions.iter().map(|(_, bits)| *bits).filter(|bits| is_special(f64::from_bits(*bits))).collect();
        patterns.sort_unstable();
        patterns.dedup();
        patterns.truncate(PATTERNS_MAX);
        // Integers lie below 2^51 and differences below 2^52.
        Self { base: coded.iter().copied().max().unwrap_or(0).saturating_add(1), patterns }
    }

    /// The number of some bits, from 0 on.
    pub(super) fn number(&self, bits: u64) -> usize {
        self.patterns.binary_search(&bits).unwrap_or(self.patterns.len())
    }

    /// The integer that stands for some bits.
    pub(super) fn integer(&self, bits: u64) -> i64 {
        self.base + self.number(bits) as i64
    }

    pub(super) fn is_odd(&self, bits: u64) -> bool {
        self.number(bits) == self.patterns.len()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, zigzag(self.base));
        put_varint(out, self.patterns.len() as u64);
        self.patterns.iter().for_each(|bits| out.extend_from_slice(&bits.to_le_bytes()));
    }

    pub(super) fn take(what: &'static str, cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let base = unzigzag(cursor.varint()?);
        let count = cursor.count(8)?;
        if count > PATTERNS_MAX || base.checked_add(count as i64).is_none() {
            return Err(FormatError::invalid(what, "more patterns of exceptions than there may be"));
        }
        let mut patterns = Vec::with_capacity(count);
        for _ in 0..count {
            patterns.push(cursor.u64()?);
        }
        if patterns.is_sorted_by(|a, b| a < b) {
            Ok(Self { base, patterns })
        } else {
            Err(FormatError::invalid(what, "patterns out of order"))
        }
    }

    /// What number `number` stands for; `None` beyond the last.
    pub(super) fn of_number(&self, number: u64) -> Option<Exception> {
        let number = usize::try_from(number).ok()?;
        match self.patterns.get(number) {
            Some(bits) => Some(Exception::Pattern(*bits)),
            None => (number == self.patterns.len()).then_some(Exception::Odd),
        }
    }
}

/// Appends the odd doubles among a page's exceptions.
pub(super) fn put_odds(out: &mut Vec<u8>, codes: &Codes, exceptions: &[(usize, u64)]) {
    let odds = || exceptions.iter().map(|(_, bits)| *bits).filter(|bits| codes.is_odd(*bits));
    put_varint(out, odds().count() as u64);
    odds().for_each(|bits| out.extend_from_slice(&bits.to_le_bytes()));
}

/// Exceptions of a page as they are met: position and bits.
#[derive(Debug, Default)]
pub(super) struct Exceptions {
    pub(super) met: Vec<(u32, u64)>,
    odds: Vec<u64>,
    odds_met: usize,
}

impl Exceptions {
    /// Starts a page: reads its odds.
    pub(super) fn begin(&mut self, cursor: &mut Cursor<'_>) -> Result<(), FormatError> {
        self.clear();
        for _ in 0..cursor.count(8)? {
            self.odds.push(cursor.u64()?);
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.met.clear();
        self.odds.clear();
        self.odds_met = 0;
    }

    /// Notes what stands at a position of the page.
    pub(super) fn note(&mut self, what: &'static str, at: u32, exception: Option<Exception>) -> Result<(), FormatError> {
        let bits = match exception {
            Some(Exception::Pattern(bits)) => Some(bits),
            Some(Exception::Odd) => {
                self.odds_met += 1;
                self.odds.get(self.odds_met - 1).copied()
            }
            None => None,
        };
        self.met.push((at, bits.ok_or_else(|| FormatError::invalid(what, "integer that stands for no value"))?));
        Ok(())
    }

    /// Notes the exceptions among integers that stand for the values from `at` on; 0 takes their place.
    pub(super) fn take_from(&mut self, what: &'static str, codes: &Codes, at: u32, integers: &mut [i64]) -> Result<(), FormatError> {
        for (integer, at) in integers.iter_mut().zip(at..) {
            if *integer >= codes.base {
                self.note(what, at, codes.of_number(integer.abs_diff(codes.base)))?;
                *integer = 0;
            }
        }
        Ok(())
    }

    /// Ends a page: all its odds were met.
    pub(super) fn end(&self, what: &'static str) -> Result<(), FormatError> {
        if self.odds_met == self.odds.len() { Ok(()) } else { Err(FormatError::invalid(what, "odd doubles that no integer stands for")) }
    }
}
