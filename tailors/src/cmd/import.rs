//! `tailors import`: a truth file sent by remote write, in time order, riding out a restart of the server.
//!
//! The shift of times is kept in `DIR/imports/{hash of the file}`, so that running it again sends the same points (P4 removes the doubles) and
//! `verify` knows what was sent. It is kept before the first point is sent (a kill must not make the next run shift anew) and taken back when it is
//! certain that none was stored.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use sha2::{Digest, Sha256};
use tailors_model::Window;
use tailors_model::window::WINDOW_MS;

use super::progress;
use crate::client::Client;
use crate::datadir::DataDir;
use crate::exit::{Exit, Failure};
use crate::time::rfc3339;
use crate::truth::{self, Identity, TruthPoint};

/// Points per request: one body stays far below every limit.
const REQUEST_POINTS: usize = 20_000;

/// What to import and how.
pub(crate) struct Import<'a> {
    /// CSV (plain or zstd) or `.rw`.
    pub(crate) file: &'a Path,
    /// First second of the file is sent as this time.
    pub(crate) at_ms: Option<i64>,
    /// Points per second; none for as fast as the server takes them.
    pub(crate) rate: Option<u64>,
    /// Now, Unix milliseconds.
    pub(crate) now_ms: i64,
}

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Earliest point, Unix milliseconds.
    pub(crate) first_ms: i64,
    /// Latest point, Unix milliseconds.
    pub(crate) last_ms: i64,
    /// Points.
    pub(crate) points: u64,
}

/// What became of the points.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sent {
    /// Points sent.
    pub(crate) sent: u64,
    /// Points that the server said are stored.
    pub(crate) accepted: u64,
    /// Points that it refused while it stored others of their requests.
    pub(crate) refused: u64,
}

/// SHA-256 of a file, hex.
pub(crate) fn file_hash(path: &Path) -> Result<String, Failure> {
    let mut file = File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..n]);
    }
}

/// First and last time of a file.
pub(crate) fn extent(file: &Path) -> Result<Extent, Failure> {
    let mut extent = Extent { first_ms: i64::MAX, last_ms: i64::MIN, points: 0 };
    truth::read(file, &mut Vec::new(), &mut |point| {
        extent.first_ms = extent.first_ms.min(point.time_ms);
        extent.last_ms = extent.last_ms.max(point.time_ms);
        extent.points += 1;
        Ok(())
    })?;
    if extent.points == 0 { Err(Failure::usage(format!("{}: holds no points", file.display()))) } else { Ok(extent) }
}

/// Shift that a time given with `--at` means: the file's first second becomes that time.
pub(crate) fn shift_to(extent: Extent, at_ms: i64) -> i64 {
    at_ms - extent.first_ms.div_euclid(1_000) * 1_000
}

/// Shift when none is given: last second = now if the file then lies in one window with it, else the second before that window began.
fn default_shift(extent: Extent, now_ms: i64) -> i64 {
    let second = |ms: i64| ms.div_euclid(1_000) * 1_000;
    let last = second(extent.last_ms);
    let to_now = second(now_ms) - last;
    if Window::of_ms(extent.first_ms + to_now) == Window::of_ms(now_ms) {
        return to_now;
    }
    let span = extent.last_ms - extent.first_ms;
    let window = Window::of_ms(now_ms - if span < WINDOW_MS { 0 } else { span });
    window.start_ms() - 1_000 - last
}

/// The shift kept from an earlier import of this file.
pub(crate) fn kept_shift(dir: &DataDir, hash: &str) -> Option<i64> {
    std::fs::read_to_string(dir.import_state(hash)).ok()?.trim().parse().ok()
}

/// Sends the file.
pub(crate) async fn run(dir: Option<&DataDir>, client: &Client, import: &Import<'_>) -> Result<Sent, Failure> {
    let extent = extent(import.file)?;
    let hash = file_hash(import.file)?;
    let kept = dir.and_then(|dir| kept_shift(dir, &hash));
    let shift_ms = match import.at_ms {
        Some(at_ms) => shift_to(extent, at_ms),
        None => kept.unwrap_or_else(|| default_shift(extent, import.now_ms)),
    };
    if let Some(dir) = dir {
        dir.keep_shift(&hash, Some(shift_ms))?;
    }
    let (first, last) = (rfc3339(extent.first_ms + shift_ms), rfc3339(extent.last_ms + shift_ms));
    eprintln!("importing {} points as {first} to {last}", extent.points);
    let mut sent = Sent::default();
    let ended = send_all(client, import, (extent, shift_ms), &mut sent).await;
    // Without an answer to the first request nobody knows what of it is stored, unless it never left.
    let nothing_stored = |failure: &Failure| sent.accepted == 0 && (failure.exit != Exit::Unavailable || !client.was_reached());
    if let (Some(dir), Some(_)) = (dir, ended.as_ref().err().filter(|failure| nothing_stored(failure))) {
        dir.keep_shift(&hash, kept)?;
    }
    ended.map(|()| sent)
}

async fn send_all(client: &Client, import: &Import<'_>, (extent, shift_ms): (Extent, i64), sent: &mut Sent) -> Result<(), Failure> {
    let (bodies_in, mut bodies) = tokio::sync::mpsc::channel(4);
    let file = import.file.to_owned();
    let reader = tokio::task::spawn_blocking(move || read_bodies(&file, shift_ms, &bodies_in));
    let bar = progress::points("import", extent.points);
    let started = tokio::time::Instant::now();
    while let Some((body, points)) = bodies.recv().await {
        send(client, body, points, sent).await?;
        bar.inc(points);
        if let Some(rate) = import.rate.filter(|rate| *rate > 0) {
            tokio::time::sleep_until(started + Duration::from_millis(sent.sent * 1_000 / rate)).await;
        }
    }
    reader.await.map_err(|error| Failure::unavailable(error.to_string()))??;
    bar.finish_and_clear();
    Ok(())
}

async fn send(client: &Client, body: Bytes, points: u64, sent: &mut Sent) -> Result<(), Failure> {
    let headers =
        [("content-type", "application/x-protobuf"), ("content-encoding", "snappy"), ("x-prometheus-remote-write-version", "0.1.0")];
    let answer = client.send(Method::POST, "/api/v1/write", &headers, body).await;
    let answer = answer
        .map_err(|failure| Failure { message: format!("after {} accepted points: {}", sent.accepted, failure.message), ..failure })?;
    sent.sent += points;
    let stored = match answer.headers.get(tailors_intake::SAMPLES_WRITTEN).and_then(|text| text.to_str().ok()?.parse().ok()) {
        _ if answer.status.is_success() => points,
        Some(stored) if stored > 0 => stored,
        _ => {
            return Err(Failure::no(format!(
                "after {} accepted points the server refuses a request with {}: {}",
                sent.accepted,
                answer.status,
                answer.text()
            )));
        }
    };
    if stored < points {
        eprintln!("tailors: {stored} of the {points} points of a request are stored: {}", answer.text());
    }
    sent.accepted += stored;
    sent.refused += points.saturating_sub(stored);
    Ok(())
}

type Body = (Bytes, u64);

fn read_bodies(file: &Path, shift_ms: i64, out: &tokio::sync::mpsc::Sender<Body>) -> Result<(), Failure> {
    let mut identities = Vec::new();
    // The reader grows `identities` while points arrive, so a request is encoded when the next one begins.
    let mut pending: Vec<TruthPoint> = Vec::with_capacity(REQUEST_POINTS);
    let mut requests: Vec<Vec<TruthPoint>> = Vec::new();
    truth::read_with(file, &mut identities, &mut |point, identities| {
        pending.push(TruthPoint { time_ms: point.time_ms + shift_ms, ..point });
        if pending.len() == REQUEST_POINTS {
            requests.push(std::mem::take(&mut pending));
        }
        flush(&mut requests, identities, out)
    })?;
    requests.push(pending);
    flush(&mut requests, &identities, out)
}

fn flush(requests: &mut Vec<Vec<TruthPoint>>, identities: &[Identity], out: &tokio::sync::mpsc::Sender<Body>) -> Result<(), Failure> {
    for request in requests.drain(..).filter(|request| !request.is_empty()) {
        let points = request.len() as u64;
        let body = crate::remote_write::encode(&request, identities)?;
        // A closed channel means the sender failed; its own error is the one to show.
        if out.blocking_send((body, points)).is_err() {
            return Err(Failure::no("stopped: sending failed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts() {
        let extent = Extent { first_ms: 1_000_500, last_ms: 1_100_500, points: 1 };
        assert_eq!(shift_to(extent, 5_000_000), 4_000_000);
        let now_ms = 100 * WINDOW_MS + 3_600_000;
        assert_eq!(extent.last_ms + default_shift(extent, now_ms), now_ms + 500);
        let early_ms = 100 * WINDOW_MS + 60_000;
        assert_eq!(extent.last_ms + default_shift(extent, early_ms), 100 * WINDOW_MS - 1_000 + 500);
    }
}
