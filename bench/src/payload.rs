//! Bench `payload`: what a point costs in the log and what writing and reading payloads costs on one core, at 1, 5, 10 and 500 samples per series.
//!
//! In: 10,000 points of the fleet (1, 5 and 10 samples) or of the month (500) per payload, as one request brings them. The rivals of the size are the
//! request itself, as remote write with snappy and with zstd-1. Every payload is read back and compared.

use tailors_format::payload::{PayloadWriter, SeriesMeta, Stamp, TagRef, decode_labels, decode_points, decode_runs};
use tailors_format::raw::frame;

use crate::Outcome;
use crate::data::{self, ORG, START_S};
use crate::import::body::{self, Shape};
use crate::report::Row;
use crate::timing::best_s;

/// What decoding has to reach at ten points a run, million points a second and core (formats.md section 1).
const DECODE_M_PER_S: f64 = 60.0;
/// Payloads per shape that rates are measured over.
const PAYLOADS: usize = 20;

/// All rows.
pub(crate) fn run(quick: bool) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for shape in [Shape::Live, Shape::Fleet, Shape::Ten, Shape::Month] {
        measure(shape, if quick { 5 } else { PAYLOADS }, &mut rows)?;
    }
    Ok(rows)
}

fn measure(shape: Shape, payloads: usize, rows: &mut Vec<Row>) -> Outcome<()> {
    let requests = body::requests(shape, payloads, START_S);
    let points: usize = requests.iter().map(body::Request::points).sum();
    let name = shape.name();
    let mut writer = PayloadWriter::new();
    let encode_all = |writer: &mut PayloadWriter| {
        requests.iter().enumerate().map(|(i, request)| encode(writer, request, i)).collect::<Outcome<Vec<_>>>()
    };
    let stored = encode_all(&mut writer)?;
    for (payload, request) in stored.iter().zip(&requests) {
        compare(payload, request)?;
    }
    let per_point = |bytes: usize| bytes as f64 / points as f64;
    let raw: Vec<Vec<u8>> = requests.iter().map(body::Request::remote_write).collect();
    let snappy: usize = raw.iter().map(|body| body::snappy(body).map(|packed| packed.len())).sum::<Outcome<usize>>()?;
    let zstd: usize = raw.iter().map(|body| zstd::bulk::compress(body, 1).map(|packed| packed.len())).sum::<Result<usize, _>>()?;
    let bytes: usize = stored.iter().map(|payload| payload.len() + frame::HEADER_BYTES).sum();
    let size = Row::lower(format!("{name}: in the log, framed"), per_point(bytes), "B/point");
    rows.push(size.reach(per_point(snappy)).rival("request, snappy", per_point(snappy)).rival("request, zstd-1", per_point(zstd)));
    let speed = |seconds: f64| points as f64 / seconds / 1e6;
    let encode_s = best_s(5, 2.0, || encode_all(&mut writer))?;
    let snappy_s = best_s(3, 1.0, || raw.iter().map(|body| body::snappy(body)).collect::<Outcome<Vec<_>>>())?;
    rows.push(
        Row::higher(format!("{name}: encode"), speed(encode_s), "M points/s/core").rival("snappy of the request alone", speed(snappy_s)),
    );
    let decode_s = best_s(5, 2.0, || stored.iter().try_fold(0, |sum, payload| decode(payload).map(|n| sum + n)))?;
    let decode = Row::higher(format!("{name}: decode"), speed(decode_s), "M points/s/core");
    rows.push(if shape == Shape::Ten { decode.reach(DECODE_M_PER_S) } else { decode });
    let census_s = best_s(5, 1.0, || stored.iter().try_for_each(|payload| census(payload)))?;
    rows.push(Row::higher(format!("{name}: census (labels and runs)"), speed(census_s), "M points/s/core"));
    Ok(())
}

fn encode(writer: &mut PayloadWriter, request: &body::Request, sequence: usize) -> Outcome<Vec<u8>> {
    let mut tags: Vec<TagRef<'_>> = Vec::new();
    for (labels, values) in request.series() {
        tags.clear();
        tags.extend(labels.tags.iter().map(|(key, value)| TagRef {
            key: key.as_bytes(),
            kind: tailors_model::TagKind::Pair,
            value: value.as_bytes(),
        }));
        let series = writer.series(labels.metric.as_bytes(), &tags, SeriesMeta::default());
        writer.points(series, &request.times_ms, values);
    }
    let stamp = Stamp {
        org: ORG,
        window: data::window(),
        received_at_us: START_S * 1_000_000,
        intake_id: 1,
        sequence: sequence as u64,
        admitted_from_ms: 0,
        admitted_to_ms: START_S * 2_000,
    };
    Ok(writer.finish(&stamp)?)
}

fn decode(payload: &[u8]) -> Outcome<usize> {
    std::hint::black_box(decode_labels(payload)?);
    let runs = decode_runs(payload)?;
    Ok(std::hint::black_box(decode_points(payload, &runs)?).values.len())
}

fn census(payload: &[u8]) -> Outcome<()> {
    std::hint::black_box((decode_labels(payload)?, decode_runs(payload)?));
    Ok(())
}

/// Every value of every series in order, to the bit.
fn compare(payload: &[u8], request: &body::Request) -> Outcome<()> {
    let runs = decode_runs(payload)?;
    let points = decode_points(payload, &runs)?;
    let mut by_series = vec![Vec::new(); request.series().count()];
    let mut rest = points.values.as_slice();
    for run in &runs {
        let (own, after) = rest.split_at(run.points as usize);
        by_series[run.series as usize].extend_from_slice(own);
        rest = after;
    }
    let same =
        by_series.iter().zip(request.series()).all(|(got, (_, sent))| got.iter().map(|v| v.to_bits()).eq(sent.iter().map(|v| v.to_bits())));
    if same { Ok(()) } else { Err("payload: read back other values".into()) }
}
