//! Series of a payload -> working keys, each tag hashed once per dictionary; and the bytes in which labels travel between operators.
//!
//! Tags in a row: per tag `key length u16 | key | kind u8 | value length u16 | value`.

use std::hash::Hasher;

use bytes::Bytes;
use tailors_format::FormatError;
use tailors_format::bytes::Cursor;
use tailors_format::payload::Labels;
use tailors_model::series::{metric_hash, tag_hash};
use tailors_model::{SeriesHash, Tag, TagKind};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Any constant: makes prints independent of keys, so that labels of one key can be compared without keeping them.
const PRINT_SEED: u64 = 0x7461_696c_6f72_7331;

/// Key and print of one series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The working key.
    pub(crate) key: u128,
    /// A second hash of metric and tags by other means; equal keys with different prints are a collision.
    pub(crate) print: u64,
}

/// Identities of all series of a payload.
pub(crate) fn identities(labels: &Labels) -> Vec<Identity> {
    let tags: Vec<(u128, u64)> = labels.tags.iter().map(|tag| (tag_hash(tag), tag_print(tag))).collect();
    let metrics: Vec<(u128, u64)> =
        labels.metrics.iter().map(|metric| (metric_hash(metric), xxh3_64_with_seed(metric, PRINT_SEED))).collect();
    let of = |series| {
        let refs = labels.refs_of(series);
        let (metric, print) = metrics[series.metric as usize];
        let key = SeriesHash::of(metric, refs.iter().map(|tag| tags[*tag as usize].0)).0;
        let mix = |print: u64, tag: &u32| (print.rotate_left(23) ^ tags[*tag as usize].1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Identity { key, print: refs.iter().fold(print, mix) }
    };
    labels.series.iter().map(of).collect()
}

fn tag_print(tag: &Tag) -> u64 {
    let mut hasher = Xxh3::with_seed(PRINT_SEED);
    hasher.write(&tag.value);
    hasher.write(&(tag.value.len() as u64).to_le_bytes());
    hasher.write(&[tag.kind as u8]);
    hasher.write(&tag.key);
    hasher.digest()
}

/// Appends tags as they travel; the payload's limits keep lengths below 64 KiB, and a longer one is an error.
pub(crate) fn put_tags<'a>(out: &mut Vec<u8>, tags: impl Iterator<Item = &'a Tag>) -> Result<(), FormatError> {
    let length = |bytes: &Bytes| u16::try_from(bytes.len()).map_err(|_| FormatError::invalid("tag", "longer than 64 KiB"));
    for tag in tags {
        out.extend_from_slice(&length(&tag.key)?.to_le_bytes());
        out.extend_from_slice(&tag.key);
        out.push(tag.kind as u8);
        out.extend_from_slice(&length(&tag.value)?.to_le_bytes());
        out.extend_from_slice(&tag.value);
    }
    Ok(())
}

/// Tags from a row; their text is one allocation.
pub(crate) fn get_tags(bytes: &[u8]) -> Result<Vec<Tag>, FormatError> {
    let all = Bytes::copy_from_slice(bytes);
    let mut cursor = Cursor::new("tags of a row", &all);
    let mut tags = Vec::new();
    while cursor.remaining() > 0 {
        let length = usize::from(cursor.u16()?);
        let key = all.slice_ref(cursor.take(length)?);
        let kind = if cursor.u8()? == TagKind::Bare as u8 { TagKind::Bare } else { TagKind::Pair };
        let length = usize::from(cursor.u16()?);
        tags.push(Tag { key, kind, value: all.slice_ref(cursor.take(length)?) });
    }
    Ok(tags)
}

/// Tags for people.
pub(crate) fn show(tags: &[Tag]) -> String {
    let text: Vec<String> =
        tags.iter().map(|tag| format!("{}:{}", String::from_utf8_lossy(&tag.key), String::from_utf8_lossy(&tag.value))).collect();
    format!("{{{}}}", text.join(","))
}
