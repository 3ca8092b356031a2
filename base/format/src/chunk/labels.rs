//! Labels: tag keys, tags and tag sets of a file, each once. Series name a tag set by number.
//!
//! ```text
//! labels   keys varint | strings
//!          tags varint, sorted | key of each | kind of each (0 bare, 1 pair) | value strings
//!          tag sets varint, sorted by tag numbers | tags of each | per place: tag number there of each set that has so many
//! ```
//! Tag numbers follow the canonical order, so a sorted set of numbers is a canonical tag list. Postings follow from the sets when a file is opened.

use bytes::Bytes;
use hashbrown::HashTable;
use tailors_model::limits::{SERIES_TAGS_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX};
use tailors_model::{Tag, TagKind};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::column::{put_column, put_strings, take_bounded, take_strings};
use crate::FormatError;
use crate::bytes::{Cursor, put_varint};

const WHAT: &str = "chunk file labels";

/// Labels of an opened file.
#[derive(Debug, Default)]
pub(super) struct Labels {
    tags: Vec<Tag>,
    /// Where each set ends in `numbers`.
    ends: Vec<u32>,
    numbers: Vec<u32>,
}

/// Tags of some series, by numbers: each distinct tag once.
#[derive(Clone, Debug, Default)]
pub(super) struct TagSets {
    /// In canonical order, so sets of numbers sort as sets of tags do.
    tags: Vec<Tag>,
    /// Where each series ends in `numbers`.
    ends: Vec<u32>,
    numbers: Vec<u32>,
}

impl TagSets {
    pub(super) fn of<'a>(series: impl Iterator<Item = &'a [Tag]>) -> Self {
        let series: Vec<&[Tag]> = series.collect();
        let (tags, numbers) = number_tags(&series);
        let mut end = 0;
        let ends = series.iter().map(|set| {
            end += set.len() as u32;
            end
        });
        Self { ends: ends.collect(), tags: tags.into_iter().cloned().collect(), numbers }
    }

    pub(super) fn set(&self, series: usize) -> &[u32] {
        set(&self.ends, &self.numbers, series)
    }

    /// With the series in this order.
    pub(super) fn in_order(self, order: impl Iterator<Item = usize>) -> Self {
        let (mut ends, mut numbers) = (Vec::with_capacity(self.ends.len()), Vec::with_capacity(self.numbers.len()));
        for series in order {
            numbers.extend_from_slice(self.set(series));
            ends.push(numbers.len() as u32);
        }
        Self { ends, numbers, ..self }
    }
}

fn set<'a>(ends: &[u32], numbers: &'a [u32], set: usize) -> &'a [u32] {
    let start = set.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0) as usize;
    ends.get(set).and_then(|end| numbers.get(start..*end as usize)).unwrap_or(&[])
}

/// The section for the series of these buckets, and the tag set of each series.
pub(super) fn put_labels(buckets: &[&TagSets]) -> Result<(Vec<u8>, Vec<u64>), FormatError> {
    let (tags, new_numbers) = number_tags(&buckets.iter().map(|bucket| bucket.tags.as_slice()).collect::<Vec<_>>());
    if let Some(tag) = tags.iter().find(|tag| tag.key.len() > TAG_KEY_BYTES_MAX || tag.value.len() > TAG_VALUE_BYTES_MAX) {
        return Err(FormatError::invalid(WHAT, format!("tag of {} + {} bytes", tag.key.len(), tag.value.len())));
    }
    let (mut numbers, mut rest): (Vec<u32>, _) = (Vec::new(), new_numbers.as_slice());
    for bucket in buckets {
        let (new_numbers, after) = rest.split_at(bucket.tags.len());
        numbers.extend(bucket.numbers.iter().map(|number| new_numbers[*number as usize]));
        rest = after;
    }
    let mut rest = numbers.as_slice();
    let own = buckets.iter().flat_map(|bucket| (0..bucket.ends.len()).map(|series| bucket.set(series).len())).map(|length| {
        let (own, after) = rest.split_at(length);
        rest = after;
        own
    });
    let own: Vec<&[u32]> = own.collect();
    if own.iter().any(|set| set.len() > SERIES_TAGS_MAX) {
        return Err(FormatError::invalid(WHAT, "series of more tags than the limit"));
    }
    let mut order: Vec<u32> = (0..own.len() as u32).collect();
    // Series come as runs in order, of which a stable sort makes use.
    order.sort_by_key(|series| own[*series as usize]);
    let (mut sets, mut of_series): (Vec<&[u32]>, Vec<u64>) = (Vec::new(), vec![0; own.len()]);
    for number in order {
        let set = own[number as usize];
        if sets.last() != Some(&set) {
            sets.push(set);
        }
        of_series[number as usize] = sets.len() as u64 - 1;
    }
    let mut keys: Vec<&Bytes> = Vec::new();
    let key_numbers = tags.iter().map(|tag| {
        if keys.last() != Some(&&tag.key) {
            keys.push(&tag.key);
        }
        keys.len() as u64 - 1
    });
    let key_numbers: Vec<u64> = key_numbers.collect();
    let mut out = Vec::new();
    put_varint(&mut out, keys.len() as u64);
    put_strings(&mut out, keys.iter().map(|key| key.as_ref()))?;
    put_varint(&mut out, tags.len() as u64);
    put_column(&mut out, &key_numbers)?;
    put_column(&mut out, &tags.iter().map(|tag| tag.kind as u64).collect::<Vec<_>>())?;
    put_strings(&mut out, tags.iter().map(|tag| tag.value.as_ref()))?;
    put_varint(&mut out, sets.len() as u64);
    put_column(&mut out, &sets.iter().map(|set| set.len() as u64).collect::<Vec<_>>())?;
    for place in 0..sets.iter().map(|set| set.len()).max().unwrap_or(0) {
        put_column(&mut out, &sets.iter().filter_map(|set| set.get(place)).map(|number| u64::from(*number)).collect::<Vec<_>>())?;
    }
    Ok((out, of_series))
}

/// Distinct tags in canonical order, and the number of each tag of each list, one list after the other.
fn number_tags<'a>(lists: &[&'a [Tag]]) -> (Vec<&'a Tag>, Vec<u32>) {
    let hash = |tag: &Tag| xxh3_64_with_seed(&tag.value, xxh3_64(&tag.key).wrapping_add(tag.kind as u64));
    let mut tags: Vec<(&Tag, u64)> = Vec::new();
    let mut known: HashTable<u32> = HashTable::new();
    let mut numbers: Vec<u32> = Vec::with_capacity(lists.iter().map(|list| list.len()).sum());
    // Lists come sorted: most places have the tag of the list before.
    let mut before: Vec<(&Tag, u32)> = Vec::new();
    for (place, tag) in lists.iter().flat_map(|list| list.iter().enumerate()) {
        if let Some((_, number)) = before.get(place).filter(|(last, _)| *last == tag) {
            numbers.push(*number);
            continue;
        }
        let own = hash(tag);
        let same = |number: &u32| tags[*number as usize].0 == tag;
        let number = known.find(own, same).copied().unwrap_or_else(|| {
            known.insert_unique(own, tags.len() as u32, |number| tags[*number as usize].1);
            tags.push((tag, own));
            tags.len() as u32 - 1
        });
        match before.get_mut(place) {
            Some(last) => *last = (tag, number),
            // Places come in turn.
            None => before.push((tag, number)),
        }
        numbers.push(number);
    }
    let mut order: Vec<u32> = (0..tags.len() as u32).collect();
    // Tags of one key were found as runs in order, of which a stable sort makes use.
    order.sort_by_key(|number| &tags[*number as usize].0.key);
    order.sort_by_key(|number| tags[*number as usize].0);
    let mut place = vec![0; tags.len()];
    (0u32..).zip(&order).for_each(|(at, number)| place[*number as usize] = at);
    numbers.iter_mut().for_each(|number| *number = place[*number as usize]);
    (order.into_iter().map(|number| tags[number as usize].0).collect(), numbers)
}

impl Labels {
    /// Reads the section, within so many bytes of memory.
    pub(super) fn read(bytes: &[u8], allowance: u64) -> Result<Self, FormatError> {
        let mut cursor = Cursor::within(WHAT, bytes, allowance);
        let size = |count: u64| usize::try_from(count).map_err(|_| FormatError::invalid(WHAT, "too many"));
        let keys = size(cursor.varint()?)?;
        let keys = take_strings(WHAT, &mut cursor, keys, TAG_KEY_BYTES_MAX)?;
        let count = size(cursor.varint()?)?;
        let tag_keys = take_bounded(WHAT, &mut cursor, count, keys.len().saturating_sub(1) as u64)?;
        let kinds = take_bounded(WHAT, &mut cursor, count, 1)?;
        let values = take_strings(WHAT, &mut cursor, count, TAG_VALUE_BYTES_MAX)?;
        cursor.pay(count, size_of::<Tag>())?;
        let mut tags: Vec<Tag> = Vec::with_capacity(count);
        for ((key, kind), value) in tag_keys.into_iter().zip(kinds).zip(values) {
            let key: Bytes = keys.get(key as usize).cloned().ok_or_else(|| FormatError::invalid(WHAT, "tag without a key"))?;
            tags.push(Tag { key, kind: if kind == 0 { TagKind::Bare } else { TagKind::Pair }, value });
        }
        let sets = size(cursor.varint()?)?;
        let lengths = take_bounded(WHAT, &mut cursor, sets, SERIES_TAGS_MAX as u64)?;
        let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        if total > u64::from(u32::MAX) {
            return Err(FormatError::invalid(WHAT, "too many tags"));
        }
        let most = tags.len().saturating_sub(1) as u64;
        cursor.pay(sets, size_of::<u32>())?;
        let mut end = 0;
        let ends = lengths.iter().map(|length| {
            end += length;
            end
        });
        let ends: Vec<u32> = ends.collect();
        let start = |set: u32| set.checked_sub(1).map_or(0, |before| ends[before as usize]);
        // Sets that have a tag at the place and beyond: one long set makes no others be walked at each of its places.
        let (mut open, mut set) = (lengths, 0);
        open.retain_mut(|slot| {
            let length = std::mem::replace(slot, set);
            set += 1;
            length > 0
        });
        let (mut numbers, mut place): (Vec<u32>, u32) = (Vec::new(), 0);
        while !open.is_empty() {
            let column = take_bounded(WHAT, &mut cursor, open.len(), most)?;
            if numbers.is_empty() {
                cursor.pay(size(total)?, size_of::<u32>())?;
                numbers.resize(size(total)?, 0);
            }
            for (set, number) in open.iter().zip(column) {
                numbers[(start(*set) + place) as usize] = number;
            }
            place += 1;
            open.retain(|set| ends[*set as usize] - start(*set) > place);
        }
        cursor.finish()?;
        let labels = Self { tags, ends, numbers };
        let canonical = labels.tags.is_sorted_by(|a, b| a < b)
            && (0..sets).all(|set| labels.set(set).is_sorted_by(|a, b| a < b))
            && (1..sets).all(|set| labels.set(set - 1) < labels.set(set));
        if canonical { Ok(labels) } else { Err(FormatError::invalid(WHAT, "tags out of order")) }
    }

    /// Tag sets.
    pub(super) fn sets(&self) -> usize {
        self.ends.len()
    }

    /// All tags, in canonical order.
    pub(super) fn list(&self) -> &[Tag] {
        &self.tags
    }

    /// Tags with this key, and the number of the first.
    pub(super) fn of_key(&self, key: &[u8]) -> (u32, &[Tag]) {
        let from = self.tags.partition_point(|tag| &tag.key[..] < key);
        let to = self.tags.partition_point(|tag| &tag.key[..] <= key);
        (from as u32, self.tags.get(from..to).unwrap_or(&[]))
    }

    /// The set of exactly these canonical tags.
    pub(super) fn find(&self, tags: &[Tag]) -> Option<u32> {
        let numbers: Option<Vec<u32>> = tags.iter().map(|tag| Some(self.tags.binary_search(tag).ok()? as u32)).collect();
        let (numbers, mut low, mut high) = (numbers?, 0, self.sets());
        while low < high {
            let middle = low.midpoint(high);
            match self.set(middle).cmp(&numbers) {
                std::cmp::Ordering::Equal => return Some(middle as u32),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    pub(super) fn set(&self, set: usize) -> &[u32] {
        self::set(&self.ends, &self.numbers, set)
    }

    /// A tag by its number.
    pub(super) fn tag(&self, number: u32) -> Option<&Tag> {
        self.tags.get(number as usize)
    }

    /// Canonical tags of a set.
    pub(super) fn tags(&self, set: u32, out: &mut Vec<Tag>) {
        out.clear();
        out.extend(self.set(set as usize).iter().filter_map(|number| self.tags.get(*number as usize)).cloned());
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let strings: usize = self.tags.iter().map(|tag| tag.value.len()).sum();
        strings + self.tags.capacity() * size_of::<Tag>() + (self.ends.capacity() + self.numbers.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reader fills in sets place by place and drops those that have ended: each length meets each other.
    #[test]
    fn sets_of_all_lengths_are_read_as_written() {
        let set = |length: usize, of: usize| {
            let mut tags: Vec<Tag> = (0..length).map(|tag| Tag::pair(format!("key{tag:03}"), format!("{}", tag * of % 7))).collect();
            tailors_model::canonical_tags(&mut tags);
            tags
        };
        let series: Vec<Vec<Tag>> = (0..400).map(|at| set(at * 37 % (SERIES_TAGS_MAX + 1), at % 5)).collect();
        let (one, other) = series.split_at(150);
        let buckets = [one, other].map(|own| TagSets::of(own.iter().map(Vec::as_slice)));
        let (bytes, sets) = put_labels(&buckets.each_ref()).unwrap();
        let labels = Labels::read(&bytes, 1 << 24).unwrap();
        let mut tags = Vec::new();
        for (series, set) in series.iter().zip(sets) {
            labels.tags(set as u32, &mut tags);
            assert_eq!(tags, *series);
        }
        let too_many = TagSets::of([set(SERIES_TAGS_MAX + 1, 1).as_slice()].into_iter());
        assert!(put_labels(&[&too_many]).is_err());
    }
}
