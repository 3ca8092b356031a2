//! Every object key of the store on one screen (protocol.md 2.1). Built from integers and fixed words only: no tenant text, no key a path prefix of another.

use tailors_model::{ShardId, Window};
use xxhash_rust::xxh3::xxh3_64;

/// Four hex digits that spread keys over a bucket, yet follow from the rest of the key.
fn h4(rest: &str) -> String {
    format!("{:04x}", xxh3_64(rest.as_bytes()) & 0xffff)
}

/// Registry entry of a stream.
pub fn stream(epoch: u32) -> String {
    format!("stream/v1/{epoch:010}")
}

/// End nodes of a stream that is over.
pub fn stream_end(epoch: u32) -> String {
    format!("stream-end/v1/{epoch:010}")
}

/// First start of a partition's chain.
pub fn genesis(epoch: u32, partition: u32) -> String {
    format!("cap/v1/{epoch:010}/{partition:05}/genesis")
}

/// Commit of the records of a partition from `start`.
pub fn node(epoch: u32, partition: u32, start: u64) -> String {
    format!("{}{start:020}", nodes(epoch, partition))
}

/// Prefix of a partition's nodes.
pub fn nodes(epoch: u32, partition: u32) -> String {
    format!("cap/v1/{epoch:010}/{partition:05}/n/")
}

/// Index n of a partition's nodes.
pub fn capidx(epoch: u32, partition: u32, n: u32) -> String {
    format!("capidx/v1/{epoch:010}/{partition:05}/{n:08}")
}

/// Raw file of a writer's flush.
pub fn raw(writer: &str, flush: u64, attempt: u32) -> String {
    let h4 = h4(&format!("raw/v1/{writer}/{flush:012}"));
    format!("{h4}/raw/v1/{writer}/{flush:012}-{attempt}.traw")
}

/// Seal k of a window.
pub fn seal(window: Window, k: u32) -> String {
    format!("{}{k:06}", seals(window))
}

/// Prefix of a window's seals.
pub fn seals(window: Window) -> String {
    format!("seal/v1/{window}/")
}

/// Plan of generation g.
pub fn plan(shard: ShardId, window: Window, g: u32) -> String {
    format!("plan/v1/{shard}/{window}/{g:06}")
}

/// Chunk file number `file` of an attempt.
pub fn chunk(shard: ShardId, window: Window, g: u32, attempt: &str, file: u32) -> String {
    format!("{}{attempt}/{file:04}.tchk", chunks(shard, window, g))
}

/// Prefix of all attempts of a generation.
pub fn chunks(shard: ShardId, window: Window, g: u32) -> String {
    let rest = format!("chunk/v1/{shard}/{window}/{g:06}");
    format!("{}/{rest}/", h4(&rest))
}

/// File number `file` of an attempt at a day's file; `day` is the day's first window.
pub fn day_chunk(shard: ShardId, day: Window, attempt: &str, file: u32) -> String {
    format!("{}{attempt}/{file:04}.tchk", day_chunks(shard, day))
}

/// Prefix of all attempts at a day's file.
pub fn day_chunks(shard: ShardId, day: Window) -> String {
    let rest = format!("day/v1/{shard}/{day}");
    format!("{}/{rest}/", h4(&rest))
}

/// Manifest of generation g.
pub fn manifest(shard: ShardId, window: Window, g: u32) -> String {
    format!("{}{g:06}", manifests(shard, window))
}

/// Prefix of a window x shard's manifests.
pub fn manifests(shard: ShardId, window: Window) -> String {
    format!("man/v1/{shard}/{window}/")
}

/// Done mark of a closed or late seal.
pub fn done(window: Window, k: u32) -> String {
    format!("done/v1/{window}/{k:06}")
}

/// Feed entry.
pub fn feed(seq: u64) -> String {
    format!("feed/v1/{seq:012}")
}

/// Snapshot of the feed up to and with `seq`.
pub fn snap(seq: u64) -> String {
    format!("snap/v1/{seq:012}")
}

/// Prefix of all pins.
pub const PINS: &str = "pin/v1/";

/// Pin number `n` of one reader.
pub fn pin(id: &str, n: u32) -> String {
    format!("{PINS}{id}-{n:06}")
}

/// Put before the files of g are deleted.
pub fn gone(shard: ShardId, window: Window, g: u32) -> String {
    format!("gone/v1/{shard}/{window}/{g:06}")
}

/// Version of the route table.
pub fn route(version: u32) -> String {
    format!("route/v1/{version:08}")
}

/// History of an attempt.
pub fn job(shard: ShardId, window: Window, g: u32, attempt: &str) -> String {
    format!("job/v1/{shard}/{window}/{g:06}/{attempt}")
}

/// API key record.
pub fn auth_key(id: &str) -> String {
    format!("auth/v1/k/{id}")
}

/// Revocation of an API key.
pub fn auth_revocation(id: &str) -> String {
    format!("auth/v1/r/{id}")
}

/// Content-addressed body that a document names.
pub fn body(sha256_hex: &str) -> String {
    let rest = format!("body/v1/{sha256_hex}");
    format!("{}/{rest}", h4(&rest))
}

/// The integer after the last slash of a key, as written by the functions above.
pub fn last_number(key: &str) -> Option<u64> {
    key.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tailors_model::OrgId;

    #[test]
    fn keys_are_plain_sorted_and_reproducible() {
        let window = Window::of_ms(1_795_132_800_000);
        let shard = ShardId::of_org(OrgId(1), 64);
        let keys = [
            stream(1),
            stream_end(1),
            genesis(1, 2),
            node(1, 2, 3),
            capidx(1, 2, 3),
            raw("ab12", 7, 1),
            seal(window, 1),
            plan(shard, window, 1),
            chunk(shard, window, 1, "a1", 0),
            day_chunk(shard, window, "a1", 0),
            manifest(shard, window, 1),
            done(window, 1),
            feed(1),
            snap(4096),
            gone(shard, window, 1),
            route(1),
            job(shard, window, 1, "a1"),
            auth_key("k"),
            auth_revocation("k"),
            body("00ff"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/=_.-".contains(&b)), "{key}");
            assert!(keys.iter().enumerate().all(|(j, other)| i == j || !other.starts_with(&format!("{key}/"))), "{key}");
        }
        assert_eq!(manifest(shard, window, 3), "man/v1/mod-0064-0001/1795132800/000003");
        assert!(chunk(shard, window, 1, "a1", 0).starts_with(&chunks(shard, window, 1)));
        assert!(day_chunk(shard, window, "a1", 0).starts_with(&day_chunks(shard, window)));
        assert_eq!(last_number(&node(1, 2, 3)), Some(3));
    }
}
