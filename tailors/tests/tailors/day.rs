//! A day through the real binary: six windows become one file, by hand and by the server itself, and every point stays where it was.

use std::path::{Path, PathBuf};

use crate::support::{EXACT, Server, run, wait_until};
use serde_json::{Value, json};

/// First second of the truth: the day before the one that the server's clock shows.
const AT: &str = "2026-11-19T00:00:00Z";
const DAY: &str = "2026-11-19";
/// Seconds between two points of a series.
const STEP_S: i64 = 60;

/// Rows of a truth file from `from` to `to` seconds of the day; the fourth series lives for an hour, the third is constant in the morning.
fn rows(from: i64, to: i64) -> Vec<String> {
    let mut rows = Vec::new();
    for second in (from..to).step_by(STEP_S as usize) {
        for number in 0..5i64 {
            let value = match number {
                0 => (second * 7 % 2_000) as f64 / 100.0,
                1 => (second as f64 * 0.37).sin() * 1e3,
                2 if second < 43_200 => 42.0,
                2 => f64::NAN,
                3 if second / 3_600 != 9 => continue,
                _ => (second / STEP_S) as f64,
            };
            rows.push(format!("{},day.metric{},\"host:h{number},bare\",{value:?}", 1_700_000_000 + second, number % 2));
        }
    }
    rows
}

fn write_csv(path: &Path, rows: &[String]) {
    std::fs::write(path, format!("timestamp,metric,tags,value\n{}\n", rows.join("\n"))).expect("writes");
}

fn windows() -> Vec<String> {
    (0..6).map(|number| format!("{DAY}T{:02}:00:00Z", number * 4)).collect()
}

/// Chunk files below a store's directory, by the second part of their key.
fn files(data: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for spread in std::fs::read_dir(data.join("store")).expect("store").flatten() {
        let mut folders = vec![spread.path().join(kind)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
    }
    found
}

/// What a query of the whole day says.
fn answer(server: &Server) -> Vec<Value> {
    server.query("sum by (host) (count_over_time({__name__=~\"day.metric.\"}[1d]))", &format!("{}", 1_795_046_400 + 86_399))
}

#[test]
fn a_day_becomes_one_file_and_nothing_changes() {
    let temp = tempfile::tempdir().expect("temp dir");
    let data = temp.path().join("data");
    let mut server = Server::start(&data, &["--set", "build.enabled=false"]);
    let csv = temp.path().join("points.csv");
    let all = rows(0, 86_400);
    write_csv(&csv, &all);
    let file = csv.to_str().expect("UTF-8");
    let exact = |server: &Server| {
        let joined = server.run(&["verify", "--truth", file, "--at", AT]);
        assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
    };
    server.run(&["import", file, "--at", AT]).ok();
    let early = server.run(&["compact", "--day", DAY]);
    assert_eq!(early.code, 1, "{early:?}");
    assert!(early.err.contains("has points that are not built on a closed seal"), "{early:?}");
    windows().iter().for_each(|window| server.seal_and_build(window));
    exact(&server);
    let before = answer(&server);
    let said = server.run(&["compact", "--day", DAY]).ok();
    assert!(said.contains(&format!("6 window(s), {} points, 6 file(s) of", all.len())) && said.contains("became 1 of"), "{said}");
    exact(&server);
    assert_eq!(answer(&server), before);
    let mut bytes = 0;
    for window in windows() {
        let row = server.status_of(&window);
        assert_eq!((&row["in_day_file"], &row["generation"], &row["state"]), (&json!(true), &json!(2), &json!("built")), "{row}");
        bytes += row["bytes"].as_u64().expect("bytes");
    }
    let day_files = files(&data, "day");
    assert_eq!(day_files.len(), 1);
    let size = std::fs::metadata(&day_files[0]).expect("file").len();
    assert!((size - 6..=size).contains(&bytes), "{bytes} of {size}");
    let shown = run(&["inspect", day_files[0].to_str().expect("UTF-8")]).ok();
    assert!(shown.starts_with("day file of mod-0064-0001, 2026-11-19T00:00:00Z + 86400 s"), "{shown}");
    assert!(shown.contains("2026-11-19T08:00:00Z"), "{shown}");
    assert!(server.run(&["compact", "--day", DAY]).ok().contains("nothing to gain"));
    assert!(server.run(&["status"]).ok().contains(" day "), "the table says where points lie");

    // The same points once more in one window: a late seal, a generation of its own beside the day's file.
    let late = temp.path().join("late.csv");
    write_csv(&late, &rows(4 * 3_600, 8 * 3_600));
    server.run(&["import", late.to_str().expect("UTF-8"), "--at", "2026-11-19T04:00:00Z"]).ok();
    server.seal_and_build(&windows()[1]);
    assert_eq!(server.status_of(&windows()[1])["in_day_file"], json!(false));
    exact(&server);
    assert_eq!(answer(&server), before);
    let said = server.run(&["compact", "--day", DAY, "--shard", "mod-0064-0001"]).ok();
    assert!(said.contains("2 file(s) of") && said.contains("became 1 of"), "{said}");
    exact(&server);
    // Another process finds the same.
    server.kill();
    server.restart();
    exact(&server);
    assert_eq!(answer(&server), before);

    damage_is_named(&files(&data, "day"), &server, file);

    server.run(&["import", late.to_str().expect("UTF-8"), "--at", "2026-11-20T04:00:00Z"]).ok();
    for (arguments, code, word) in [
        (&["compact", "--day", "2026-11-20"][..], 1, "closes at 2026-11-21T03:04:00Z"),
        (&["compact", "--day", "2026-11-2"], 2, "is no day"),
        (&["compact", "--day", DAY, "--shard", "one"], 2, "is no shard"),
        (&["compact", "--day", "2026-11-10"], 0, "has no points"),
    ] {
        let ended = server.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(format!("{}{}", ended.out, ended.err).contains(word), "{arguments:?}: {ended:?}");
    }
}

/// A flipped byte in pages or index of the day's file, then the file gone: `verify` says where.
fn damage_is_named(day_files: &[PathBuf], server: &Server, truth: &str) {
    let newest = day_files.iter().max_by_key(|file| std::fs::metadata(file).expect("file").modified().expect("time")).expect("a file");
    let bytes = std::fs::read(newest).expect("reads");
    let key = newest.strip_prefix(server.dir.join("store")).expect("below the store").to_str().expect("UTF-8");
    for at in [100, bytes.len() / 2, bytes.len() - 100, bytes.len()] {
        std::fs::remove_file(newest).expect("removes");
        if let Some(damaged) = bytes.get(at) {
            std::fs::write(newest, [&bytes[..at], &[damaged ^ 4], &bytes[at + 1..]].concat()).expect("writes");
        }
        let ended = server.run(&["verify", "--truth", truth, "--at", AT]);
        assert_eq!(ended.code, 3, "byte {at}: {ended:?}");
        for word in ["TLR-4020", key, "window 2026-11-19T", "mod-0064-0001, part ", " of 8"] {
            assert!(ended.err.contains(word), "byte {at}: {}", ended.err);
        }
    }
    std::fs::write(newest, bytes).expect("writes");
}

#[test]
fn the_server_puts_days_into_one_file_by_itself_when_it_has_nothing_else_to_do() {
    let temp = tempfile::tempdir().expect("temp dir");
    let data = temp.path().join("data");
    let server = Server::start(&data, &["--set", "control.day_after_s=1", "--set", "control.quiet_min_s=1"]);
    let csv = temp.path().join("points.csv");
    write_csv(&csv, &rows(0, 86_400));
    let file = csv.to_str().expect("UTF-8");
    server.run(&["import", file, "--at", AT]).ok();
    wait_until("a day's file", || {
        let status: Value = serde_json::from_str(&server.run(&["status", "--json"]).ok()).expect("JSON");
        let rows = status["windows"].as_array().expect("rows");
        rows.len() == 6 && rows.iter().all(|row| row["in_day_file"] == json!(true))
    });
    let joined = server.run(&["verify", "--truth", file, "--at", AT]);
    assert_eq!((joined.code, joined.last_line()), (0, EXACT), "{joined:?}");
}
