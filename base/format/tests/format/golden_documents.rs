//! Golden documents of every kind, kept for ever: what they say is spelled here as JSON, so today's code reads each as it was meant and writes it to the
//! byte; no prefix, flipped bit or corrupt twin is taken for a document. Those of the embedded log are checked where they are read, in `base/store`.
//!
//! `TAILORS_GOLDEN=write` makes the newest anew.

use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tailors_format::FormatError;
use tailors_format::doc::{
    CapIdxDoc, Document, DoneDoc, FeedDoc, GenesisDoc, GoneDoc, IndexRow, JobDoc, KeyDoc, ManifestDoc, NodeDoc, PinDoc, PlanDoc,
    RevocationDoc, RouteDoc, SealDoc, SnapDoc, StreamDoc, StreamEndDoc, body,
};

const SHA: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SHARD: &str = "mod-0064-0007";
const WINDOW: i64 = 1_795_132_800;

/// What a document says, and what it is written as.
type Again = Result<(Value, Vec<u8>), FormatError>;

/// A kind: its newest `_format`, the key of its golden file, what it says, and its reader and writer.
struct Kind {
    format: &'static str,
    key: &'static str,
    says: Value,
    again: fn(&str, &[u8]) -> Again,
    write: fn(&str, Value) -> Vec<u8>,
}

fn kind<D: Document>(key: &'static str, says: Value) -> Kind {
    Kind {
        format: D::FORMAT,
        key,
        says,
        again: |key, bytes| {
            let doc = D::from_bytes(key, bytes)?;
            Ok((serde_json::to_value(&doc).unwrap(), doc.to_bytes(key)?))
        },
        write: |key, says| serde_json::from_value::<D>(says).unwrap().to_bytes(key).unwrap(),
    }
}

fn kinds() -> Vec<Kind> {
    let body = json!({"key": "ab12/body/v1/00", "bytes": 10, "raw_bytes": 20, "hash": SHA});
    vec![
        kind::<StreamDoc>("stream/v1/0000000001", json!({"cluster": "c", "topic_uuid": "t", "name": "embedded", "created_ms": 5})),
        kind::<StreamEndDoc>("stream-end/v1/0000000001", json!({"ends": {"00000": 7, "00003": u64::MAX}, "writer": "w"})),
        kind::<RouteDoc>(
            "route/v1/00000002",
            json!({"table": {"version": 2, "mod_count": 64, "orgs": {"42": [[WINDOW, "org-0000000042"]]}}}),
        ),
        kind::<GenesisDoc>("cap/v1/0000000001/00000/genesis", json!({"start": 3, "writer": "w"})),
        kind::<NodeDoc>(
            "cap/v1/0000000001/00000/n/00000000000000000003",
            json!({"kind": "data", "start": 3, "next": 9, "raw": {"key": "ab12/raw/v1/w/000000000001-1.traw", "bytes": 1_000, "crc32c": "0123abcd"},
                "extents": {SHARD: {"1795132800": [[32, 900, 5, 500, -4, 9]]}, "none": {"0000000000": [[900, 950, 1, 0, 1, 1]]}},
                "route_version": 2, "records": 6, "payloads": 5, "points": 500, "envelope_corrupt": 1, "time_ms": [-7, 8],
                "received_at_us": null, "writer": "w", "attempt": 1}),
        ),
        kind::<CapIdxDoc>("capidx/v1/0000000001/00000/00000001", json!({"start": 3, "next": 9, "received_max_us": null, "body": body})),
        kind::<SealDoc>(
            "seal/v1/1795132800/000003",
            json!({"kind": "closed", "window": WINDOW, "k": 3, "ends": {"0000000001": {"00000": 7, "00003": u64::MAX}}, "route_version": 2,
                "decided_ms": 1_795_160_000_000i64, "writer": "w"}),
        ),
        kind::<PlanDoc>(
            "plan/v1/mod-0064-0007/1795132800/000002",
            json!({"shard": SHARD, "window": WINDOW, "g": 2, "k": 3, "base_g": 1, "reason": "raw_gone", "route_version": 2, "nodes": 4,
                "nodes_digest": SHA, "points_expected": 500, "quarantine": ["ab12/raw/v1/w/000000000002-1.traw"], "encoder": 2}),
        ),
        kind::<ManifestDoc>(
            "man/v1/mod-0064-0007/1795132800/000002",
            json!({"kind": "published", "reason": null, "shard": SHARD, "window": WINDOW, "g": 2, "k": 3, "base_g": 1, "plan_digest": SHA,
                "route_version": 2, "files": [{"key": "ab12/chunk/v1/mod-0064-0007/1795132800/000002/a1/0000.tchk", "role": "base",
                    "from_ms": 1_795_132_800_000i64, "to_ms": 1_795_147_200_000i64, "bytes": 77, "hash": SHA, "points": 450}],
                "counts": {"read": 500, "written": 450, "duplicates": 20, "corrupt": 20, "rejected": 10, "late": 5}, "series": 12,
                "max_timestamp_ms": 1_795_140_000_000i64, "received_at_max_us": 9, "holes": [[1, 0, 5, 9]], "quarantined": [], "encoder": 2,
                "writer": "w", "attempt": "a1"}),
        ),
        kind::<JobDoc>(
            "job/v1/mod-0064-0007/1795132800/000002/a1",
            json!({"started_ms": 5, "ended_ms": 9, "outcome": "built", "raw_bytes_read": 1_000, "stages_us": {"census": 7, "encode": 8},
                "memory_peak_bytes": 1 << 30}),
        ),
        kind::<FeedDoc>("feed/v1/000000000001", json!({"shard": SHARD, "window": WINDOW, "g": 2})),
        kind::<SnapDoc>("snap/v1/000000004096", json!({"seq": 4_096, "entries": 4_000, "body": body})),
        kind::<DoneDoc>("done/v1/1795132800/000003", json!({"window": WINDOW, "k": 3, "route_version": 2, "shards": {SHARD: 2}})),
        kind::<GoneDoc>("gone/v1/mod-0064-0007/1795132800/000001", json!({"superseded_by": 2})),
        kind::<PinDoc>("pin/v1/0123456789abcdef-000001", json!({"feed": 4_711, "expires_s": 600})),
        kind::<KeyDoc>(
            "auth/v1/k/0123456789ab",
            json!({"sha256": SHA, "org": 7, "scopes": ["write", "query", "admin", "metrics", "backfill"], "expires_ms": null, "created_ms": 5}),
        ),
        kind::<RevocationDoc>("auth/v1/r/0123456789ab", json!({"revoked_ms": 5})),
    ]
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/documents")
}

/// `seal/0` -> (`seal`, `0`).
fn split(format: &str) -> (&str, &str) {
    format.rsplit_once('/').unwrap()
}

fn writes() -> bool {
    std::env::var("TAILORS_GOLDEN").is_ok_and(|value| value == "write")
}

#[test]
fn documents_say_what_they_said() {
    for kind in kinds() {
        let (name, version) = split(kind.format);
        let folder = directory().join(version);
        let bytes = (kind.write)(kind.key, kind.says.clone());
        if writes() {
            let mut corrupt = bytes.clone();
            let middle = corrupt.len() / 2;
            corrupt[middle] ^= 1;
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("{name}.json")), &bytes).unwrap();
            std::fs::write(folder.join(format!("{name}-corrupt.json")), corrupt).unwrap();
        }
        let kept = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        assert!(kept == bytes, "{name}: other bytes are written; a new version needs new golden files");
        assert_eq!((kind.again)(kind.key, &kept).unwrap(), (kind.says.clone(), kept.clone()), "{name}");
        let twin = std::fs::read(folder.join(format!("{name}-corrupt.json"))).unwrap();
        assert!((kind.again)(kind.key, &twin).is_err(), "{name}: the corrupt twin is accepted");
        assert!((kind.again)("another/key", &kept).is_err(), "{name}: a wrong key is accepted");
    }
}

#[test]
fn every_prefix_and_every_bit_of_a_document_is_refused() {
    for kind in kinds() {
        let mut bytes = (kind.write)(kind.key, kind.says.clone());
        for end in 0..bytes.len() {
            assert!((kind.again)(kind.key, &bytes[..end]).is_err(), "{}: prefix of {end}", kind.format);
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!((kind.again)(kind.key, &bytes).is_err(), "{}: bit {bit}", kind.format);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Another version, another kind, a member too many and one too few: each has its own error.
#[test]
fn what_is_not_known_is_refused() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Newer {
        superseded_by: u32,
    }
    impl Document for Newer {
        const FORMAT: &'static str = "gone/9";
    }
    #[derive(serde::Serialize, serde::Deserialize)]
    struct More {
        superseded_by: u32,
        why: u32,
    }
    impl Document for More {
        const FORMAT: &'static str = GoneDoc::FORMAT;
    }
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Less {}
    impl Document for Less {
        const FORMAT: &'static str = GoneDoc::FORMAT;
    }
    let key = "gone/v1/x";
    let newer = GoneDoc::from_bytes(key, &Newer { superseded_by: 1 }.to_bytes(key).unwrap()).unwrap_err();
    assert_eq!(newer, FormatError::Unknown { what: GoneDoc::FORMAT, field: "major version", number: 9 });
    let other =
        GoneDoc::from_bytes(key, &serde_json::from_value::<RevocationDoc>(json!({"revoked_ms": 5})).unwrap().to_bytes(key).unwrap());
    assert!(other.unwrap_err().to_string().contains("holds"));
    for bytes in [More { superseded_by: 1, why: 2 }.to_bytes(key).unwrap(), Less {}.to_bytes(key).unwrap()] {
        assert!(matches!(GoneDoc::from_bytes(key, &bytes), Err(FormatError::Invalid { .. })));
    }
}

/// A body has no version of its own, its document's counts; its checksum is its name.
#[test]
fn a_body_says_what_it_said() {
    let folder = directory().join(split(CapIdxDoc::FORMAT).1);
    let (path, twin) = (folder.join("body.zst"), folder.join("body-corrupt.zst"));
    let rows: Vec<IndexRow> = serde_json::from_value(json!([[3, 9, "data", 5, [[WINDOW, 500]]], [9, 12, "hole", null, []]])).unwrap();
    let (bytes, raw_bytes) = body::encode(&rows).unwrap();
    if writes() {
        let mut corrupt = bytes.clone();
        corrupt[bytes.len() / 2] ^= 1;
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(&twin, corrupt).unwrap();
    }
    let kept = std::fs::read(path).unwrap();
    assert!(kept == bytes, "another body is written");
    assert_eq!(body::decode::<Vec<IndexRow>>(&kept, raw_bytes).unwrap(), rows);
    let hash = |bytes: &[u8]| Sha256::digest(bytes);
    assert_ne!(hash(&std::fs::read(twin).unwrap()), hash(&kept), "a reader compares the hash first");
    for end in 0..kept.len() {
        assert!(body::decode::<Vec<IndexRow>>(&kept[..end], raw_bytes).is_err(), "prefix of {end}");
    }
}
