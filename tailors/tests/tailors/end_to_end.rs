//! The whole path of a point through the real binary: import, seal, build, query and verify, with kills, bad input and a full disk on the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{
    Background, CLOSED_WINDOW, CLOSED_WINDOW_MS, EXACT, OPEN_WINDOW, Server, next, run, series, wait_until, write_request,
};
use serde_json::{Value, json};

/// Series of `hand_made`.
const SERIES: u32 = 6;
/// Seconds of `hand_made`.
const SECONDS: i64 = 600;
/// First second of `hand_made`, in the closed window by `--at`.
const AT: &str = "2026-11-20T05:00:00Z";
/// Unix seconds of `AT`.
const AT_S: i64 = CLOSED_WINDOW_MS / 1_000 + 3_600;
/// Unix milliseconds of `OPEN_WINDOW`.
const OPEN_MS: i64 = CLOSED_WINDOW_MS + 12 * 3_600_000;
/// The same in the window that is still open.
const AT_OPEN: &str = "2026-11-20T17:30:00Z";

/// Value of a series in a second: counters with resets, full mantissas, constants, and the corners of a double.
fn value(number: u32, second: i64) -> f64 {
    match number {
        0 => (second * 7 % 2_000) as f64,
        1 => (second as f64 * 0.37).sin() * 1e3,
        2 => 42.0,
        3 => (second % 100) as f64 / 100.0,
        4 => [0.0, -0.0, f64::MIN_POSITIVE / 4.0, f64::MAX, f64::INFINITY, f64::NEG_INFINITY][(second % 6) as usize],
        _ => 1e15 + second as f64,
    }
}

/// Rows of a truth file, in time order.
fn hand_made() -> Vec<String> {
    let mut rows = Vec::new();
    for second in 0..SECONDS {
        for number in 0..SERIES {
            rows.push(format!("{},e2e.metric,\"host:h{number},role:a,role:b,bare\",{:?}", 1_700_000_000 + second, value(number, second)));
        }
    }
    rows
}

fn write_csv(path: &Path, rows: &[String]) {
    std::fs::write(path, format!("timestamp,metric,tags,value\n{}\n", rows.join("\n"))).expect("writes");
}

/// What Prometheus' rate gives for points each second in (at - 60 s, at].
fn rate_1m(number: u32, at: i64) -> f64 {
    let points: Vec<f64> = (at - 59..=at).map(|second| value(number, second)).collect();
    let resets: f64 = points.windows(2).filter(|two| two[1] < two[0]).map(|two| two[0]).sum();
    let increase = points[59] - points[0] + resets;
    // 59 s are sampled; the first point lies 1 s after the start of the range: within 1.1 steps, so the range is extrapolated to, unless zero comes first.
    let to_zero = 59.0 * (points[0] / increase);
    increase * ((59.0 + 1f64.min(to_zero)) / 59.0) / 60.0
}

#[test]
fn a_point_travels_the_whole_way() {
    let temp = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&temp.path().join("data"), &["--set", "build.enabled=false"]);
    let csv = temp.path().join("points.csv");
    let rows = hand_made();
    write_csv(&csv, &rows);
    let file = csv.to_str().expect("UTF-8");
    let total = rows.len() as u64;
    let at = |at: &'static str| server.with_data(&["import", file, "--at", at]).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let import = |time: &'static str| run(&at(time).iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let verify = |truth: &str, time: &str| server.run(&["verify", "--truth", truth, "--at", time]);

    // A window that is over, and the one that runs.
    assert_eq!(import(AT).trim(), format!("sent {total} points, accepted {total}"));
    assert_eq!(import(AT_OPEN).trim(), format!("sent {total} points, accepted {total}"));
    for (window, time) in [(CLOSED_WINDOW, AT), (OPEN_WINDOW, AT_OPEN)] {
        server.seal_and_build(window);
        let joined = verify(file, time);
        assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
        let row = server.status_of(window);
        for (field, expected) in [("points", json!(total)), ("late", json!(0)), ("corrupt", json!(0)), ("state", json!("built"))] {
            assert_eq!(row[field], expected, "{field} of {row}");
        }
        assert!(row["bytes_per_point"].as_f64().is_some_and(|size| size > 0.0 && size < 48.0), "{row}");
        assert!(row["seal"]["kind"].is_string() && row["generation"].is_u64() && row["shard"].is_string(), "{row}");
        assert_eq!(row["bytes"].as_f64().expect("bytes") / total as f64, row["bytes_per_point"].as_f64().expect("size"));
    }
    assert_eq!(server.status_of(CLOSED_WINDOW)["seal"]["kind"], "closed");
    assert_eq!(server.status_of(CLOSED_WINDOW)["max_timestamp_ms"], (AT_S + SECONDS - 1) * 1_000);
    answers_equal_the_file(&server);
    planted_differences_are_found(&server, temp.path(), &rows);

    // Sent again: a late seal, a new generation, the same points.
    import(AT);
    server.seal_and_build(CLOSED_WINDOW);
    let joined = verify(file, AT);
    assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
    let row = server.status_of(CLOSED_WINDOW);
    assert_eq!((&row["points"], &row["duplicates"], &row["late"]), (&json!(total), &json!(total), &json!(total)), "{row}");
    assert_eq!((&row["seal"]["kind"], &row["generation"]), (&json!("late"), &json!(2)), "{row}");
    answers_equal_the_file(&server);
    a_refused_import_changes_no_kept_shift(&server, file, total);
    every_file_can_be_looked_into_and_damage_is_seen(&server, temp.path());
}

fn a_refused_import_changes_no_kept_shift(server: &Server, file: &str, total: u64) {
    // The last import was sent as AT. Older than ten days is refused whole without the backfill key.
    let refused = server.run(&["import", file, "--at", "2026-01-01T00:00:00Z"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("after 0 accepted points") && refused.err.contains("none of the request is stored"), "{refused:?}");
    let joined = server.run(&["verify", "--truth", file]);
    assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
    assert!(joined.out.contains(&format!("joined {total} points")), "{joined:?}");
}

/// All files below a directory.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    entries.into_iter().flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn every_file_can_be_looked_into_and_damage_is_seen(server: &Server, temp: &Path) {
    let inspect = |path: &Path| run(&["inspect", path.to_str().expect("UTF-8")]);
    let mut kinds = BTreeMap::new();
    let mut files = files_below(&server.dir.join("store"));
    files.extend(files_below(&server.dir.join("log")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "tlog")));
    for path in &files {
        let shown = inspect(path);
        assert_eq!(shown.code, 0, "{}: {shown:?}", path.display());
        let kind = shown.out.split([',', ' ', '\n']).next().unwrap_or_default().to_owned();
        kinds.entry(kind).or_insert_with(|| path.clone());
    }
    let mut seed = 0x1a2b;
    for (kind, path) in ["chunk", "raw", "log", "{"].map(|kind| (kind, kinds.get(kind).unwrap_or_else(|| panic!("no {kind} in {kinds:?}"))))
    {
        let bytes = std::fs::read(path).expect("reads");
        // The rest of a segment is allocated space.
        let used = bytes.iter().rposition(|byte| *byte != 0).expect("not empty") as u64;
        for round in 0..4 {
            let mut flipped = bytes.clone();
            // Frames of a segment that no later marker vouches for are a torn tail, no damage.
            let span = if kind == "log" { used / 2 } else { used };
            flipped[(next(&mut seed) % span) as usize] ^= 1 << (next(&mut seed) % 8);
            // At the same place in another directory: checksums cover keys.
            let copy = temp.join(format!("flipped-{round}")).join(path.strip_prefix(&server.dir).expect("below"));
            std::fs::create_dir_all(copy.parent().expect("a directory")).expect("makes");
            std::fs::write(&copy, &flipped).expect("writes");
            let shown = inspect(&copy);
            assert_eq!((shown.code, shown.out.as_str()), (3, ""), "{kind}: {shown:?}");
        }
        let renamed = temp.join("renamed");
        std::fs::write(&renamed, &bytes).expect("writes");
        let (shown, expected) = (inspect(&renamed), if kind == "{" { 3 } else { 0 });
        assert_eq!(shown.code, expected, "{kind} under another name: {shown:?}");
    }
    let keys = inspect(&server.dir.join("client.json"));
    assert!(keys.code == 2 && !keys.err.contains("tlr_") && keys.out.is_empty(), "{keys:?}");
    for (name, bytes) in [("empty", &b""[..]), ("other.json", b"{\"a\":1}"), ("keys", b"{\"admin_key\":\"tlr_x\"}")] {
        std::fs::write(temp.join(name), bytes).expect("writes");
        let shown = inspect(&temp.join(name));
        assert!(shown.code == 3 && shown.out.is_empty(), "{name}: {shown:?}");
    }
}

fn answers_equal_the_file(server: &Server) {
    let end_s = AT_S + SECONDS - 1;
    let rows = server.query("e2e_metric[10m]", &end_s.to_string());
    assert_eq!(rows.len(), SERIES as usize);
    for row in rows {
        assert_eq!((&row["metric"]["role"], &row["metric"]["bare"]), (&json!("a,b"), &json!("true")));
        let number = row["metric"]["host"].as_str().and_then(|host| host[1..].parse().ok()).expect("a number");
        let points = row["values"].as_array().expect("values");
        assert_eq!(points.len(), SECONDS as usize);
        for (second, point) in (0..).zip(points) {
            assert_eq!(point[0].as_f64().expect("time"), (AT_S + second) as f64);
            let have: f64 = point[1].as_str().expect("text").parse().expect("a number");
            assert_eq!(have.to_bits(), value(number, second).to_bits(), "h{number} at {second}");
        }
    }
    for (number, second) in [(0, 59), (0, 290), (0, 599), (5, 300)] {
        let rows = server.query(&format!("rate(e2e_metric{{host=\"h{number}\"}}[1m])"), &(AT_S + second).to_string());
        let have: f64 = rows[0]["value"][1].as_str().expect("text").parse().expect("a number");
        let expected = rate_1m(number, second);
        assert!((have - expected).abs() <= expected.abs() * 1e-12, "rate of h{number} at {second}: {have}, not {expected}");
    }
    let (start, end) = (AT_S.to_string(), (AT_S + 9).to_string());
    let table = server.run(&["query", "e2e_metric{host=\"h2\"}", "--start", &start, "--end", &end, "--step", "1s", "--csv"]).ok();
    assert_eq!(table.lines().filter(|line| line.ends_with(",42")).count(), 10, "{table}");
}

fn planted_differences_are_found(server: &Server, temp: &Path, rows: &[String]) {
    let mut planted = rows.to_vec();
    let (head, text) = planted[601].rsplit_once(',').expect("a value");
    let bits = text.parse::<f64>().expect("a number").to_bits() + 1;
    planted[601] = format!("{head},{:?}", f64::from_bits(bits));
    for at in [1_800, 900, 333] {
        planted.remove(at);
    }
    planted.push("1700000100.5,e2e.metric,\"host:h1,role:a,role:b,bare\",1".to_owned());
    planted.push("1700000100,e2e.metric,\"host:nobody\",1".to_owned());
    let truth = temp.join("planted.csv");
    write_csv(&truth, &planted);
    let truth = truth.to_str().expect("UTF-8");
    let joined = server.run(&["verify", "--truth", truth, "--at", AT]);
    assert_eq!((joined.code, joined.last_line()), (1, "missing 2, extra 3, different 1, stored twice 0"), "{joined:?}");
    let joined = server.run(&["verify", "--truth", truth, "--at", AT, "--json"]);
    let report: Value = serde_json::from_str(&joined.out).expect("JSON");
    assert_eq!((&report["missing"], &report["extra"], &report["different"]), (&json!(2), &json!(3), &json!(1)));
    assert_eq!(joined.code, 1);
}

#[test]
fn kills_lose_nothing_that_was_acknowledged() {
    let temp = tempfile::tempdir().expect("temp dir");
    let mut server = Server::start(&temp.path().join("data"), &["--set", "capture.flush_after_s=1"]);
    let csv = temp.path().join("mix.csv.zst");
    let file = csv.to_str().expect("UTF-8");
    run(&["generate", "--class", "mix", "--seed", "7", "--series", "2000", "--seconds", "1000", "--start", "1700000000", "--out", file])
        .ok();
    let mut import = Background::start(&server.with_data(&["import", file, "--at", AT, "--rate", "20000"]));
    let mut seed = 0x5eed;
    let mut kills = 0;
    while kills < 5 && import.is_running() {
        std::thread::sleep(Duration::from_millis(200 + next(&mut seed) % 900));
        server.kill();
        server.restart();
        kills += 1;
    }
    assert!(kills >= 3, "only {kills} kills during the import");
    let sent = import.end();
    assert_eq!(sent.code, 0, "{sent:?}");
    // And while the window is built.
    server.run(&["seal", "--window", CLOSED_WINDOW]).ok();
    let build = Background::start(&server.with_data(&["build", "--window", CLOSED_WINDOW]));
    std::thread::sleep(Duration::from_millis(next(&mut seed) % 300));
    server.kill();
    server.restart();
    let built = build.end();
    assert_eq!(built.code, 0, "{built:?}");
    server.seal_and_build(CLOSED_WINDOW);
    let joined = server.run(&["verify", "--truth", file, "--at", AT]);
    assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
}

#[test]
fn points_become_visible_by_themselves_within_a_minute() {
    let temp = tempfile::tempdir().expect("temp dir");
    // All settings as they come: nobody seals, builds or flushes.
    let mut server = Server::start(&temp.path().join("data"), &[]);
    let open_ms = OPEN_MS + 7_000_000;
    let body = write_request(&[series("self.seen", "open", &[(open_ms, 1.5)]), series("self.seen", "past", &[(AT_S * 1_000, 2.5)])]);
    assert_eq!(server.write(&server.key, &body).status, 204);
    wait_until("both windows answer", || {
        server.query("{__name__=\"self.seen\"}", &(open_ms / 1_000).to_string()).len() == 1
            && server.query("{__name__=\"self.seen\"}", &AT_S.to_string()).len() == 1
    });
    for (window, kind) in [(OPEN_WINDOW, "provisional"), (CLOSED_WINDOW, "closed")] {
        let row = server.status_of(window);
        assert_eq!(
            (&row["seal"]["kind"], &row["generation"], &row["points"], &row["state"]),
            (&json!(kind), &json!(1), &json!(1), &json!("built"))
        );
    }
    let metrics = server.http("GET", "/metrics", &[], b"").text();
    let counter = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or_default();
    let (written, read) = (counter("tailors_capture_raw_bytes_total"), counter("tailors_build_raw_bytes_read_total"));
    assert!(written > 0.0 && read > 0.0 && read <= 3.0 * written, "builds read {read} of {written} raw bytes");
    let stopping = std::time::Instant::now();
    assert_eq!(server.stop(), 0);
    assert!(stopping.elapsed() < Duration::from_secs(8), "every role ends when it is told to, none is given up on");
}

#[test]
fn history_goes_in_and_sending_it_again_changes_nothing() {
    let temp = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&temp.path().join("data"), &["--set", "control.quiet_min_s=2", "--set", "capture.flush_after_s=2"]);
    // Two days, twelve windows, three weeks ago: too old for any key but the backfill one.
    let csv = temp.path().join("history.csv");
    let rows: Vec<String> = (0..5_760).map(|at| format!("{},history,host:h{},{:?}", at * 30, at % 4, value((at % 6) as u32, at))).collect();
    write_csv(&csv, &rows);
    let (file, at) = (csv.to_str().expect("UTF-8"), "2026-10-30T00:00:00Z");
    let built = || -> Option<Vec<Value>> {
        let status: Value = serde_json::from_str(&server.run(&["status", "--json"]).ok()).expect("JSON");
        let rows = status["windows"].as_array().expect("rows").clone();
        let done = |row: &Value| row["state"] == "built" && row["lag_s"] == 0;
        (rows.len() == 12 && rows.iter().all(done)).then_some(rows)
    };
    let mut raw_bytes_read = 0.0;
    for (round, kind) in [(1, "closed"), (2, "late")] {
        server.run(&["import", file, "--at", at, "--backfill"]).ok();
        wait_until("every window is built", || built().is_some_and(|rows| rows.iter().all(|row| row["seal"]["kind"] == kind)));
        let rows = built().expect("still built");
        for row in &rows {
            let seen = [&row["points"], &row["duplicates"], &row["generation"]];
            assert_eq!(seen, [&json!(480), &json!(480 * (round - 1)), &json!(round)], "{row}");
        }
        let joined = server.run(&["verify", "--truth", file, "--at", at]);
        assert_eq!((joined.code, joined.last_line()), (0, EXACT), "round {round}: {joined:?}");
        let metrics = server.http("GET", "/metrics", &[], b"").text();
        let counter = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).expect("a counter");
        let (written, read) = (counter("tailors_capture_raw_bytes_total"), counter("tailors_build_raw_bytes_read_total"));
        assert!(read > raw_bytes_read && read <= 3.0 * written, "builds read {read} of {written} raw bytes");
        raw_bytes_read = read;
    }
}

#[test]
fn bad_input_has_its_status_and_never_fails_the_good() {
    let temp = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&temp.path().join("data"), &["--set", "build.enabled=false"]);
    let at_ms = AT_S * 1_000;
    let good = write_request(&[series("good.first", "a", &[(at_ms, 1.5)])]);

    // Whole requests.
    let reply = server.write(&server.key, &good[..good.len() - 3]);
    assert_eq!(reply.status, 400);
    assert!(reply.text().starts_with("TLR-1001"), "{}", reply.text());
    let unknown = format!("tlr_{}_{}_{}", "0".repeat(12), "0".repeat(64), "0".repeat(8));
    for key in [unknown.as_str(), "nonsense"] {
        let reply = server.write(key, &good);
        assert_eq!((reply.status, &reply.text()[..8]), (401, "TLR-1102"));
    }
    let reply = server.http("POST", "/api/v1/write", &[], &good);
    assert_eq!((reply.status, &reply.text()[..8]), (401, "TLR-1101"));
    let reply =
        server.http("POST", "/api/v2/series", &[("dd-api-key", &unknown), ("content-type", "application/json")], b"{\"series\":[]}");
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("TLR-1102"), "{}", reply.text());
    let reader = server.run(&["key", "create", "--org", "1", "--scope", "query"]).ok();
    for key in [reader.trim(), server.admin_key.as_str()] {
        let reply = server.write(key, &good);
        assert_eq!((reply.status, &reply.text()[..8]), (403, "TLR-1103"));
    }
    let bearer = format!("Bearer {}", server.key);
    let reply = server.http("GET", "/api/admin/v1/status", &[("authorization", &bearer)], b"");
    assert!(reply.status == 403 && reply.text().contains("TLR-1103"), "{}", reply.text());
    for (method, path) in [("GET", "/api/v1/write"), ("PUT", "/api/v2/series"), ("POST", "/api/v1/validate"), ("DELETE", "/api/v1/query")] {
        assert_eq!(server.http(method, path, &[("authorization", &bearer)], b"").status, 405, "{method} {path}");
    }
    routes_refuse_with_an_id(&server, &bearer);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..200).for_each(|_| bomb.write_all(&[b' '; 1 << 20]).expect("zips"));
    let headers = [("dd-api-key", server.key.as_str()), ("content-type", "application/json"), ("content-encoding", "gzip")];
    let reply = server.http("POST", "/api/v2/series", &headers, &bomb.finish().expect("zips"));
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("TLR-1202"), "{}", reply.text());

    // Single points: the good ones of the same request are stored.
    let mut many = series("many.tags", "a", &[(at_ms, 1.0)]);
    many.0.extend((0..500).map(|number| (format!("tag{number:03}"), "x".to_owned())));
    let reply = server.write(
        &server.key,
        &write_request(&[
            series("good.first", "a", &[(at_ms, 1.5), (-5_000, 1.0)]),
            series("far.ahead", "a", &[(7_258_118_400_000, 1.0)]),
            series(&"n".repeat(10_000), "a", &[(at_ms, 1.0)]),
            many,
            series("good.last", "a", &[(at_ms, 2.5)]),
        ]),
    );
    assert_eq!(reply.status, 400);
    for id in ["TLR-1301", "TLR-1302", "TLR-1309", "TLR-1308"] {
        assert!(reply.text().contains(id), "{id} in {}", reply.text());
    }
    assert!(reply.text().contains("the others are stored"), "{}", reply.text());
    assert!(reply.head.contains("x-prometheus-remote-write-samples-written: 2"), "{}", reply.head);
    let point = |text: &str, value: f64| format!("{{\"timestamp\":{text},\"value\":{value}}}");
    let points = [point(&AT_S.to_string(), 3.5), point("\"soon\"", 1.0), point("-5", 1.0)].join(",");
    let mut body = String::new();
    write!(body, "{{\"series\":[{{\"metric\":\"good.agent\",\"type\":3,\"points\":[{points}],\"tags\":[\"tag:a\"]}}]}}").expect("writes");
    let reply =
        server.http("POST", "/api/v2/series", &[("dd-api-key", &server.key), ("content-type", "application/json")], body.as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(server.write(&server.key, &good).status, 204);

    server.seal_and_build(CLOSED_WINDOW);
    for (name, expected) in [("good.first", "1.5"), ("good.last", "2.5"), ("good.agent", "3.5")] {
        let rows = server.query(&format!("{{\"{name}\"}}"), &AT_S.to_string());
        assert_eq!((rows.len(), &rows[0]["value"][1]), (1, &json!(expected)), "{name}: {rows:?}");
    }
    // good.first came twice, the other two once; nothing else was let in.
    let row = server.status_of(CLOSED_WINDOW);
    assert_eq!((&row["points"], &row["duplicates"], &row["corrupt"]), (&json!(3), &json!(1), &json!(0)), "{row}");
}

/// Verb, path, headers, body; status and a part of the text of the reply.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

fn routes_refuse_with_an_id(server: &Server, bearer: &str) {
    let admin = format!("Bearer {}", server.admin_key);
    let json = ("content-type", "application/json");
    let cases: [Case<'_>; 12] = [
        ("GET", "/nowhere", &[], b"", 404, "TLR-1006: nothing answers GET /nowhere\n"),
        ("GET", "/api/v1/nowhere", &[], b"", 404, "\"error\":\"TLR-1006"),
        ("POST", "/api/v2/nowhere", &[], b"", 404, "{\"errors\":[\"TLR-1006"),
        ("POST", "/api/v1/check_run", &[("dd-api-key", "x")], b"", 404, "{\"errors\":[\"TLR-1006"),
        ("DELETE", "/api/v1/query", &[("authorization", bearer)], b"", 405, "\"error\":\"TLR-1005"),
        ("PUT", "/api/admin/v1/seal", &[("authorization", &admin)], b"", 405, "\"error\":\"TLR-1005"),
        ("POST", "/metrics", &[], b"", 405, "TLR-1005"),
        ("POST", "/api/admin/v1/seal", &[("authorization", &admin)], b"{}", 415, "\"error\":\"TLR-1007"),
        ("POST", "/api/admin/v1/seal", &[("authorization", &admin), json], b"{\"a\":1}", 422, "\"error\":\"TLR-1007"),
        ("POST", "/api/admin/v1/seal", &[("authorization", &admin), json], b"{", 400, "\"error\":\"TLR-1007"),
        ("GET", "/api/admin/v1/jobs?limit=x", &[("authorization", &admin)], b"", 400, "\"error\":\"TLR-1007"),
        ("DELETE", "/api/admin/v1/keys/0123456789ab", &[("authorization", &admin)], b"", 409, "\"error\":\"TLR-1008"),
    ];
    for (method, path, headers, body, status, text) in cases {
        let reply = server.http(method, path, headers, body);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        assert!(reply.text().contains(text), "{method} {path}: {}", reply.text());
        assert_eq!(reply.head.contains("\r\nallow: "), status == 405, "{method} {path}: {}", reply.head);
    }
    // One text per id, whoever refuses; a challenge with every 401.
    for (path, key, status, text) in [
        ("/api/v1/query?query=1", "", 401, "TLR-1101: no API key; send it as"),
        ("/api/v1/write", "", 401, "TLR-1101: no API key; send it as"),
        ("/api/v1/query?query=1", "nonsense", 401, "TLR-1102: the API key is unknown, revoked or expired"),
        ("/api/v1/write", "nonsense", 401, "TLR-1102: the API key is unknown, revoked or expired"),
        ("/api/v1/query?query=1", &server.admin_key, 403, "TLR-1103: the API key lacks the scope `query`"),
        ("/api/v1/write", &server.admin_key, 403, "TLR-1103: the API key lacks the scope `write`"),
        ("/api/admin/v1/seal", &server.key, 403, "TLR-1103: the API key lacks the scope `admin`"),
    ] {
        let bearer = format!("Bearer {key}");
        let headers: &[_] = if key.is_empty() { &[] } else { &[("authorization", bearer.as_str())] };
        let reply = server.http("POST", path, headers, b"");
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert!(reply.text().contains(text), "{path}: {}", reply.text());
        assert_eq!(reply.head.contains("www-authenticate: bearer realm=\"tailors\""), status == 401, "{path}: {}", reply.head);
    }
    let metrics = server.http("GET", "/metrics", &[], b"").text();
    for line in [
        "tailors_intake_refused_requests_total{org=\"none\",reason=\"scope\"} ",
        "tailors_refused_requests_total{routes=\"query\",org=\"none\",reason=\"scope\"} 1",
        "tailors_refused_requests_total{routes=\"query\",org=\"\",reason=\"no_key\"} 1",
        "tailors_refused_requests_total{routes=\"admin\",org=\"1\",reason=\"scope\"} ",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert!(!metrics.contains("org=\"0\""), "an admin key is not org 0");
}

#[test]
fn commands_say_at_once_what_is_wrong() {
    let temp = tempfile::tempdir().expect("temp dir");
    let path = |name: &str| temp.path().join(name).to_str().expect("UTF-8").to_owned();
    let started = std::time::Instant::now();
    for command in [&["status"][..], &["query", "1"], &["seal", "--window", CLOSED_WINDOW]] {
        let refused = run(&[command, &["--url", "http://127.0.0.1:1", "--key", "x"]].concat());
        assert!(refused.code == 3 && refused.err.contains("can't be reached"), "{command:?}: {refused:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "a server that was never there is not waited for");
    let generate = |more: &[&str]| run(&[&["generate", "--class", "counters", "--series", "1", "--start", "1700000000"], more].concat());
    let (never, text) = (path("never.csv"), path("x.txt"));
    for bad in [["--step", "0", "--out", &never], ["--seconds", "0", "--out", &never], ["--step", "1", "--out", &text]] {
        let refused = generate(&bad);
        assert_eq!(refused.code, 2, "{bad:?}: {refused:?}");
    }
    let out = path("three.csv");
    generate(&["--seconds", "5", "--step", "2", "--out", &out]).ok();
    let times: Vec<String> = std::fs::read_to_string(&out).expect("rows").lines().skip(1).map(|row| row[..10].to_owned()).collect();
    assert_eq!(times, ["1700000000", "1700000002", "1700000004"]);

    let store = path("store");
    assert_eq!(run(&["doctor", "--store", &store]).code, 2, "there is no such directory");
    assert!(!Path::new(&store).exists(), "and none is made");
    std::fs::create_dir(&store).expect("makes");
    run(&["doctor", "--store", &store]).ok();
    assert_eq!(std::fs::read_dir(&store).expect("a directory").count(), 0, "nothing is left");
    for (name, text) in [("empty.csv", "timestamp,metric,tags,value\n"), ("empty.rw", "")] {
        std::fs::write(path(name), text).expect("writes");
        let joined = run(&["verify", "--truth", &path(name), "--store", &store]);
        assert!(joined.code == 2 && joined.err.contains("holds no points"), "{name}: {joined:?}");
    }
}

#[test]
fn one_process_per_directory_and_commands_without_it() {
    let temp = tempfile::tempdir().expect("temp dir");
    let data = temp.path().join("data");
    let path = data.to_str().expect("UTF-8");
    let none = run(&["status", "--data", path]);
    assert_eq!(none.code, 3, "{none:?}");
    let mut server = Server::start(&data, &["--set", "build.enabled=false", "--set", "control.provisional=false"]);
    let second = run(&["up", "--data", path, "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, 4, "{second:?}");
    assert!(second.err.contains("TLR-4001"), "{second:?}");
    queries_end_as_documented(&server);
    let csv = temp.path().join("points.csv");
    write_csv(&csv, &hand_made());
    let file = csv.to_str().expect("UTF-8");
    server.run(&["import", file, "--at", AT_OPEN]).ok();
    // A request of which some points are refused: the others are stored, and the import goes on.
    let mut mixed = hand_made();
    mixed.truncate(12);
    mixed.insert(0, "1600000000,e2e.mixed,,1".to_owned());
    let mixed_csv = temp.path().join("mixed.csv");
    write_csv(&mixed_csv, &mixed);
    let first = (AT_S - 100_000_000).to_string();
    let sent = server.run(&["import", mixed_csv.to_str().expect("UTF-8"), "--at", &first]);
    assert!(sent.code == 1 && sent.err.contains("TLR-1301") && sent.out.trim() == "sent 13 points, accepted 12", "{sent:?}");
    // The window still runs: there are points, and no seal.
    let unsealed = server.run(&["build", "--window", OPEN_WINDOW]);
    assert_eq!(unsealed.code, 1, "{unsealed:?}");
    assert!(unsealed.err.contains("tailors seal"), "{unsealed:?}");
    let crooked = server.run(&["seal", "--window", AT_OPEN]);
    assert_eq!(crooked.code, 2, "{crooked:?}");
    assert_eq!(server.stop(), 0, "a graceful stop");

    let alone = server.run(&["import", file, "--at", AT]);
    assert_eq!(alone.code, 3, "{alone:?}");
    assert!(alone.err.contains("needs a running server"), "{alone:?}");
    let empty = server.run(&["seal", "--window", "2026-11-19T00:00:00Z"]);
    assert!(empty.code == 0 && empty.out.contains("no points"), "{empty:?}");
    assert!(server.run(&["seal", "--window", OPEN_WINDOW]).ok().contains("seal"));
    let key = server.run(&["key", "create", "--org", "1"]).ok();
    assert!(key.starts_with("tlr_") && key.trim().lines().count() == 1, "the key alone");
    let listed = server.run(&["key", "list"]).ok();
    assert!(listed.contains(&key[4..16]), "{listed}");
    assert!(server.run(&["key", "revoke", key.trim()]).ok().contains(&format!("revoked {}\n", &key[4..16])), "as it was copied");
    let expired = server.run(&["key", "create", "--org", "1", "--expires", "2020-01-01T00:00:00Z"]);
    assert_eq!(expired.code, 2, "{expired:?}");
    let shrunk = server.run(&["up", "--listen", "127.0.0.1:0", "--set", "log.partitions=1"]);
    assert!(shrunk.code == 2 && shrunk.err.contains("TLR-4008: log.partitions is 1") && shrunk.err.contains(" has 4"), "{shrunk:?}");
    std::fs::write(data.join("tailors.toml"), "[log]\nfsyncc = 'never'\n").expect("writes");
    let own = server.run(&["up", "--listen", "127.0.0.1:0"]);
    assert!(own.code == 2 && own.err.contains("TLR-4002: setting log.fsyncc"), "DIR/tailors.toml is read: {own:?}");
    std::fs::remove_file(data.join("tailors.toml")).expect("removes");
    assert_eq!(server.status_of(OPEN_WINDOW)["seal"]["kind"], "hand");
    server.run(&["build", "--window", OPEN_WINDOW]).ok();
    assert_eq!(server.status_of(OPEN_WINDOW)["state"], "built");
    // The file's last second, as a range of one step.
    let last = "2026-11-20T17:39:59Z";
    let table = server.run(&["query", "e2e_metric{host=\"h2\"}", "--start", last, "--end", last, "--step", "1s", "--csv"]).ok();
    assert!(table.lines().last().is_some_and(|line| line.ends_with(",42")), "{table}");
    let joined = server.run(&["verify", "--truth", file]);
    assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
    server.restart();
    assert_eq!(server.write(key.trim(), b"").status, 401, "a revoked key");
}

fn queries_end_as_documented(server: &Server) {
    for (arguments, code) in [
        (&["sum("][..], 2),
        (&["1", "--start", "now", "--end", "-1h"], 2),
        (&["1", "--step", "0"], 2),
        (&["info(up)"], 2),
        (&["1", "--key", "nonsense"], 2),
        (&["1", "--start", "-10m", "--step", "1m30s"], 0),
        (&["0/0", "--start", "-10m"], 0),
    ] {
        let ended = server.run(&[&["query"], arguments].concat());
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(!ended.out.contains("inf"), "{ended:?}");
    }
}

/// A small file system that the test may fill; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn mount(path: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(path).expect("mount point");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output().ok()?;
        mounted.status.success().then(|| Self(path.to_owned()))
    }

    fn resize(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().expect("mount runs").success());
    }

    /// Writes until nothing more fits.
    fn fill(&self, name: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        let mut file = std::fs::File::create(&path).expect("ballast");
        for size in [1 << 20, 4_096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_ridden_out() {
    let temp = tempfile::tempdir().expect("temp dir");
    let disk = temp.path().join("disk");
    // Less than one segment of the log.
    let Some(small) = SmallDisk::mount(&disk, 24) else {
        eprintln!("skipped: mounting a tmpfs is not allowed here");
        return;
    };
    let data = disk.join("data");
    // The words of `up` go beside the mount point's content, not through it.
    std::os::unix::fs::symlink(temp.path().join("words"), disk.join("data.up.log")).expect("link");
    let mut server = Server::start(&data, &["--set", "capture.flush_after_s=1"]);
    let csv = temp.path().join("points.csv");
    write_csv(&csv, &hand_made());
    let file = csv.to_str().expect("UTF-8");
    let mut import = Background::start(&server.with_data(&["import", file, "--at", AT]));
    let reply = server.write(&server.key, &write_request(&[series("probe", "a", &[(AT_S * 1_000, 1.0)])]));
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.text().starts_with("TLR-1401") && reply.head.contains("retry-after"), "{}\n{}", reply.head, reply.text());
    std::thread::sleep(Duration::from_secs(1));
    assert!(import.is_running(), "{:?}", import.end());
    small.resize(300);
    let sent = import.end();
    assert_eq!(sent.code, 0, "{sent:?}");

    // Full again, with what was acknowledged not yet in the store.
    server.run(&["import", file, "--at", AT_OPEN]).ok();
    let ballast = small.fill("ballast");
    let mut seal = Background::start(&server.with_data(&["seal", "--window", CLOSED_WINDOW]));
    std::thread::sleep(Duration::from_secs(2));
    assert!(seal.is_running(), "a seal waits for room: {:?}", seal.end());
    // A start on a full disk. It gives the log's unused space back, which is filled as well: no new segment then.
    server.kill();
    server.restart();
    let more = small.fill("more");
    let probe = write_request(&[series("probe", "a", &[(AT_S * 1_000, 1.0)])]);
    let reply = server.write(&server.key, &probe);
    assert_eq!(reply.status, 503, "{}", reply.text());
    std::fs::remove_file(ballast).expect("room");
    std::fs::remove_file(more).expect("room");
    wait_until("the log goes on by itself", || server.write(&server.key, &probe).status == 204);
    wait_until("the seal returns", || !seal.is_running());
    let sealed = seal.end();
    assert_eq!(sealed.code, 0, "{sealed:?}");
    for (window, time) in [(CLOSED_WINDOW, AT), (OPEN_WINDOW, AT_OPEN)] {
        server.seal_and_build(window);
        let joined = server.run(&["verify", "--truth", file, "--at", time]);
        assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
    }
}
