//! Answers, and the numbers in them as Prometheus writes them.

use std::fmt::Write;

use super::labels::Labels;

/// Marks a step without a value inside a column: the bits of Prometheus' stale marker, which no result ever holds.
pub(crate) const ABSENT: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a stored value is a stale marker, or a step of a column has no value.
pub(crate) fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// Result of a query. Times are Unix milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// One number.
    Scalar(i64, f64),
    /// One text.
    Text(i64, String),
    /// One sample per series.
    Vector(Vec<(Labels, i64, f64)>),
    /// Samples over time per series.
    Matrix(Vec<(Labels, Vec<(i64, f64)>)>),
}

impl Value {
    /// Prometheus' `resultType`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(..) => "scalar",
            Self::Text(..) => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }

    /// Appends the JSON of `result`.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Scalar(at_ms, value) => write_point(out, *at_ms, *value),
            Self::Text(at_ms, text) => {
                out.push('[');
                write_time(out, *at_ms);
                out.push(',');
                write_text(out, text);
                out.push(']');
            }
            Self::Vector(samples) => write_list(out, samples, |out, (labels, at_ms, value)| {
                write_metric(out, labels);
                out.push_str("\"value\":");
                write_point(out, *at_ms, *value);
                out.push('}');
            }),
            Self::Matrix(series) => write_list(out, series, |out, (labels, points)| {
                write_metric(out, labels);
                out.push_str("\"values\":");
                write_list(out, points, |out, (at_ms, value)| write_point(out, *at_ms, *value));
                out.push('}');
            }),
        }
    }
}

fn write_list<T>(out: &mut String, items: &[T], mut each: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(']');
}

fn write_metric(out: &mut String, labels: &Labels) {
    out.push_str("{\"metric\":");
    write_labels(out, labels);
    out.push(',');
}

/// Appends a label set as a JSON object.
pub fn write_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_text(out, name);
        out.push(':');
        write_text(out, value);
    }
    out.push('}');
}

/// Appends a JSON string.
pub fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_point(out: &mut String, at_ms: i64, value: f64) {
    out.push('[');
    write_time(out, at_ms);
    out.push_str(",\"");
    write_number(out, value);
    out.push_str("\"]");
}

/// Unix seconds, with three decimals when there are milliseconds.
fn write_time(out: &mut String, at_ms: i64) {
    let (sign, at_ms) = if at_ms < 0 { ("-", at_ms.unsigned_abs()) } else { ("", at_ms.unsigned_abs()) };
    let _ = match at_ms % 1_000 {
        0 => write!(out, "{sign}{}", at_ms / 1_000),
        ms => write!(out, "{sign}{}.{ms:03}", at_ms / 1_000),
    };
}

/// The shortest decimal that reads back, in Prometheus' form: plain, or with an exponent of at least two digits below 1e-6 and from 1e21 on.
pub fn write_number(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
    } else {
        let _ = write!(out, "{value}");
    }
}

/// The number in plain form whatever its size, as in label values.
pub(crate) fn plain_number(value: f64) -> String {
    if value.is_finite() {
        return value.to_string();
    }
    let mut text = String::new();
    write_number(&mut text, value);
    text
}
