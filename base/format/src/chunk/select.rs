//! Which series of a file have which tags: by a test of each tag set, by tests of single tags, or by all their tags.

use std::collections::BTreeMap;
use std::ops::Range;

use tailors_model::matcher::ValueMatcher;
use tailors_model::{OrgId, Tag};

use super::ChunkIndex;
use super::layout::WHAT;
use crate::FormatError;

/// Tags of one key of a file, each marked or not; see [`ChunkIndex::mark_tags`].
#[derive(Clone, Debug)]
pub struct TagMarks {
    /// Numbers of the tags with the key.
    first: u32,
    marked: Vec<bool>,
}

impl TagMarks {
    fn is_in(&self, set: &[u32]) -> bool {
        set.iter().any(|number| number.checked_sub(self.first).is_some_and(|at| self.marked.get(at as usize).copied().unwrap_or(false)))
    }
}

/// Series of a file by what they have of some keys; see [`ChunkIndex::group`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Groups {
    /// Canonical tags of each group, sorted.
    pub tags: Vec<Vec<Tag>>,
    /// (series, group), sorted.
    of: Vec<(u32, u32)>,
}

impl Groups {
    /// Group of a series, a position in `tags`; `None` if the series was not asked for.
    pub fn of(&self, series: u32) -> Option<usize> {
        let at = self.of.binary_search_by_key(&series, |(series, _)| *series).ok()?;
        self.of.get(at).map(|(_, group)| *group as usize)
    }
}

impl ChunkIndex {
    /// Groups series by their tags of these keys; a series that has none of them is in the group of no tags.
    ///
    /// # Errors
    /// Damage of the labels; a number that is no series of this file: a bug of the caller.
    pub fn group(&self, series: &[u32], keys: &[&[u8]]) -> Result<Groups, FormatError> {
        let labels = self.labels()?;
        let numbers = keys.iter().map(|key| {
            let (first, tags) = labels.of_key(key);
            first..first + tags.len() as u32
        });
        let numbers: Vec<Range<u32>> = numbers.collect();
        let mut wanted: Vec<u32> = series.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        // Tag numbers follow the canonical order: so do the groups.
        let mut groups: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut own: Vec<(u32, Vec<u32>)> = Vec::with_capacity(wanted.len());
        for series in wanted {
            let set = labels.set(self.entry(series)?.set as usize);
            let kept: Vec<u32> = set.iter().copied().filter(|tag| numbers.iter().any(|own| own.contains(tag))).collect();
            groups.entry(kept.clone()).or_default();
            own.push((series, kept));
        }
        groups.values_mut().zip(0..).for_each(|(group, at)| *group = at);
        let of = own.into_iter().map(|(series, kept)| (series, groups.get(&kept).copied().unwrap_or(0))).collect();
        let tags = groups.keys().map(|kept| kept.iter().filter_map(|tag| labels.tag(*tag)).cloned().collect()).collect();
        Ok(Groups { tags, of })
    }

    /// Series of a metric (position in [`Self::metrics`]) whose tags pass the filter; none when the metric is not of `org`.
    ///
    /// # Errors
    /// A position that is no metric of this file: a bug of the caller.
    pub fn select(&self, org: OrgId, metric_index: usize, filter: &mut dyn FnMut(&[Tag]) -> bool) -> Result<Vec<u32>, FormatError> {
        let metric = self.metrics.get(metric_index).ok_or_else(|| FormatError::invalid(WHAT, format!("no metric {metric_index}")))?;
        if metric.org != org {
            return Ok(Vec::new());
        }
        let (mut tags, mut selected, labels) = (Vec::new(), Vec::new(), self.labels()?);
        for series in metric.series.clone() {
            labels.tags(self.entry(series)?.set, &mut tags);
            if filter(&tags) {
                selected.push(series);
            }
        }
        Ok(selected)
    }

    /// Marks the tags of a key that pass. Each distinct tag of the file is tested once, however many series have it.
    ///
    /// # Errors
    /// Damage of the labels.
    pub fn mark_tags(&self, key: &[u8], test: &mut dyn FnMut(&Tag) -> bool) -> Result<TagMarks, FormatError> {
        let (first, tags) = self.labels()?.of_key(key);
        Ok(TagMarks { first, marked: tags.iter().map(test).collect() })
    }

    /// Marks the tags of a key whose value matches.
    ///
    /// # Errors
    /// Damage of the labels.
    pub fn mark_values(&self, key: &[u8], matcher: &ValueMatcher) -> Result<TagMarks, FormatError> {
        let (first, tags) = self.labels()?.of_key(key);
        Ok(TagMarks { first, marked: matcher.mark(tags) })
    }

    /// Every distinct tag of the file in canonical order: a tag's number is its position.
    ///
    /// # Errors
    /// Damage of the labels.
    pub fn tag_list(&self) -> Result<&[Tag], FormatError> {
        Ok(self.labels()?.list())
    }

    /// Numbers of a series' tags, ascending.
    ///
    /// # Errors
    /// Damage of the labels; a number that is no series of this file: a bug of the caller.
    pub fn tag_numbers(&self, series: u32) -> Result<&[u32], FormatError> {
        Ok(self.labels()?.set(self.entry(series)?.set as usize))
    }

    /// Canonical tags of a series into `out`, in place of what is there.
    ///
    /// # Errors
    /// As [`Self::tag_numbers`].
    pub fn read_tags(&self, series: u32, out: &mut Vec<Tag>) -> Result<(), FormatError> {
        self.labels()?.tags(self.entry(series)?.set, out);
        Ok(())
    }

    /// Series of a metric that have (`true`) or lack (`false`) one of the marked tags, for each condition; none when the metric is not of `org`.
    ///
    /// # Errors
    /// Damage of the labels; a position that is no metric of this file: a bug of the caller.
    pub fn select_marked(&self, org: OrgId, metric_index: usize, conditions: &[(TagMarks, bool)]) -> Result<Vec<u32>, FormatError> {
        let metric = self.metrics.get(metric_index).ok_or_else(|| FormatError::invalid(WHAT, format!("no metric {metric_index}")))?;
        if metric.org != org {
            return Ok(Vec::new());
        }
        let labels = self.labels()?;
        let passes = |series: &u32| {
            let set = self.series.get(*series as usize).map_or(&[][..], |entry| labels.set(entry.set as usize));
            conditions.iter().all(|(marks, wanted)| marks.is_in(set) == *wanted)
        };
        Ok(metric.series.clone().filter(passes).collect())
    }

    /// Series with exactly these canonical tags; several if the builder cut it by time.
    ///
    /// # Errors
    /// Damage of the labels.
    pub fn find(&self, org: OrgId, metric: &[u8], tags: &[Tag]) -> Result<Vec<u32>, FormatError> {
        let place = self.metrics.binary_search_by(|entry| (entry.org, &entry.metric[..]).cmp(&(org, metric)));
        let Some(metric) = place.ok().and_then(|place| self.metrics.get(place)) else { return Ok(Vec::new()) };
        let Some(set) = self.labels()?.find(tags) else { return Ok(Vec::new()) };
        Ok(metric.series.clone().filter(|series| self.series.get(*series as usize).is_some_and(|entry| entry.set == set)).collect())
    }
}
