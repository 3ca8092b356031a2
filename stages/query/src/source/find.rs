//! Which series of some files are meant: by the tags of each file's dictionary, so that no series' labels are built that are not.
//!
//! A series stands in file after file and is known again by its tags. Pure: files and filter in, series out.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tailors_format::FormatError;
use tailors_format::chunk::{ChunkIndex, MetricEntry, ValueKind};
use tailors_model::source::{KeyTest, ReadLimits, SelectedSeries, SeriesFilter, SourceError};
use tailors_model::{MetricMeta, OrgId, Series, Tag};
use tailors_store::chunks::OpenFile;

use super::chunks::File;

/// Series of an org that pass the filter and have a point at `from_ms <= time < to_ms`.
pub(super) struct Wanted<'a> {
    pub(super) org: OrgId,
    pub(super) filter: &'a dyn SeriesFilter,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// (file, series in it), in window order.
pub(super) type Parts = Vec<(u32, u32)>;

/// Metrics of an org in a file.
pub(super) fn of_org(index: &ChunkIndex, org: OrgId) -> impl Iterator<Item = &MetricEntry> {
    let first = index.metrics().partition_point(|metric| metric.org < org);
    index.metrics()[first..].iter().take_while(move |metric| metric.org == org)
}

/// Goes through the wanted series of a file; damage of it is the source's error, what `each` returns is passed on.
fn each_series(
    file: &(File, OpenFile),
    wanted: &Wanted<'_>,
    mut each: impl FnMut(&ChunkIndex, &MetricEntry, u32) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let (Wanted { org, filter, .. }, index) = (wanted, file.1.index());
    let Range { start: from_ms, end: to_ms } = file.0.clip(&(wanted.from_ms..wanted.to_ms));
    // A day's file also holds points of windows that have newer ones.
    let is_whole =
        file.0.file.from_ms <= index.span().start_ms && file.0.file.to_ms >= index.span().start_ms + i64::from(index.span().span_ms);
    let counts = |series: u32| is_whole || index.points_between(series, file.0.file.from_ms, file.0.file.to_ms) > 0;
    let damaged = |error: FormatError| SourceError::Data(format!("{}: {error}", file.0.file.key));
    let inside = |first: i64, last: i64| first < to_ms && last >= from_ms;
    let of_filter = |metric: &&MetricEntry| filter.metric(&metric.metric) && inside(metric.min_ms, metric.max_ms);
    let metrics: Vec<&MetricEntry> = of_org(index, *org).filter(of_filter).collect();
    if metrics.is_empty() {
        return Ok(());
    }
    let test = filter.on_tags(index.tag_list().map_err(damaged)?, metrics.iter().map(|metric| metric.series.len()).sum());
    for metric in metrics {
        for series in metric.series.clone() {
            if !index.edges_of(series).is_some_and(|(first, last)| inside(first, last)) || !counts(series) {
                continue;
            }
            let known = test(&metric.metric, index.tag_numbers(series).map_err(damaged)?);
            let passes = match known {
                Some(passes) => passes,
                None => filter.series(&Series { metric: metric.metric.clone(), tags: index.tags(series).map_err(damaged)? }),
            };
            // Sketches and histograms are no samples yet.
            if passes && index.kind(series).map_err(damaged)? == ValueKind::Doubles {
                each(index, metric, series)?;
            }
        }
    }
    Ok(())
}

/// Found series in the order of their identity, each with where its points are.
pub(super) fn selected(
    files: &[(File, OpenFile)],
    wanted: &Wanted<'_>,
    limits: ReadLimits,
) -> Result<Vec<(SelectedSeries, Parts)>, SourceError> {
    let mut found: Vec<(SelectedSeries, Parts)> = Vec::new();
    let mut known: HashMap<Bytes, HashMap<Vec<Tag>, usize>> = HashMap::new();
    let (mut tags, mut points) = (Vec::new(), 0_u64);
    for (number, file) in files.iter().enumerate() {
        let damaged = |error: FormatError| SourceError::Data(format!("{}: {error}", file.0.file.key));
        each_series(file, wanted, |index, metric, series| {
            index.read_tags(series, &mut tags).map_err(damaged)?;
            if !known.contains_key(&metric.metric) {
                known.insert(metric.metric.clone(), HashMap::new());
            }
            let Some(slots) = known.get_mut(&metric.metric) else { return Ok(()) };
            let slot = slots.get(&tags).copied().unwrap_or_else(|| {
                let series = Arc::new(Series { metric: metric.metric.clone(), tags: tags.clone() });
                found.push((SelectedSeries { series, meta: MetricMeta::default(), points_max: 0 }, Vec::new()));
                slots.insert(tags.clone(), found.len() - 1);
                found.len() - 1
            });
            let count = u64::from(index.points_between(series, file.0.file.from_ms, file.0.file.to_ms));
            let (selected, parts) = &mut found[slot];
            // The newest metadata counts.
            selected.meta = index.meta(series).map_err(damaged)?.clone();
            selected.points_max += count;
            parts.push((number as u32, series));
            points += count;
            exceeds(found.len() as u64, limits.series, "series", "query.limits.series_max")?;
            exceeds(points, limits.points, "points", "query.limits.points_max")
        })?;
    }
    found.sort_by(|a, b| a.0.series.cmp(&b.0.series));
    Ok(found)
}

fn exceeds(value: u64, most: u64, what: &str, setting: &str) -> Result<(), SourceError> {
    if value <= most {
        return Ok(());
    }
    Err(SourceError::Limit(format!(
        "the query selects more than {most} {what} ({setting}): ask for a shorter range or use narrower matchers"
    )))
}

/// Keys of the tags of the wanted series.
pub(super) fn tag_keys(files: &[(File, OpenFile)], wanted: &Wanted<'_>) -> Result<BTreeSet<Bytes>, SourceError> {
    let mut keys = BTreeSet::new();
    for file in files {
        let damaged = |error: FormatError| SourceError::Data(format!("{}: {error}", file.0.file.key));
        let mut used: Vec<bool> = Vec::new();
        each_series(file, wanted, |index, _, series| {
            used.resize(index.tag_list().map_err(damaged)?.len(), false);
            index.tag_numbers(series).map_err(damaged)?.iter().for_each(|number| used[*number as usize] = true);
            Ok(())
        })?;
        if !used.is_empty() {
            let tags = file.1.index().tag_list().map_err(damaged)?;
            let found = tags.iter().zip(&used).filter(|(_, used)| **used).map(|(tag, _)| &tag.key);
            // Tags of a key lie together.
            let mut last = None;
            keys.extend(found.filter(|key| last.replace(*key) != Some(*key)).cloned());
        }
    }
    Ok(keys)
}

/// What the wanted series have of some keys, each list once.
pub(super) fn tag_lists(files: &[(File, OpenFile)], wanted: &Wanted<'_>, keys: KeyTest<'_>) -> Result<BTreeSet<Vec<Tag>>, SourceError> {
    let mut lists = BTreeSet::new();
    for file in files {
        let damaged = |error: FormatError| SourceError::Data(format!("{}: {error}", file.0.file.key));
        let mut meant: Option<Vec<bool>> = None;
        let mut own: BTreeSet<Vec<u32>> = BTreeSet::new();
        each_series(file, wanted, |index, _, series| {
            let meant = match &meant {
                Some(meant) => meant,
                None => meant.insert(meant_tags(index.tag_list().map_err(damaged)?, keys)),
            };
            let numbers = index.tag_numbers(series).map_err(damaged)?.iter().copied();
            own.insert(numbers.filter(|number| meant[*number as usize]).collect());
            Ok(())
        })?;
        if !own.is_empty() {
            let tags = file.1.index().tag_list().map_err(damaged)?;
            lists.extend(own.into_iter().map(|numbers| numbers.into_iter().map(|number| tags[number as usize].clone()).collect()));
        }
    }
    Ok(lists)
}

/// Of each tag, whether its key is meant; each key is asked for once.
fn meant_tags(tags: &[Tag], keys: KeyTest<'_>) -> Vec<bool> {
    let chunks = tags.chunk_by(|a, b| a.key == b.key);
    chunks.flat_map(|same| std::iter::repeat_n(same.first().is_some_and(|tag| keys(&tag.key)), same.len())).collect()
}
