//! `/labels`, `/label/{name}/values`, `/series`, `/metadata`: what is stored, from the files' indexes alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use serde_json::json;
use tailors_model::source::{KeyTest, PartialRange, PinnedSource, ReadLimits, SelectedSeries, SeriesFilter, TagTest};
use tailors_model::{MetricKind, MetricMeta, Series, Tag, limits};

use super::params::Params;
use super::{QueryDeps, answer};
use crate::error::{self, QueryError};
use crate::promql::labels::{NAME, text, translates_to, unescape};
use crate::promql::selector::Selector;
use crate::promql::{Labels, selectors, value};

/// Windows that metadata is looked up in, newest first: a week.
const METADATA_WINDOWS: usize = 42;

struct All;

impl SeriesFilter for All {
    fn metric(&self, _: &[u8]) -> bool {
        true
    }

    fn series(&self, _: &Series) -> bool {
        true
    }

    fn on_tags<'a>(&'a self, _: &'a [Tag], _: usize) -> TagTest<'a> {
        Box::new(|_, _| Some(true))
    }
}

/// A request about stored names: pinned source, range, what may be partial.
struct Lookup {
    params: Params,
    source: Arc<dyn PinnedSource>,
    from_ms: i64,
    to_ms: i64,
    warnings: Vec<String>,
}

impl Lookup {
    async fn of(deps: &QueryDeps, request: Request) -> Result<Self, QueryError> {
        let params = Params::of(request).await?;
        let source = deps.source.pin(deps.clock.now_ms(), false).await?;
        let from_ms = params.time_ms("start")?.unwrap_or(limits::TIME_MIN_MS);
        let to_ms = params.time_ms("end")?.unwrap_or(limits::TIME_MAX_MS).saturating_add(1);
        // An end before the start finds nothing, as in Prometheus.
        let to_ms = to_ms.max(from_ms);
        Ok(Self { params, source, from_ms, to_ms, warnings: Vec::new() })
    }

    /// The selectors of `match[]` and the metric names that they are resolved on; no selectors: all series.
    async fn wanted(&self) -> Result<(Vec<Selector>, Vec<Bytes>), QueryError> {
        let selectors = self.params.all("match[]").map(selectors).collect::<Result<Vec<_>, _>>()?;
        if selectors.is_empty() {
            return Ok((selectors, Vec::new()));
        }
        let names = self.source.metrics(self.params.org, self.from_ms, self.to_ms, self.params.allow_partial()).await?;
        Ok((selectors, names))
    }

    /// What can't be read becomes a warning.
    fn warn(&mut self, mut partial: Vec<PartialRange>) {
        partial.sort();
        partial.dedup();
        let texts =
            partial.iter().map(|(from, to, why)| format!("partial answer: [{from}, {to}) ms can't be read: {why} [{}]", error::DATA));
        let new: Vec<String> = texts.filter(|text| !self.warnings.contains(text)).collect();
        self.warnings.extend(new);
    }

    /// The series that `match[]` selects, all when there is none.
    async fn select(&mut self, series_max: u64) -> Result<Vec<SelectedSeries>, QueryError> {
        let read = ReadLimits { series: series_max, points: u64::MAX, allow_partial: self.params.allow_partial() };
        let (mut found, mut partial, wanted) = (BTreeMap::new(), Vec::new(), self.wanted().await?);
        for filter in filters(&wanted) {
            let selection = self.source.select(self.params.org, &*filter, self.from_ms, self.to_ms, read).await?;
            found.extend(selection.series().iter().map(|found| (found.series.clone(), found.clone())));
            partial.append(&mut selection.partial());
        }
        self.warn(partial);
        Ok(found.into_values().collect())
    }

    /// Keys of the tags of those series.
    async fn keys(&mut self) -> Result<BTreeSet<Bytes>, QueryError> {
        let (mut found, mut partial, wanted) = (BTreeSet::new(), Vec::new(), self.wanted().await?);
        for filter in filters(&wanted) {
            let (org, allow_partial) = (self.params.org, self.params.allow_partial());
            let (own, mut unread) = self.source.tag_keys(org, &*filter, self.from_ms, self.to_ms, allow_partial).await?;
            found.extend(own);
            partial.append(&mut unread);
        }
        self.warn(partial);
        Ok(found)
    }

    /// What those series have of some keys.
    async fn tags(&mut self, keys: KeyTest<'_>) -> Result<Vec<Vec<Tag>>, QueryError> {
        let (mut found, mut partial, wanted) = (Vec::new(), Vec::new(), self.wanted().await?);
        for filter in filters(&wanted) {
            let (org, allow_partial) = (self.params.org, self.params.allow_partial());
            let (mut own, mut unread) = self.source.tag_lists(org, &*filter, keys, self.from_ms, self.to_ms, allow_partial).await?;
            found.append(&mut own);
            partial.append(&mut unread);
        }
        self.warn(partial);
        Ok(found)
    }

    /// The list, cut at `limit`.
    fn list(mut self, mut items: Vec<String>) -> Result<Response, QueryError> {
        let limit = self.params.count("limit")?;
        if limit > 0 && items.len() > limit {
            items.truncate(limit);
            self.warnings.push("results truncated due to limit".to_owned());
        }
        Ok(answer::data_with(&json!(items).to_string(), &self.warnings))
    }
}

fn filters((selectors, names): &(Vec<Selector>, Vec<Bytes>)) -> Vec<Box<dyn SeriesFilter + '_>> {
    if selectors.is_empty() {
        return vec![Box::new(All)];
    }
    selectors.iter().map(|selector| -> Box<dyn SeriesFilter> { Box::new(selector.resolve(names).0) }).collect()
}

/// Names of labels.
pub(super) async fn names(State(deps): State<QueryDeps>, request: Request) -> Result<Response, QueryError> {
    let mut lookup = Lookup::of(&deps, request).await?;
    let mut names = lookup.keys().await?;
    if !names.is_empty() || !lookup.tags(&|_| false).await?.is_empty() {
        names.insert(NAME.into());
    }
    lookup.list(names.iter().map(|name| text(name).to_string()).collect())
}

/// Values of a label.
pub(super) async fn values(State(deps): State<QueryDeps>, Path(name): Path<String>, request: Request) -> Result<Response, QueryError> {
    let mut lookup = Lookup::of(&deps, request).await?;
    let name = unescape(&name);
    if name == NAME && lookup.params.all("match[]").next().is_none() {
        // The metrics' names need no look at any tag.
        let names = lookup.source.metrics(lookup.params.org, lookup.from_ms, lookup.to_ms, lookup.params.allow_partial()).await?;
        return lookup.list(names.iter().map(|name| text(name).to_string()).collect());
    }
    let values: BTreeSet<String> = if name == NAME {
        lookup.select(u64::MAX).await?.iter().map(|found| text(&found.series.metric).to_string()).collect()
    } else {
        let keys = |key: &[u8]| {
            let key = text(key);
            *key == *name || translates_to(&key, &name)
        };
        let labels = |tags| Labels::of_series(&Series { metric: Bytes::new(), tags });
        lookup.tags(&keys).await?.into_iter().filter_map(|tags| labels(tags).resolve(&name).map(|value| value.to_string())).collect()
    };
    lookup.list(values.into_iter().collect())
}

/// Label sets.
pub(super) async fn series(State(deps): State<QueryDeps>, request: Request) -> Result<Response, QueryError> {
    let mut lookup = Lookup::of(&deps, request).await?;
    if lookup.params.all("match[]").next().is_none() {
        return Err(QueryError::bad(error::PARAMETER, "no match[] parameter provided"));
    }
    let found = lookup.select(deps.limits.series_max).await?;
    let sets: BTreeSet<Labels> = found.iter().map(|found| Labels::of_series(&found.series)).collect();
    let limit = lookup.params.count("limit")?;
    if limit > 0 && sets.len() > limit {
        lookup.warnings.push("results truncated due to limit".to_owned());
    }
    let mut out = String::from("[");
    for (i, labels) in sets.iter().take(if limit > 0 { limit } else { usize::MAX }).enumerate() {
        if i > 0 {
            out.push(',');
        }
        value::write_labels(&mut out, labels);
    }
    out.push(']');
    Ok(answer::data_with(&out, &lookup.warnings))
}

/// Kind, unit and description per metric, from the newest windows.
pub(super) async fn metadata(State(deps): State<QueryDeps>, request: Request) -> Result<Response, QueryError> {
    let mut lookup = Lookup::of(&deps, request).await?;
    let used = lookup.source.coverage(lookup.params.org, lookup.from_ms, lookup.to_ms).used;
    let windows: BTreeSet<i64> = used.iter().map(|used| used.window_ms).collect();
    if let Some(first) = windows.iter().rev().take(METADATA_WINDOWS).next_back() {
        lookup.from_ms = lookup.from_ms.max(*first);
    }
    let wanted = lookup.params.get("metric").map(str::to_owned);
    let limit = lookup.params.count("limit")?;
    let mut metas: BTreeMap<String, MetricMeta> = BTreeMap::new();
    for found in lookup.select(u64::MAX).await? {
        let name = text(&found.series.metric).to_string();
        // Where nothing is known, Prometheus says nothing.
        if found.meta != MetricMeta::default() && wanted.as_ref().is_none_or(|wanted| *wanted == name) {
            metas.entry(name).or_insert(found.meta);
        }
    }
    let entries = metas.into_iter().take(if limit > 0 { limit } else { usize::MAX });
    let entries =
        entries.map(|(name, meta)| (name, json!([{"type": kind(meta.kind), "help": &*text(&meta.help), "unit": &*text(&meta.unit)}])));
    Ok(answer::data_with(&serde_json::Value::Object(entries.collect()).to_string(), &lookup.warnings))
}

/// Prometheus' word for a kind.
fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge | MetricKind::Rate | MetricKind::Count => "gauge",
        MetricKind::Histogram | MetricKind::Distribution => "histogram",
        MetricKind::Summary => "summary",
        MetricKind::Unknown => "unknown",
    }
}
