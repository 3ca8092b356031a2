//! Documents: round trip, every prefix, every flipped bit, a wrong key, unknown members.

use tailors_model::{OrgId, ShardId};

use super::*;

fn seal() -> SealDoc {
    let mut seal = SealDoc {
        kind: SealKind::Closed,
        window: 1_795_132_800,
        k: 3,
        ends: Default::default(),
        route_version: 1,
        decided_ms: 1_795_160_000_000,
        writer: "w".to_owned(),
    };
    seal.set_end(1, 0, 7);
    seal.set_end(1, 3, u64::MAX);
    seal
}

#[test]
fn members_are_sorted_with_format_first_and_checksum_last() {
    let bytes = seal().to_bytes("seal/v1/1795132800/000003").expect("encodes");
    let text = String::from_utf8(bytes.clone()).expect("text");
    assert!(text.starts_with("{\"_format\":\"seal/1\",\"decided_ms\":"), "{text}");
    assert!(text.contains("\"~crc32c\":\""));
    let back = SealDoc::from_bytes("seal/v1/1795132800/000003", &bytes).expect("decodes");
    assert_eq!(back, seal());
    assert_eq!(back.all_ends().collect::<Vec<_>>(), vec![(1, 0, 7), (1, 3, u64::MAX)]);
    serde_json::from_slice::<serde_json::Value>(&bytes).expect("plain JSON for any tool");
}

#[test]
fn damage_and_misplacement_are_errors() {
    let key = "feed/v1/000000000001";
    let feed = FeedDoc { shard: ShardId::of_org(OrgId(1), 64), window: 1_795_132_800, g: 1 };
    let bytes = feed.to_bytes(key).expect("encodes");
    assert_eq!(FeedDoc::from_bytes(key, &bytes), Ok(feed));
    assert!(FeedDoc::from_bytes("feed/v1/000000000002", &bytes).is_err());
    assert!(SealDoc::from_bytes(key, &bytes).is_err());
    for cut in 0..bytes.len() {
        assert!(FeedDoc::from_bytes(key, &bytes[..cut]).is_err(), "prefix {cut}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(FeedDoc::from_bytes(key, &flipped).is_err(), "bit {bit}");
    }
}
