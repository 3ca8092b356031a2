//! Truth files: points as they were sent, from CSV (`timestamp,metric,tags,value`, plain or zstd) or a `.rw` file of rw_load.py.
//!
//! Tags are presented as PromQL sees them (interfaces.md C0): `k:v`, a bare `v` as `v="true"`, several values of a key joined by `,`. Time stays
//! decimal text until it is floored to milliseconds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::exit::Failure;

/// Metric and presented labels, sorted by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Identity {
    /// Metric name as stored.
    pub(crate) metric: String,
    /// Labels without the metric.
    pub(crate) labels: Vec<(String, String)>,
}

/// One point of a truth file; `series` numbers identities in order of first appearance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TruthPoint {
    /// Number of its identity.
    pub(crate) series: u32,
    /// Unix milliseconds.
    pub(crate) time_ms: i64,
    /// Value.
    pub(crate) value: f64,
}

/// Called with each point and the identities known so far, its own among them.
type Each<'a> = &'a mut dyn FnMut(TruthPoint, &[Identity]) -> Result<(), Failure>;

/// Reads a file's points in file order; `identities` grows as new ones appear.
pub(crate) fn read(
    path: &Path,
    identities: &mut Vec<Identity>,
    each: &mut dyn FnMut(TruthPoint) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    read_with(path, identities, &mut |point, _| each(point))
}

/// As [`read`], for callers that need the identities on the way.
pub(crate) fn read_with(path: &Path, identities: &mut Vec<Identity>, each: Each<'_>) -> Result<u64, Failure> {
    let at = |error: String| Failure::usage(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| at(error.to_string()))?;
    if path.extension().is_some_and(|extension| extension == "rw") {
        return read_rw(BufReader::new(file), identities, each).map_err(|failure| at(failure.message));
    }
    let zipped = path.extension().is_some_and(|extension| extension == "zst");
    let reader: Box<dyn Read> =
        if zipped { Box::new(zstd::stream::read::Decoder::new(file).map_err(|error| at(error.to_string()))?) } else { Box::new(file) };
    read_csv(reader, identities, each).map_err(|failure| at(failure.message))
}

fn read_csv(reader: impl Read, identities: &mut Vec<Identity>, each: Each<'_>) -> Result<u64, Failure> {
    let mut csv = csv::ReaderBuilder::new().has_headers(true).from_reader(BufReader::with_capacity(1 << 20, reader));
    let headers = csv.headers().map_err(|error| Failure::usage(error.to_string()))?;
    if headers.iter().collect::<Vec<_>>() != ["timestamp", "metric", "tags", "value"] {
        return Err(Failure::usage("the first line must be timestamp,metric,tags,value"));
    }
    let mut numbers: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut row = csv::StringRecord::new();
    let mut key = (String::new(), String::new());
    let mut points = 0;
    while csv.read_record(&mut row).map_err(|error| Failure::usage(error.to_string()))? {
        let (time, metric, tags, value) = (&row[0], &row[1], &row[2], &row[3]);
        let time_ms = decimal_ms(time).ok_or_else(|| Failure::usage(format!("line {}: `{time}` is no time in seconds", points + 2)))?;
        let value = value.parse().map_err(|_| Failure::usage(format!("line {}: `{value}` is no number", points + 2)))?;
        key.0.replace_range(.., metric);
        key.1.replace_range(.., tags);
        let series = match numbers.get(&key) {
            Some(series) => *series,
            None => {
                let series = identities.len() as u32;
                identities.push(Identity { metric: metric.to_owned(), labels: presented(tags) });
                numbers.insert(key.clone(), series);
                series
            }
        };
        each(TruthPoint { series, time_ms, value }, identities)?;
        points += 1;
    }
    Ok(points)
}

/// Labels of `k:v,k:v`.
fn presented(tags: &str) -> Vec<(String, String)> {
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tag in tags.split(',').filter(|tag| !tag.is_empty()) {
        let (key, value) = tag.split_once(':').unwrap_or((tag, "true"));
        by_key.entry(key).or_default().push(value);
    }
    by_key
        .into_iter()
        .map(|(key, mut values)| {
            values.sort_unstable();
            values.dedup();
            (key.to_owned(), values.join(","))
        })
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Decimal seconds as text, floored to milliseconds.
pub(crate) fn decimal_ms(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut ms = whole.parse::<i64>().ok()?.checked_mul(1_000)?;
    for (place, digit) in [100, 10, 1].into_iter().zip(fraction.bytes()) {
        ms += place * i64::from(digit - b'0');
    }
    let finer = fraction.len() > 3 && fraction.as_bytes()[3..].iter().any(|digit| *digit != b'0');
    Some(if negative { -ms - i64::from(finer) } else { ms })
}

fn read_rw(mut reader: impl BufRead, identities: &mut Vec<Identity>, each: Each<'_>) -> Result<u64, Failure> {
    let mut header = String::new();
    reader.read_line(&mut header)?;
    let mut numbers: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut points = 0;
    let mut head = [0u8; 10];
    let (mut packed, mut decoder) = (Vec::new(), snap::raw::Decoder::new());
    loop {
        match reader.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(points),
            Err(error) => return Err(error.into()),
        }
        let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        packed.resize(size.min(64 << 20), 0);
        reader.read_exact(&mut packed)?;
        let body = decoder.decompress_vec(&packed).map_err(|error| Failure::usage(error.to_string()))?;
        points += read_write_request(&body, &mut numbers, identities, each)?;
    }
}

fn read_write_request(
    body: &[u8],
    numbers: &mut BTreeMap<Vec<u8>, u32>,
    identities: &mut Vec<Identity>,
    each: Each<'_>,
) -> Result<u64, Failure> {
    let cut = || Failure::usage("a remote write body is cut short");
    let mut points = 0;
    for (field, series) in fields(body) {
        let (1, Field::Bytes(series)) = (field, series) else { continue };
        // Labels come first in a series: what lies before the first sample is its identity.
        let mut label_bytes = Vec::new();
        let mut number = None;
        for (field, part) in fields(series) {
            match (field, part) {
                (1, Field::Bytes(label)) => {
                    label_bytes.extend_from_slice(&(label.len() as u32).to_le_bytes());
                    label_bytes.extend_from_slice(label);
                }
                (2, Field::Bytes(sample)) => {
                    let series = *number.get_or_insert_with(|| number_of(&label_bytes, numbers, identities));
                    let (mut time_ms, mut value) = (0, 0.0);
                    for part in fields(sample) {
                        match part {
                            (1, Field::Fixed(bits)) => value = f64::from_bits(bits),
                            (2, Field::Varint(at)) => time_ms = at as i64,
                            _ => return Err(cut()),
                        }
                    }
                    each(TruthPoint { series, time_ms, value }, identities)?;
                    points += 1;
                }
                _ => {}
            }
        }
    }
    Ok(points)
}

fn number_of(label_bytes: &[u8], numbers: &mut BTreeMap<Vec<u8>, u32>, identities: &mut Vec<Identity>) -> u32 {
    if let Some(number) = numbers.get(label_bytes) {
        return *number;
    }
    let (mut metric, mut labels) = (String::new(), Vec::new());
    let mut rest = label_bytes;
    while let Some((size, tail)) = rest.split_first_chunk::<4>() {
        let (label, tail) = tail.split_at((u32::from_le_bytes(*size) as usize).min(tail.len()));
        rest = tail;
        let (mut name, mut value) = (String::new(), String::new());
        for (field, part) in fields(label) {
            match (field, part) {
                (1, Field::Bytes(text)) => name = String::from_utf8_lossy(text).into_owned(),
                (2, Field::Bytes(text)) => value = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
        if name == "__name__" {
            metric = value;
        } else if !value.is_empty() {
            labels.push((name, value));
        }
    }
    labels.sort();
    let number = identities.len() as u32;
    identities.push(Identity { metric, labels });
    numbers.insert(label_bytes.to_vec(), number);
    number
}

enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// Fields of a protobuf message; ends at the first byte that makes no sense.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let tag = varint(&mut rest)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut rest)?),
            1 => {
                let (bytes, tail) = rest.split_first_chunk::<8>()?;
                rest = tail;
                Field::Fixed(u64::from_le_bytes(*bytes))
            }
            2 => {
                let size = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, tail) = rest.split_at_checked(size)?;
                rest = tail;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_floored_from_text() {
        assert_eq!(decimal_ms("1795217756"), Some(1_795_217_756_000));
        assert_eq!(decimal_ms("1.0019"), Some(1_001));
        assert_eq!(decimal_ms("-1.0019"), Some(-1_002));
        assert_eq!(decimal_ms("1e3"), None);
        assert_eq!(decimal_ms(""), None);
        assert_eq!(decimal_ms("NaN"), None);
    }

    #[test]
    fn csv_rows_become_presented_points() {
        let text = "timestamp,metric,tags,value\n1,a.b,\"k:v,bare,k:u\",2.5\n2,a.b,\"k:v,bare,k:u\",-0.0\n";
        let (mut identities, mut points) = (Vec::new(), Vec::new());
        let count = read_csv(text.as_bytes(), &mut identities, &mut |point, _| {
            points.push(point);
            Ok(())
        });
        assert_eq!(count.expect("good"), 2);
        assert_eq!(
            identities,
            [Identity { metric: "a.b".into(), labels: vec![("bare".into(), "true".into()), ("k".into(), "u,v".into())] }]
        );
        assert_eq!(points[1].value.to_bits(), (-0.0f64).to_bits());
        assert!(read_csv("timestamp,metric,tags,value\nx,a,,1\n".as_bytes(), &mut identities, &mut |_, _| Ok(())).is_err());
    }
}
