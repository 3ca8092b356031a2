//! `tailors query`: PromQL against a running `up`, or against the store in this process when none runs.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::Value;
use tailors_model::OrgId;
use tower::ServiceExt;

use super::{Roles, Side, now_ms, side};
use crate::cli::Query;
use crate::client::escape;
use crate::exit::Failure;
use crate::http;
use crate::out::say;
use crate::settings;
use crate::time::{duration_ms, parse_ms, rfc3339};

/// Bytes of an answer that this command takes.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Rows of the table.
const ROWS_SHOWN: usize = 20;
/// Series in the chart.
const CHARTED: usize = 5;
/// Columns of the chart.
const CHART_WIDTH: usize = 72;
/// Heights of a chart cell, low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(crate) async fn run(args: Query) -> Result<(), Failure> {
    let now_ms = now_ms(super::data_dir(&args.target).as_ref())?;
    let (start_ms, end_ms) = (parse_ms(&args.start, now_ms)?, parse_ms(&args.end, now_ms)?);
    let step_ms = match &args.step {
        Some(step) => duration_ms(step)?,
        None => ((end_ms - start_ms) / 100).max(1_000) / 1_000 * 1_000,
    };
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000));
    let parameters = [("query", args.query.clone()), ("start", seconds(start_ms)), ("end", seconds(end_ms)), ("step", seconds(step_ms))];
    let (status, answer) = ask(&args, &parameters).await?;
    if answer["status"] != "success" {
        return Err(refused(status, &answer));
    }
    if args.json {
        say!("{answer}");
        return Ok(());
    }
    let series = series_of(&answer);
    if args.csv {
        say!("timestamp,series,value");
        for (name, points) in &series {
            let quoted = name.replace('"', "\"\"");
            points.iter().for_each(|(at, _, text)| say!("{at},\"{quoted}\",{text}"));
        }
        return Ok(());
    }
    show(&series, start_ms, end_ms);
    for note in answer["tailors"]["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say!("note: {note}");
    }
    if let Some(until_ms) = answer["tailors"]["complete_until_ms"].as_i64() {
        say!("complete until {}", rfc3339(until_ms));
    }
    Ok(())
}

/// What a refused query ends with: a question that can't be answered, or a key that may not ask, is a wrong argument; the rest is the server's.
fn refused(status: StatusCode, answer: &Value) -> Failure {
    let said = format!("{}: {}", answer["errorType"].as_str().unwrap_or("error"), answer["error"].as_str().unwrap_or_default());
    if status.is_client_error() { Failure::usage(said) } else { Failure::unavailable(said) }
}

async fn ask(args: &Query, parameters: &[(&str, String)]) -> Result<(StatusCode, Value), Failure> {
    match side(&args.target, Roles::None, |client| &client.key).await? {
        Side::Server(client) => {
            let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
            let path = format!("/api/v1/query_range?{}", pairs.join("&"));
            let answer = client.send(reqwest::Method::GET, &path, &[], bytes::Bytes::new()).await?;
            let body = serde_json::from_slice(&answer.body);
            let body = body.map_err(|_| Failure::unavailable(format!("the server answers {}: {}", answer.status, answer.text())))?;
            Ok((answer.status, body))
        }
        Side::Own(own) => {
            let settings = settings::load(None, std::env::vars(), &[])?;
            let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
            let request = Request::get(format!("/api/v1/query_range?{}", pairs.join("&"))).extension(OrgId(1)).body(Body::empty());
            let request = request.map_err(|error| Failure::usage(error.to_string()))?;
            let Ok(response) = tailors_query::router(http::query_deps(&own.node, &settings)).oneshot(request).await;
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await;
            own.stop().await;
            let body = body.map_err(|error| Failure::unavailable(error.to_string()))?;
            Ok((status, serde_json::from_slice(&body).map_err(|error| Failure::unavailable(error.to_string()))?))
        }
    }
}

/// Points of a series: Unix seconds, value, value as text.
type Points = Vec<(f64, f64, String)>;

fn series_of(answer: &Value) -> Vec<(String, Points)> {
    let results = answer["data"]["result"].as_array().into_iter().flatten();
    let series = results.map(|result| {
        let points = result["values"].as_array().into_iter().flatten().filter_map(|pair| {
            let text = pair[1].as_str()?;
            Some((pair[0].as_f64()?, number(text)?, text.to_owned()))
        });
        (name_of(&result["metric"]), points.collect())
    });
    series.collect()
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

fn name_of(metric: &Value) -> String {
    let labels = metric.as_object().into_iter().flatten();
    let (mut name, mut pairs) = (String::new(), Vec::new());
    for (label, value) in labels {
        let value = value.as_str().unwrap_or_default();
        if label == "__name__" { name = value.to_owned() } else { pairs.push(format!("{label}={value:?}")) }
    }
    pairs.sort();
    if pairs.is_empty() && !name.is_empty() { name } else { format!("{name}{{{}}}", pairs.join(", ")) }
}

fn show(series: &[(String, Points)], start_ms: i64, end_ms: i64) {
    if series.is_empty() {
        say!("no points between {} and {}", rfc3339(start_ms), rfc3339(end_ms));
        return;
    }
    say!("{:<56}{:>8}{:>16}{:>16}  {:>20}", "series", "points", "min", "max", "last");
    for (name, points) in series.iter().take(ROWS_SHOWN) {
        let (min, max) = bounds(points).map_or_else(|| ("-".into(), "-".into()), |(min, max)| (format!("{min:.6}"), format!("{max:.6}")));
        let last = points.last().map_or("-", |(_, _, text)| text);
        say!("{:<56}{:>8}{min:>16}{max:>16}  {last:>20}", clip(name, 55), points.len());
    }
    if series.len() > ROWS_SHOWN {
        say!("… and {} more series; --json and --csv have all", series.len() - ROWS_SHOWN);
    }
    for (name, points) in series.iter().take(CHARTED) {
        let Some((min, max)) = bounds(points) else {
            say!("\n{}  no finite value to draw", clip(name, 90));
            continue;
        };
        say!("\n{}  {min:.6} to {max:.6}", clip(name, 90));
        say!("{}", chart(points, start_ms as f64 / 1e3, end_ms as f64 / 1e3));
    }
    say!("{:<36}{:>36}", rfc3339(start_ms), rfc3339(end_ms));
}

fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// Smallest and largest finite value.
fn bounds(points: &Points) -> Option<(f64, f64)> {
    let finite = points.iter().map(|(_, value, _)| *value).filter(|value| value.is_finite());
    finite.map(|value| (value, value)).reduce(|(min, max), (value, _)| (min.min(value), max.max(value)))
}

/// One line of bars: the mean of each column's points between the series' own bounds; a gap stays blank.
fn chart(points: &Points, start_s: f64, end_s: f64) -> String {
    let (min, max) = bounds(points).unwrap_or_default();
    let mut columns = vec![(0.0, 0u32); CHART_WIDTH];
    for (at, value, _) in points.iter().filter(|(_, value, _)| value.is_finite()) {
        let share = (at - start_s) / (end_s - start_s).max(f64::MIN_POSITIVE);
        let column = ((share * CHART_WIDTH as f64) as usize).min(CHART_WIDTH - 1);
        columns[column] = (columns[column].0 + value, columns[column].1 + 1);
    }
    let bar = |(sum, count): (f64, u32)| {
        if count == 0 {
            return ' ';
        }
        let share = if max > min { (sum / f64::from(count) - min) / (max - min) } else { 0.0 };
        BARS[((share * 7.0).round() as usize).min(7)]
    };
    columns.into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use serde_json::json;

    #[test]
    fn answers_become_named_series_and_bars() {
        let answer = json!({"data": {"result": [{"metric": {"__name__": "up", "b": "2", "a": "1"}, "values": [[0, "0"], [50, "7"], [99, "+Inf"]]}]}});
        let series = series_of(&answer);
        assert_eq!(series[0].0, "up{a=\"1\", b=\"2\"}");
        assert_eq!(series[0].1.len(), 3);
        let bars = chart(&series[0].1, 0.0, 100.0);
        assert_eq!(bars.chars().next(), Some('▁'));
        assert_eq!(bars.chars().nth(CHART_WIDTH / 2), Some('█'));
        assert_eq!(bars.chars().count(), CHART_WIDTH);
        assert_eq!(bounds(&series[0].1), Some((0.0, 7.0)));
        assert_eq!(bounds(&vec![(0.0, f64::NAN, "NaN".into()), (1.0, f64::INFINITY, "+Inf".into())]), None);
    }

    #[test]
    fn a_refused_query_ends_as_documented() {
        let code = |status: u16| refused(StatusCode::from_u16(status).expect("a status"), &json!({"errorType": "x", "error": "y"})).exit;
        assert_eq!([400, 401, 403, 422].map(code), [Exit::Usage; 4]);
        assert_eq!([500, 503].map(code), [Exit::Unavailable; 2]);
    }
}
