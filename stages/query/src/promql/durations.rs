//! Arithmetic in durations, as in `[2 * step()]` and `offset (1h - 5m)`, worked out in the text before the parser, which doesn't know it, sees it.
//!
//! Numbers are seconds. Only what is not plain is touched, so other texts and their errors stay as they are.

use promql_parser::util::parse_duration;

use super::functions::{greater, lesser};
use super::plan::token_end;
use crate::error::{self, QueryError};

/// What `step()` and `range()` are, in seconds; both 0 in an instant query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) step_s: f64,
    pub(crate) range_s: f64,
}

/// The query with durations that the parser reads.
pub(super) fn plain(query: &str, of: Query) -> Result<String, QueryError> {
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    while !rest.is_empty() {
        let (token, after) = rest.split_at(token_end(rest));
        out.push_str(token);
        rest = after;
        if token == "[" {
            let end = rest.find(']').unwrap_or(rest.len());
            let (inside, after) = rest.split_at(end);
            if inside.contains(['+', '-', '*', '/', '%', '^', '(']) {
                let parts = inside.split(':').map(|part| if part.trim().is_empty() { Ok(String::new()) } else { range(part, of) });
                out.push_str(&parts.collect::<Result<Vec<_>, _>>()?.join(":"));
                rest = after;
            }
        } else if token.eq_ignore_ascii_case("offset") {
            let mut reader = Reader { text: rest, of };
            if reader.is_plain_offset() {
                continue;
            }
            let ms = millis(reader.term()?)?;
            out.truncate(out.len() - token.len());
            if ms != 0 {
                let sign = if ms < 0 { "-" } else { "" };
                out.push_str(&format!("offset {sign}{}ms", ms.unsigned_abs()));
            }
            rest = reader.text;
        }
    }
    Ok(out)
}

fn refused(what: &str) -> QueryError {
    QueryError::bad(error::PARSE, format!("invalid parameter \"query\": parse error: {what}"))
}

/// A range or step in brackets.
fn range(text: &str, of: Query) -> Result<String, QueryError> {
    let mut reader = Reader { text, of };
    let seconds = reader.sum()?;
    if !reader.text.trim().is_empty() {
        return Err(refused(&format!("unexpected {:?} in a duration", reader.text.trim())));
    }
    match millis(seconds)? {
        ..=0 => Err(refused("duration must be greater than 0")),
        ms => Ok(format!("{ms}ms")),
    }
}

fn millis(seconds: f64) -> Result<i64, QueryError> {
    if !seconds.is_finite() || seconds.abs() > i64::MAX as f64 / 1e9 {
        return Err(refused("duration is NaN, infinite or out of range"));
    }
    Ok((seconds * 1_000.0) as i64)
}

/// Reads an expression from the front of a text.
struct Reader<'a> {
    text: &'a str,
    of: Query,
}

impl Reader<'_> {
    fn take(&mut self, wanted: char) -> bool {
        self.text = self.text.trim_start();
        let found = self.text.strip_prefix(wanted);
        self.text = found.unwrap_or(self.text);
        found.is_some()
    }

    fn need(&mut self, wanted: char) -> Result<(), QueryError> {
        if self.take(wanted) { Ok(()) } else { Err(refused(&format!("a duration lacks {wanted:?}"))) }
    }

    /// Whether the parser reads what follows `offset` by itself: a number or duration but zero, a minus before it or not.
    fn is_plain_offset(&self) -> bool {
        let text = self.text.trim_start();
        let number = text.strip_prefix('-').unwrap_or(text).trim_start();
        if number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return literal(word(number)) != Ok(0.0);
        }
        !text.starts_with(['+', '-', '(']) && !["step", "range", "min_of", "max_of"].contains(&word(text).to_lowercase().as_str())
    }

    fn sum(&mut self) -> Result<f64, QueryError> {
        let mut left = self.product()?;
        loop {
            if self.take('+') {
                left += self.product()?;
            } else if self.take('-') {
                left -= self.product()?;
            } else {
                return Ok(left);
            }
        }
    }

    fn product(&mut self) -> Result<f64, QueryError> {
        let mut left = self.signed()?;
        loop {
            let operator = ['*', '/', '%'].into_iter().find(|operator| self.take(*operator));
            let Some(operator) = operator else { return Ok(left) };
            let right = self.signed()?;
            if right == 0.0 && operator != '*' {
                return Err(refused(if operator == '/' { "division by zero" } else { "modulo by zero" }));
            }
            left = match operator {
                '*' => left * right,
                '/' => left / right,
                _ => left % right,
            };
        }
    }

    fn signed(&mut self) -> Result<f64, QueryError> {
        if self.take('-') {
            return Ok(-self.signed()?);
        }
        if self.take('+') { self.signed() } else { self.power() }
    }

    fn power(&mut self) -> Result<f64, QueryError> {
        let base = self.primary()?;
        if self.take('^') { Ok(base.powf(self.signed()?)) } else { Ok(base) }
    }

    /// What stands behind `offset`: at most one sign, no operator.
    fn term(&mut self) -> Result<f64, QueryError> {
        if self.take('-') {
            return Ok(-self.primary()?);
        }
        self.take('+');
        self.primary()
    }

    fn primary(&mut self) -> Result<f64, QueryError> {
        if self.take('(') {
            let inside = self.sum()?;
            self.need(')')?;
            return Ok(inside);
        }
        let word = word(self.text).to_owned();
        self.text = &self.text[word.len()..];
        let value = match word.to_lowercase().as_str() {
            "step" => self.of.step_s,
            "range" => self.of.range_s,
            name @ ("min_of" | "max_of") => {
                self.need('(')?;
                let a = self.sum()?;
                self.need(',')?;
                let b = self.sum()?;
                self.need(')')?;
                return Ok(if name == "min_of" { lesser(a, b) } else { greater(a, b) });
            }
            _ => return literal(&word),
        };
        self.need('(')?;
        self.need(')')?;
        Ok(value)
    }
}

/// The letters, digits, dots and underscores that a text begins with.
fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(text.len())]
}

/// Seconds of a number or duration.
fn literal(word: &str) -> Result<f64, QueryError> {
    if let Ok(seconds) = word.parse::<f64>() {
        return Ok(seconds);
    }
    // The parser's reader takes no zero.
    if word.strip_prefix('0').is_some_and(|unit| matches!(unit, "ms" | "s" | "m" | "h" | "d" | "w" | "y")) {
        return Ok(0.0);
    }
    let duration = parse_duration(word).map_err(|_| refused(&format!("unexpected {word:?} in a duration")))?;
    Ok(duration.as_secs_f64())
}
