//! Which series of a file have which tags: by a test of each tag set, by tests of single tags, or by all their tags.

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

impl ChunkIndex {
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
