//! Bench `import`: points per CPU-second of a whole server that takes remote write, fsync on, until a forced flush is done and it is quiet again.
//!
//! In: bodies shaped as `rw_load.py`'s live, fleet and month, encoded beforehand, sent over one connection with the backfill key into past windows.
//! Builds and seals are off; the CPU is the server's own, user and system, from /proc. Each shape gets a fresh server.

pub(crate) mod body;
mod http;
mod server;

use std::path::Path;

use tailors_model::Window;

use crate::Outcome;
use crate::report::Row;
use crate::timing::{now_s, sleep_ms, time};
use body::Shape;
use http::Connection;
use server::Server;

const WRITE_HEADERS: &str =
    "content-type: application/x-protobuf\r\ncontent-encoding: snappy\r\nx-prometheus-remote-write-version: 0.1.0\r\n";
/// A second is quiet when the server takes less CPU than this in it.
const QUIET_CPU_S: f64 = 0.03;
/// Most seconds to wait for quiet ones.
const QUIET_WAIT_S_MAX: usize = 60;
/// VictoriaMetrics' and Prometheus' recorded rates, points per CPU-second.
const RECORDED: [(Shape, f64, f64); 3] = [(Shape::Live, 1.39e6, 0.41e6), (Shape::Fleet, 2.59e6, 1.38e6), (Shape::Month, 4.09e6, 2.02e6)];

/// All rows. Quick: fewer bodies and three quiet seconds instead of ten.
pub(crate) fn run(binary: Option<&Path>, quick: bool) -> Outcome<Vec<Row>> {
    let binary = binary.map_or_else(server::beside_us, |path| Ok(path.to_owned()))?;
    let mut rows = Vec::new();
    for (shape, victoria, prometheus) in RECORDED {
        measure(
            &binary,
            shape,
            quick,
            |row| row.reach(victoria / 1e6).recorded("VictoriaMetrics", victoria / 1e6).recorded("Prometheus", prometheus / 1e6),
            &mut rows,
        )?;
    }
    Ok(rows)
}

fn measure(binary: &Path, shape: Shape, quick: bool, beside: impl Fn(Row) -> Row, rows: &mut Vec<Row>) -> Outcome<()> {
    let bodies = match (shape, quick) {
        (Shape::Live, false) => 500,
        (Shape::Live, true) => 150,
        (_, false) => 1_000,
        (_, true) => 300,
    };
    // All of it ends well before now: a live server's future limit does not matter.
    let start_s = now_s() - i64::from(shape.body_s()) * bodies as i64 - 4 * 3_600;
    let requests = body::requests(shape, bodies, start_s);
    let points: usize = requests.iter().map(body::Request::points).sum();
    let times: Vec<(i64, usize)> =
        requests.iter().flat_map(|request| request.times_ms.iter().map(|time| (*time, request.series.len()))).collect();
    let bodies = requests.iter().map(|request| body::snappy(&request.remote_write())).collect::<Outcome<Vec<_>>>()?;
    drop(requests);
    let sent: usize = bodies.iter().map(Vec::len).sum();
    let server = Server::start(binary)?;
    let mut connection = Connection::open(&server.client.url)?;
    until_quiet(&server, 1)?;
    let before = server.cpu_s()?;
    let (result, wall_s) = time(|| send(&mut connection, &server.client.backfill_key, &bodies));
    result?;
    let accepted = server.cpu_s()? - before;
    admin(&mut connection, &server.client.admin_key, "flush", &[])?;
    until_quiet(&server, if quick { 3 } else { 10 })?;
    let used = server.cpu_s()? - before;
    let (name, millions) = (shape.name(), points as f64 / 1e6);
    rows.push(beside(Row::higher(format!("{name}: points per CPU-second"), millions / used, "M")));
    rows.push(Row::higher(format!("{name}: the same up to the last 2xx"), millions / accepted.max(0.01), "M"));
    rows.push(Row::higher(format!("{name}: points per second of wall time, one connection"), millions / wall_s, "M"));
    let raw = server.disk_bytes("store", ".traw") as f64;
    rows.push(
        Row::lower(format!("{name}: raw files"), raw / points as f64, "B/point").rival("request, snappy", sent as f64 / points as f64),
    );
    let window = Window::of_ms(times[0].0);
    let in_window: usize = times.iter().filter(|(time, _)| Window::of_ms(*time) == window).map(|(_, points)| points).sum();
    let before = server.cpu_s()?;
    let request = format!("{{\"window_ms\":{}}}", window.start_ms());
    for step in ["seal", "build"] {
        admin(&mut connection, &server.client.admin_key, step, request.as_bytes())?;
    }
    let building = server.cpu_s()? - before;
    rows.push(Row::higher(
        format!("{name}: build by hand afterwards, points per CPU-second"),
        in_window as f64 / 1e6 / building.max(0.01),
        "M",
    ));
    Ok(())
}

fn admin(connection: &mut Connection, key: &str, what: &str, body: &[u8]) -> Outcome<()> {
    let (status, text) = connection.post(&format!("/api/admin/v1/{what}"), key, "content-type: application/json\r\n", body)?;
    if status == 200 { Ok(()) } else { Err(format!("{what}: {status} {text}").into()) }
}

fn send(connection: &mut Connection, key: &str, bodies: &[Vec<u8>]) -> Outcome<()> {
    for body in bodies {
        let (status, text) = connection.post("/api/v1/write", key, WRITE_HEADERS, body)?;
        if status / 100 != 2 {
            return Err(format!("write: {status} {text}").into());
        }
    }
    Ok(())
}

fn until_quiet(server: &Server, seconds: usize) -> Outcome<()> {
    let mut quiet = 0;
    for _ in 0..QUIET_WAIT_S_MAX {
        let mark = server.cpu_s()?;
        sleep_ms(1_000);
        quiet = if server.cpu_s()? - mark < QUIET_CPU_S { quiet + 1 } else { 0 };
        if quiet >= seconds {
            return Ok(());
        }
    }
    Err(format!("the server was not quiet for {seconds} s within {QUIET_WAIT_S_MAX} s").into())
}
