//! Bench `import`: points per CPU-second of a whole server that takes remote write, fsync on, until a forced flush is done and it is quiet again.
//!
//! In: bodies shaped as `rw_load.py`'s live, fleet and month, encoded beforehand, sent over one connection into past windows (ours: with the backfill
//! key). Builds are off and measured by themselves afterwards; the CPU is the server's own, user and system, from /proc. Each shape gets a fresh
//! server of each contender; VictoriaMetrics and Prometheus take the same bodies where they are installed (`cargo xtask rivals`).

pub(crate) mod body;
mod http;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tailors_model::Window;

use crate::Outcome;
use crate::report::Row;
use crate::timing::{now_s, sleep_ms, time};
use body::Shape;
use http::Connection;
use server::{Contender, Server};

const WRITE_HEADERS: &str =
    "content-type: application/x-protobuf\r\ncontent-encoding: snappy\r\nx-prometheus-remote-write-version: 0.1.0\r\n";
const JSON_HEADER: &str = "content-type: application/json\r\n";
/// A second is quiet when the server takes less CPU than this in it.
const QUIET_CPU_S: f64 = 0.03;
/// Quiet seconds that end a measurement; more than the five after which VictoriaMetrics flushes.
const QUIET_S: usize = 10;
const QUIET_S_QUICK: usize = 6;
/// Most seconds to wait for quiet ones.
const QUIET_WAIT_S_MAX: usize = 90;
const CONTENDERS: [Contender; 3] = [Contender::Tailors, Contender::Victoria, Contender::Prometheus];

/// VictoriaMetrics' or Prometheus' recorded rate, million points per CPU-second.
fn recorded(shape: Shape, contender: Contender) -> Option<f64> {
    let (victoria, prometheus) = match shape {
        Shape::Live => (1.39, 0.41),
        Shape::Fleet => (2.59, 1.38),
        Shape::Month => (4.09, 2.02),
        Shape::Ten => return None,
    };
    Some(if contender == Contender::Victoria { victoria } else { prometheus })
}

/// What is sent of a shape.
struct Load {
    shape: Shape,
    bodies: Vec<Vec<u8>>,
    points: u64,
    /// The window with the most points, and how many.
    fullest: (Window, u64),
}

impl Load {
    fn of(shape: Shape, quick: bool) -> Outcome<Self> {
        let count = match (shape, quick) {
            (Shape::Live, false) => 500,
            (Shape::Live, true) => 60,
            (_, false) => 1_000,
            (_, true) => 200,
        };
        // All of it ends well before now: a live server's future limit does not matter.
        let start_s = now_s() - i64::from(shape.body_s()) * count as i64 - 4 * 3_600;
        let requests = body::requests(shape, count, start_s);
        let mut windows: BTreeMap<Window, u64> = BTreeMap::new();
        for request in &requests {
            let series = (request.points() / request.times_ms.len()) as u64;
            request.times_ms.iter().for_each(|time_ms| *windows.entry(Window::of_ms(*time_ms)).or_default() += series);
        }
        let fullest = windows.into_iter().max_by_key(|(_, points)| *points).ok_or("no points")?;
        let points = requests.iter().map(|request| request.points() as u64).sum();
        let bodies = requests.iter().map(|request| body::snappy(&request.remote_write())).collect::<Outcome<_>>()?;
        Ok(Self { shape, bodies, points, fullest })
    }

    fn millions(&self) -> f64 {
        self.points as f64 / 1e6
    }

    fn per_point(&self, bytes: f64) -> f64 {
        bytes / self.points as f64
    }
}

/// What came of a load on a server.
struct Measured {
    contender: Contender,
    /// CPU seconds up to quiet, and up to the last 2xx.
    used_s: f64,
    accepted_s: f64,
    wall_s: f64,
    /// Ours alone.
    own: Option<Own>,
}

/// What only our own server tells.
struct Own {
    log_bytes: f64,
    /// CPU seconds of a build by hand; none where time is short.
    build_s: Option<f64>,
}

/// All rows. Quick: fewer bodies, all servers are started and grow quiet at the same time, fewer quiet seconds, no build.
pub(crate) fn run(ours: Option<&Path>, quick: bool) -> Outcome<Vec<Row>> {
    let Some(binary) = Contender::Tailors.binary(ours) else {
        return Err(
            "no `tailors` to measure; build it with the same profile (cargo build --release -p tailors) or give --server PATH".into()
        );
    };
    let mut binaries = vec![(Contender::Tailors, binary)];
    binaries.extend(CONTENDERS[1..].iter().filter_map(|rival| Some((*rival, rival.binary(None)?))));
    let loads = Shape::OF_RW_LOAD.into_iter().map(|shape| Load::of(shape, quick)).collect::<Outcome<Vec<_>>>()?;
    let runs: Vec<(&Load, &(Contender, PathBuf))> = loads.iter().flat_map(|load| binaries.iter().map(move |one| (load, one))).collect();
    let mut measured: Vec<(Shape, Measured)> = Vec::new();
    let together = if quick { runs.len() } else { 1 };
    for runs in runs.chunks(together) {
        measure(runs, quick, &mut measured)?;
    }
    let mut rows = Vec::new();
    for load in &loads {
        let of_shape: Vec<&Measured> = measured.iter().filter(|(shape, _)| *shape == load.shape).map(|(_, measured)| measured).collect();
        push_rows(load, &of_shape, &mut rows);
    }
    Ok(rows)
}

/// Starts a server per run, loads one after the other, waits until all are quiet.
fn measure(runs: &[(&Load, &(Contender, PathBuf))], quick: bool, out: &mut Vec<(Shape, Measured)>) -> Outcome<()> {
    let servers = runs.iter().map(|(_, (contender, binary))| Server::start(*contender, binary)).collect::<Outcome<Vec<_>>>()?;
    until_quiet(&servers, 1)?;
    let mut sent = Vec::new();
    for ((load, (contender, _)), server) in runs.iter().zip(&servers) {
        let mut connection = Connection::open(&server.url)?;
        let before_s = server.cpu_s()?;
        let (result, wall_s) = time(|| send(&mut connection, server, &load.bodies));
        result?;
        sent.push((before_s, server.cpu_s()? - before_s, wall_s));
        if *contender == Contender::Tailors {
            admin(server, "flush", b"")?;
        }
    }
    until_quiet(&servers, if quick { QUIET_S_QUICK } else { QUIET_S })?;
    for (((load, (contender, _)), server), (before_s, accepted_s, wall_s)) in runs.iter().zip(&servers).zip(sent) {
        let used_s = server.cpu_s()? - before_s;
        let own = if *contender == Contender::Tailors { Some(own(server, load, quick)?) } else { None };
        out.push((load.shape, Measured { contender: *contender, used_s, accepted_s, wall_s, own }));
    }
    Ok(())
}

fn push_rows(load: &Load, measured: &[&Measured], rows: &mut Vec<Row>) {
    let name = load.shape.name();
    let rate = |measured: &Measured| load.millions() / measured.used_s.max(0.01);
    let of = |contender: Contender| measured.iter().find(|measured| measured.contender == contender);
    let Some(ours) = of(Contender::Tailors) else { return };
    let beside = |mut row: Row, value: &dyn Fn(&Measured) -> f64| {
        for rival in &CONTENDERS[1..] {
            if let Some(measured) = of(*rival) {
                row = row.rival(rival.name(), value(measured));
            }
        }
        row
    };
    let mut row = beside(Row::higher(name, rate(ours), "M points/CPU-s"), &rate);
    for rival in CONTENDERS[1..].iter().filter(|rival| of(**rival).is_none()) {
        if let Some(recorded) = recorded(load.shape, *rival) {
            row = row.recorded(rival.name(), recorded);
        }
    }
    if let Some(reach) = of(Contender::Victoria).map(|victoria| rate(victoria)).or(recorded(load.shape, Contender::Victoria)) {
        row = row.reach(reach);
    }
    rows.push(row);
    let accepted = |measured: &Measured| load.millions() / measured.accepted_s.max(0.01);
    rows.push(beside(Row::higher(format!("{name}: up to the last 2xx"), accepted(ours), "M points/CPU-s"), &accepted));
    let wall = |measured: &Measured| load.millions() / measured.wall_s;
    rows.push(beside(Row::higher(format!("{name}: one connection"), wall(ours), "M points/s"), &wall));
    if let Some(own) = &ours.own {
        let sent = load.per_point(load.bodies.iter().map(|body| body.len() as f64).sum());
        let log = Row::lower(format!("{name}: in the log"), load.per_point(own.log_bytes), "B/point");
        rows.push(log.reach(sent).rival("request, snappy", sent));
        if let Some(build_s) = own.build_s {
            let built = load.fullest.1 as f64 / 1e6 / build_s.max(0.01);
            rows.push(Row::higher(format!("{name}: seal and build by hand afterwards"), built, "M points/CPU-s"));
        }
    }
}

/// Log bytes, and the CPU that a build takes.
fn own(server: &Server, load: &Load, quick: bool) -> Outcome<Own> {
    let (_, metrics) = Connection::open(&server.url)?.request("GET", "/metrics", "", b"")?;
    let bytes = metrics.lines().find_map(|line| line.strip_prefix("tailors_log_appended_bytes_total "));
    let log_bytes = bytes.ok_or("no tailors_log_appended_bytes_total in /metrics")?.trim().parse()?;
    if quick {
        return Ok(Own { log_bytes, build_s: None });
    }
    let before_s = server.cpu_s()?;
    let request = format!("{{\"window_ms\":{}}}", load.fullest.0.start_ms());
    admin(server, "seal", request.as_bytes())?;
    admin(server, "build", request.as_bytes())?;
    Ok(Own { log_bytes, build_s: Some(server.cpu_s()? - before_s) })
}

fn admin(server: &Server, what: &str, body: &[u8]) -> Outcome<()> {
    let headers = format!("{}{JSON_HEADER}", server.admin_key);
    let (status, text) = Connection::open(&server.url)?.request("POST", &format!("/api/admin/v1/{what}"), &headers, body)?;
    if status == 200 { Ok(()) } else { Err(format!("{what}: {status} {text}").into()) }
}

fn send(connection: &mut Connection, server: &Server, bodies: &[Vec<u8>]) -> Outcome<()> {
    let headers = format!("{}{WRITE_HEADERS}", server.write_key);
    for body in bodies {
        let (status, text) = connection.request("POST", "/api/v1/write", &headers, body)?;
        if status / 100 != 2 {
            return Err(format!("{}: {status} {text}", server.url).into());
        }
    }
    Ok(())
}

/// Waits until each of them took no CPU to speak of for some seconds running.
fn until_quiet(servers: &[Server], seconds: usize) -> Outcome<()> {
    let now = || servers.iter().map(Server::cpu_s).collect::<Outcome<Vec<_>>>();
    let (mut quiet, mut before) = (vec![0; servers.len()], now()?);
    for _ in 0..QUIET_WAIT_S_MAX {
        sleep_ms(1_000);
        let after = now()?;
        for ((quiet, before), after) in quiet.iter_mut().zip(&before).zip(&after) {
            let is_done = *quiet >= seconds;
            *quiet = if is_done || after - before < QUIET_CPU_S { *quiet + 1 } else { 0 };
        }
        before = after;
        if quiet.iter().all(|quiet| *quiet >= seconds) {
            return Ok(());
        }
    }
    Err(format!("a server was not quiet for {seconds} s within {QUIET_WAIT_S_MAX} s").into())
}
