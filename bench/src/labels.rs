//! Bench `labels`: finding series of one window by their tags, the index being cached.
//!
//! In: 10^6 series of one metric: 10,000 hosts with 100 devices each, every series with an id of its own (32 hexadecimal digits). Out: milliseconds of
//! computing from a matcher to the numbers of its series, on one core; what a cold index costs; bytes per series of index and labels, ids apart. What each
//! matcher finds is counted and compared with a look at every series.

use bytes::Bytes;
use regex::Regex;
use tailors_format::chunk::{BucketInput, ChunkIndex, SeriesColumn, assemble, encode_bucket};
use tailors_model::matcher::ValueMatcher;
use tailors_model::{MetricMeta, Tag, TagKind};

use crate::Outcome;
use crate::codec::{self, shard};
use crate::data::{ORG, SPAN};
use crate::report::Row;
use crate::timing::computed_mean_s;

const DEVICES: u32 = 100;
/// Milliseconds within which any matcher must have its series.
const REACH_MS: f64 = 50.0;

/// (what, key, pattern of whole values, wanted or not)
const MATCHERS: [(&str, &str, &str, bool); 14] = [
    ("uid exact", "uid", "{uid}", true),
    ("uid prefix", "uid", "ab.*", true),
    ("uid contains", "uid", ".*beef.*", true),
    ("uid ends with", "uid", ".*7", true),
    ("uid regex with a beginning", "uid", "a[0-9]+b.*", true),
    ("uid regex", "uid", ".*[0-4]f[0-9]{3}.*", true),
    ("uid negative regex", "uid", ".*[0-4]f[0-9]{3}.*", false),
    ("uid any", "uid", ".+", true),
    ("host exact", "host", "host-00042", true),
    ("host list", "host", "host-00001|host-00017|host-01234", true),
    ("host prefix", "host", "host-000.*", true),
    ("host regex", "host", "host-.*[02468]", true),
    ("host negative regex", "host", "host-0[0-4].*", false),
    ("device and host", "device", "sd[0-9]", true),
];

/// All rows.
pub(crate) fn run(quick: bool) -> Outcome<Vec<Row>> {
    let hosts = if quick { 1_000 } else { 10_000 };
    let mut rows = Vec::new();
    let plain = files(hosts, false)?;
    let with_uids = files(hosts, true)?;
    let bytes = |files: &[Vec<u8>]| -> Outcome<(u64, u64)> {
        let mut sums = (0, 0);
        for (index, bytes) in open(files)?.iter().zip(files) {
            let parts = index.report().parts;
            let part = |name: &str| parts.iter().filter(|part| part.0 == name).map(|part| part.1).sum::<u64>();
            sums.0 += part("labels");
            sums.1 += bytes.len() as u64 - part("header") - part("pages") - part("page checksums") - part("labels");
        }
        Ok(sums)
    };
    let series = f64::from(hosts * DEVICES);
    let ((labels, index), (labels_with_uids, _)) = (bytes(&plain)?, bytes(&with_uids)?);
    rows.push(Row::lower("index without labels", index as f64 / series, "B/series").reach(8.0));
    rows.push(Row::lower("labels without ids", labels as f64 / series, "B/series"));
    rows.push(Row::lower("ids of 16 random bytes each", (labels_with_uids - labels) as f64 / series, "B/series"));
    measure_matchers(&with_uids, series, quick, &mut rows)?;
    Ok(rows)
}

fn measure_matchers(files: &[Vec<u8>], series: f64, quick: bool, rows: &mut Vec<Row>) -> Outcome<()> {
    let open_s = computed_mean_s(3, || open(files))?;
    let with_labels_s =
        computed_mean_s(3, || -> Outcome<()> { open(files)?.iter().try_for_each(|index| Ok(index.tag_list().map(|_| ())?)) })?;
    rows.push(Row::lower("parse a cold index", open_s * 1e3, "ms CPU"));
    rows.push(Row::lower("parse its labels", (with_labels_s - open_s) * 1e3, "ms CPU"));
    let indexes = open(files)?;
    indexes.iter().try_for_each(|index| index.tag_list().map(|_| ()))?;
    let memory: usize = indexes.iter().map(ChunkIndex::memory_bytes).sum();
    rows.push(Row::lower("memory of index and labels", memory as f64 / series, "B/series"));
    let some_uid = uid(4_711);
    let matcher = |pattern: &str| Outcome::Ok(ValueMatcher::regex(&Regex::new(&format!("^(?:{})$", pattern.replace("{uid}", &some_uid)))?));
    for (name, key, pattern, wanted) in MATCHERS {
        let mut conditions = vec![(key, matcher(pattern)?, wanted)];
        if name.contains(" and ") {
            conditions.push(("host", matcher("host-00.*")?, true));
        }
        let mut found = 0;
        let seconds = computed_mean_s(10, || -> Outcome<()> {
            found = 0;
            for index in &indexes {
                found += select(index, &conditions)?;
            }
            Ok(())
        })?;
        if found != expected(&indexes, &conditions)? {
            return Err(format!("{name}: {found} series found, others are meant").into());
        }
        let row = Row::lower(format!("{name}: {found} of {series}"), seconds * 1e3, "ms CPU");
        rows.push(if quick { row } else { row.reach(REACH_MS) });
    }
    Ok(())
}

type Condition<'a> = (&'a str, ValueMatcher, bool);

fn select(index: &ChunkIndex, conditions: &[Condition<'_>]) -> Outcome<usize> {
    let marks = conditions.iter().map(|(key, matcher, wanted)| Ok((index.mark_values(key.as_bytes(), matcher)?, *wanted)));
    let marks = marks.collect::<Outcome<Vec<_>>>()?;
    Ok(index.select_marked(ORG, 0, &marks)?.len())
}

/// Each series by itself.
fn expected(indexes: &[ChunkIndex], conditions: &[Condition<'_>]) -> Outcome<usize> {
    let fits = |tags: &[Tag]| {
        conditions.iter().all(|(key, matcher, wanted)| {
            let own = tags.iter().find(|tag| &tag.key[..] == key.as_bytes()).map_or(&b""[..], |tag| &tag.value);
            matcher.is_match(TagKind::Pair, own) == *wanted
        })
    };
    let mut found = 0;
    for index in indexes {
        found += index.select(ORG, 0, &mut |tags| fits(tags))?.len();
    }
    Ok(found)
}

fn open(files: &[Vec<u8>]) -> Outcome<Vec<ChunkIndex>> {
    files.iter().map(|bytes| codec::open(bytes)).collect()
}

/// 32 digits that say nothing of each other.
fn uid(number: u64) -> String {
    let half = |seed: u64| {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    format!("{:016x}{:016x}", half(number), half(number + (1 << 40)))
}

/// Files of one window, two points a series.
fn files(hosts: u32, with_uids: bool) -> Outcome<Vec<Vec<u8>>> {
    let texts = |n: u32, text: fn(u32) -> String| (0..n).map(|i| Bytes::from(text(i))).collect::<Vec<_>>();
    let (hosts, devices) = (texts(hosts, |i| format!("host-{i:05}")), texts(DEVICES, |i| format!("sd{i}")));
    let [host_key, device_key, uid_key] = ["host", "device", "uid"].map(|key| Bytes::from_static(key.as_bytes()));
    let mut series = Vec::with_capacity(hosts.len() * devices.len());
    for host in &hosts {
        for device in &devices {
            let number = series.len() as u64;
            let mut tags = vec![Tag::pair(device_key.clone(), device.clone()), Tag::pair(host_key.clone(), host.clone())];
            if with_uids {
                tags.push(Tag::pair(uid_key.clone(), uid(number)));
            }
            let values = vec![(number % 977) as f64, (number % 1_009) as f64];
            series.push(SeriesColumn { tags, meta: MetricMeta::default(), timestamps: vec![0, 60_000], values: values.into() });
        }
    }
    let input = BucketInput { org: ORG, metric: Bytes::from_static(b"disk.used"), meta: MetricMeta::default(), series };
    let encoded = encode_bucket(&input)?;
    drop(input);
    Ok(assemble(shard(), SPAN, vec![encoded])?.into_iter().map(|file| file.bytes).collect())
}
