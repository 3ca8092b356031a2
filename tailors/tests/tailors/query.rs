//! Queries end to end: what `up` answers after its stored files were damaged behind its back, from a cold start.

#[allow(dead_code, reason = "end_to_end.rs uses the rest")]
use std::path::{Path, PathBuf};

use crate::support::{CLOSED_WINDOW, CLOSED_WINDOW_MS, Server, series, write_request};
use serde_json::Value;

/// The window after [`CLOSED_WINDOW`], closed too.
const NEXT_WINDOW: &str = "2026-11-20T08:00:00Z";
const NEXT_WINDOW_MS: i64 = CLOSED_WINDOW_MS + 14_400_000;

/// All chunk files of a window in a store.
fn chunk_files(folder: &Path, window_s: i64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()) {
        if entry.is_dir() {
            found.extend(chunk_files(&entry, window_s));
        } else if entry.to_string_lossy().contains(&window_s.to_string()) && std::fs::read(&entry).expect("reads").starts_with(b"TLRCHUNK")
        {
            found.push(entry);
        }
    }
    found
}

/// An hour around the edge of the two windows, as status and JSON.
fn ask(server: &Server, more: &str) -> (u16, Value) {
    let (start, end) = (NEXT_WINDOW_MS / 1_000 - 1_800, NEXT_WINDOW_MS / 1_000 + 1_800);
    let path = format!("/api/v1/query_range?query=m&start={start}&end={end}&step=600{more}");
    let reply = server.http("GET", &path, &[("authorization", &format!("Bearer {}", server.key))], b"");
    (reply.status, serde_json::from_slice(&reply.body).expect("JSON"))
}

#[test]
fn damage_is_an_error_or_said_never_a_gap() {
    let temp = tempfile::tempdir().expect("temp dir");
    let mut server = Server::start(&temp.path().join("data"), &["--set", "build.enabled=false"]);
    let points: Vec<(i64, f64)> = (-60..=60).map(|n| (NEXT_WINDOW_MS + n * 30_000, n as f64)).collect();
    assert!(server.write(&server.key, &write_request(&[series("m", "a", &points)])).status < 300);
    server.seal_and_build(CLOSED_WINDOW);
    server.seal_and_build(NEXT_WINDOW);
    let (status, whole) = ask(&server, "");
    assert_eq!((status, whole["data"]["result"][0]["values"].as_array().map(Vec::len)), (200, Some(7)), "{whole}");
    assert_eq!(whole["tailors"]["windows"].as_array().map(Vec::len), Some(2));

    let files = chunk_files(&server.dir.join("store"), NEXT_WINDOW_MS / 1_000);
    assert!(!files.is_empty(), "no chunk files");
    for damage in ["changed", "gone"] {
        server.kill();
        for file in &files {
            let mut bytes = std::fs::read(file).expect("reads");
            std::fs::remove_file(file).expect("removes");
            if damage == "changed" {
                // Behind the header: the first page, of one bit.
                bytes[36] ^= 1;
                std::fs::write(file, bytes).expect("writes");
            }
        }
        server.restart();
        let (status, answer) = ask(&server, "");
        assert_eq!((status, answer["errorType"].as_str()), (500, Some("internal")), "{damage}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| text.contains("TLR-2030")), "{damage}: {answer}");
        let (status, answer) = ask(&server, "&partial=true");
        assert_eq!(status, 200, "{damage}: {answer}");
        let missing = &answer["tailors"]["partial"][0];
        assert_eq!((missing[0].as_i64(), missing[1].as_i64()), (Some(NEXT_WINDOW_MS), Some(NEXT_WINDOW_MS + 1_800_001)), "{answer}");
        assert!(answer["warnings"][0].as_str().is_some_and(|text| text.contains("partial answer")), "{answer}");
        // What is left: the first window's steps, the last point looked back at for 5 minutes.
        assert_eq!(answer["data"]["result"][0]["values"].as_array().map(Vec::len), Some(4), "{answer}");
    }
}
