//! From a selector to columns: its series are found, their points read part by part and folded as they come, on all cores.
//!
//! The work is cut into tiles, some series by some steps each. A tile reads what its windows see and keeps no more points than they still need,
//! so a month at 1 s costs one pass and little memory. Where steps are cut, the windows on both sides of a cut read some files twice; so a cut
//! is made only where series alone don't keep the cores busy, and far apart.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use tailors_model::source::{EachPart, Need, Part, ReadLimits, Selection};
use tailors_model::window::WINDOW_MS;

use super::Context;
use super::eval::{Column, Evaluation, RawSeries};
use super::labels::Labels;
use super::over_time::{Slide, Slider};
use super::selector::{Grid, Look, Looker, Selector, drop_stale};
use super::stepwise::{self, Stepwise};
use super::value::is_absent;
use crate::error::QueryError;

/// Fewer points are not worth another tile.
const TILE_POINTS_MIN: u64 = 256 << 10;
/// Points that one tile may hold at a time, if it has more series than one.
const KEPT_POINTS_MAX: u64 = 4 << 20;

/// What becomes of a series' points: one value per step.
#[derive(Clone, Debug)]
pub(super) enum Fold {
    Look(Look),
    Slide(Slide),
}

impl Fold {
    fn times(&self) -> Grid {
        match self {
            Self::Look(look) => look.times,
            Self::Slide(slide) => slide.times,
        }
    }

    /// The same for some of the steps.
    fn part(&self, steps: &Range<usize>) -> Self {
        match self {
            Self::Look(look) => Self::Look(Look { times: look.times.part(steps), ..look.clone() }),
            Self::Slide(slide) => Self::Slide(Slide {
                times: slide.times.part(steps),
                evaluated: slide.evaluated.part(steps),
                arguments: slide.arguments.iter().map(|argument| argument[steps.clone()].to_vec()).collect(),
                ..*slide
            }),
        }
    }

    /// What must be known of a series' points from the first to the last of these times.
    fn need(&self, edges_ms: (i64, i64)) -> Need {
        let points = |times, back_ms| stepwise::need(times, back_ms, edges_ms, Need::Points, Need::Points);
        match self {
            Self::Look(look) => points(look.times, look.lookback_ms),
            Self::Slide(slide) if Stepwise::answers(slide) => Stepwise::need(slide, edges_ms),
            Self::Slide(slide) => points(slide.times, slide.range_ms),
        }
    }

    /// Values of a series whose points are all there.
    pub(super) fn of(&self, times: &[i64], values: &[f64]) -> Vec<f64> {
        let mut folding = Folding::of(self);
        folding.push(self, Part::Points(times, values));
        folding.finish(self)
    }
}

enum Folding {
    Look(Looker),
    Slide(Box<Slider>),
    Stepwise(Stepwise),
}

impl Folding {
    fn of(fold: &Fold) -> Self {
        match fold {
            Fold::Look(_) => Self::Look(Looker::default()),
            Fold::Slide(slide) if Stepwise::answers(slide) => Self::Stepwise(Stepwise::default()),
            Fold::Slide(_) => Self::Slide(Box::default()),
        }
    }

    fn push(&mut self, fold: &Fold, part: Part<'_>) {
        match (self, fold, part) {
            (Self::Look(looker), Fold::Look(look), Part::Points(times, values)) => looker.push(look, times, values),
            (Self::Slide(slider), Fold::Slide(slide), Part::Points(times, values)) => slider.push(slide, times, values),
            (Self::Stepwise(stepwise), Fold::Slide(slide), part) => stepwise.push(slide, part),
            // Made of this very fold, which asks for nothing else.
            _ => {}
        }
    }

    fn finish(self, fold: &Fold) -> Vec<f64> {
        match (self, fold) {
            (Self::Look(looker), Fold::Look(look)) => looker.finish(look),
            (Self::Slide(slider), Fold::Slide(slide)) => slider.finish(slide),
            (Self::Stepwise(stepwise), Fold::Slide(slide)) => stepwise.finish(slide),
            _ => Vec::new(),
        }
    }
}

/// Points of one series.
type Points = (Vec<i64>, Vec<f64>);

/// A group while its points come.
enum State {
    Folding(Folding),
    /// Several series with one label set: they are merged when all is there.
    Merging(Vec<Points>),
}

/// Series with equal label sets, to be read as one: labels and numbers in the selection.
struct Group {
    labels: Labels,
    numbers: Vec<usize>,
    points_max: u64,
}

/// Merged by time; at equal times the later series in identity order wins.
fn merge(members: Vec<Points>) -> Points {
    let all = members.into_iter().flat_map(|(times, values)| times.into_iter().zip(values));
    all.collect::<std::collections::BTreeMap<_, _>>().into_iter().unzip()
}

/// Numbers of the series of some groups, and per number its group and place in it.
fn slots(groups: &[Group]) -> (Vec<usize>, Vec<(usize, usize)>) {
    let slots = groups.iter().enumerate().flat_map(|(group, found)| (0..found.numbers.len()).map(move |member| (group, member)));
    (groups.iter().flat_map(|group| group.numbers.iter().copied()).collect(), slots.collect())
}

impl Evaluation<'_> {
    /// Folds each series of a selector to a column, in label order; windows or looks reach `back_ms` back from their step.
    pub(super) async fn load(&self, selector: &Selector, back_ms: i64, fold: Fold) -> Result<Vec<Column>, QueryError> {
        let times = fold.times();
        let (from_ms, to_ms) = (times.start_ms.saturating_sub(back_ms) + 1, times.end_ms() + 1);
        let Some((selection, groups)) = self.select(selector, from_ms, to_ms).await? else { return Ok(Vec::new()) };
        self.charge(groups.len() as u64 * times.steps as u64 * 8)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (lanes, slices) = tiles(&groups, times, back_ms, cores);
        let mut tiles: Vec<BoxFuture<'_, Result<Vec<Vec<f64>>, QueryError>>> = Vec::with_capacity(lanes.len() * slices.len());
        for lane in &lanes {
            for steps in &slices {
                tiles.push(Box::pin(self.tile(&selection, &groups[lane.clone()], fold.part(steps), back_ms)));
            }
        }
        let mut done: Vec<Vec<Vec<f64>>> = stream::iter(tiles).buffered(cores + 1).try_collect().await?;
        self.tally().partial.append(&mut selection.partial());
        let mut columns = Vec::with_capacity(groups.len());
        for (lane, parts) in lanes.into_iter().zip(done.chunks_mut(slices.len().max(1))) {
            for (at, group) in groups[lane].iter().enumerate() {
                let mut values = std::mem::take(&mut parts[0][at]);
                parts[1..].iter().for_each(|part| values.extend_from_slice(&part[at]));
                if values.iter().any(|value| !is_absent(*value)) {
                    columns.push(Column { labels: group.labels.clone(), values });
                }
            }
        }
        Ok(columns)
    }

    /// Values of some groups at the steps of `fold`.
    async fn tile(&self, selection: &Arc<dyn Selection>, groups: &[Group], fold: Fold, back_ms: i64) -> Result<Vec<Vec<f64>>, QueryError> {
        let (times, fold) = (fold.times(), Arc::new(fold));
        let (numbers, slots) = slots(groups);
        let need = |slot: usize, first_ms, last_ms| match fold.need((first_ms, last_ms)) {
            Need::Nothing => Need::Nothing,
            // Which of two points counts is known when both are there.
            _ if groups[slots[slot].0].numbers.len() > 1 => Need::Points,
            need => need,
        };
        let state = |group: &Group| match group.numbers.len() {
            1 => State::Folding(Folding::of(&fold)),
            members => State::Merging(vec![Points::default(); members]),
        };
        let states: Arc<Mutex<(Vec<State>, u64)>> = Arc::new(Mutex::new((groups.iter().map(state).collect(), 0)));
        let (shared, how, places) = (states.clone(), fold.clone(), slots.clone());
        let each: EachPart = Box::new(move |slot, part| {
            let mut states = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (group, member) = places[slot];
            states.1 += match part {
                Part::Points(times, _) | Part::Times(times) => times.len() as u64,
                Part::Whole(whole) => whole.count,
            };
            match (&mut states.0[group], part) {
                (State::Folding(folding), part) => folding.push(&how, part),
                (State::Merging(members), Part::Points(times, values)) => {
                    members[member].0.extend_from_slice(times);
                    members[member].1.extend_from_slice(values);
                }
                // Not asked for.
                (State::Merging(_), Part::Times(_) | Part::Whole(_)) => {}
            }
        });
        selection.scan(&numbers, times.start_ms.saturating_sub(back_ms) + 1, times.end_ms() + 1, &need, each).await?;
        let (states, points) = std::mem::take(&mut *states.lock().unwrap_or_else(PoisonError::into_inner));
        self.tally().points += points;
        let finished = tokio::task::spawn_blocking(move || {
            let values = |state| match state {
                State::Folding(folding) => folding.finish(&fold),
                State::Merging(members) => {
                    let (times, values) = merge(members);
                    fold.of(&times, &values)
                }
            };
            states.into_iter().map(values).collect()
        });
        finished.await.map_err(|error| QueryError::Data(format!("evaluation ended early: {error}")))
    }

    /// All points of a selector, without stale markers; in label order.
    pub(super) async fn points(&self, selector: &Selector, from_ms: i64, to_ms: i64) -> Result<Vec<RawSeries>, QueryError> {
        let Some((selection, groups)) = self.select(selector, from_ms, to_ms).await? else { return Ok(Vec::new()) };
        self.charge(groups.iter().map(|group| group.points_max * 16).sum())?;
        let (numbers, slots) = slots(&groups);
        let empty = || groups.iter().map(|group| vec![Points::default(); group.numbers.len()]).collect::<Vec<_>>();
        let found = Arc::new(Mutex::new(empty()));
        let shared = found.clone();
        let each: EachPart = Box::new(move |slot, part| {
            let Part::Points(times, values) = part else { return };
            let (group, member) = slots[slot];
            let (all_times, all_values) = &mut shared.lock().unwrap_or_else(PoisonError::into_inner)[group][member];
            all_times.extend_from_slice(times);
            all_values.extend_from_slice(values);
        });
        selection.scan(&numbers, from_ms, to_ms, &|_, _, _| Need::Points, each).await?;
        self.tally().partial.append(&mut selection.partial());
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        let series = groups.into_iter().zip(found).map(|(group, mut members)| {
            let (mut times, mut values) = if members.len() == 1 { members.swap_remove(0) } else { merge(members) };
            self.tally().points += times.len() as u64;
            drop_stale(&mut times, &mut values);
            (group.labels, times.into_iter().zip(values).collect())
        });
        Ok(series.collect())
    }

    /// Finds a selector's series; `None` when nothing stored can be meant.
    async fn select(&self, selector: &Selector, from_ms: i64, to_ms: i64) -> Result<Option<(Arc<dyn Selection>, Vec<Group>)>, QueryError> {
        let Context { source, org, limits, allow_partial } = self.context;
        let points = {
            let mut tally = self.tally();
            let (from, to) = tally.read.unwrap_or((from_ms, to_ms));
            tally.read = Some((from.min(from_ms), to.max(to_ms)));
            limits.points_max.saturating_sub(tally.points)
        };
        let names = source.metrics(*org, from_ms, to_ms, *allow_partial).await?;
        let (filter, mut notes) = selector.resolve(&names);
        self.tally().notes.append(&mut notes);
        let read = ReadLimits { series: limits.series_max, points, allow_partial: *allow_partial };
        // Also when no name fits: the source then says which files it could not read.
        let selection = source.select(*org, &filter, from_ms, to_ms, read).await?;
        self.tally().partial.append(&mut selection.partial());
        let mut named: Vec<(Labels, usize)> =
            selection.series().iter().enumerate().map(|(number, found)| (Labels::of_series(&found.series), number)).collect();
        named.sort();
        let mut groups: Vec<Group> = Vec::with_capacity(named.len());
        for (labels, number) in named {
            let points = selection.series()[number].points_max;
            match groups.last_mut().filter(|group| group.labels == labels) {
                Some(group) => {
                    group.numbers.push(number);
                    group.points_max += points;
                }
                None => groups.push(Group { labels, numbers: vec![number], points_max: points }),
            }
        }
        Ok((!groups.is_empty()).then_some((selection, groups)))
    }
}

/// Cuts the work: ranges of groups, and ranges of steps; every one of the former by every one of the latter is a tile.
fn tiles(groups: &[Group], times: Grid, back_ms: i64, cores: usize) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let total: u64 = groups.iter().map(|group| group.points_max).sum();
    let span_ms = (times.end_ms() - times.start_ms).saturating_add(back_ms).max(1);
    // A tile keeps of a series what a window and a file hold.
    let held_ms = back_ms.saturating_add(WINDOW_MS);
    let kept = |group: &Group| if group.numbers.len() > 1 { 1.0 } else { (held_ms as f64 / span_ms as f64).min(1.0) };
    let lane_points = (total / (2 * cores as u64)).max(TILE_POINTS_MIN);
    let mut lanes: Vec<Range<usize>> = Vec::new();
    let (mut points, mut kept_points) = (0, 0.0);
    for (at, group) in groups.iter().enumerate() {
        points += group.points_max;
        kept_points += group.points_max as f64 * kept(group);
        match lanes.last_mut() {
            Some(lane) if points <= lane_points && kept_points <= KEPT_POINTS_MAX as f64 => lane.end = at + 1,
            _ => {
                (points, kept_points) = (group.points_max, group.points_max as f64 * kept(group));
                lanes.push(at..at + 1);
            }
        }
    }
    let wanted = (2 * cores / lanes.len().max(1)).min((total / TILE_POINTS_MIN) as usize);
    let apart = (span_ms / held_ms.saturating_mul(8)) as usize;
    let slices = if lanes.len() >= cores { 1 } else { wanted.min(apart).clamp(1, times.steps.max(1)) };
    let slices = (0..slices).map(|at| times.steps * at / slices..times.steps * (at + 1) / slices);
    (lanes, slices.collect())
}
