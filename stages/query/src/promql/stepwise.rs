//! Functions of windows that don't overlap and that a few numbers per step are enough for: least, greatest, first and last value, count.
//!
//! Parts of a series may come as points, as times, or as all points of a file in one; what lies between windows is not asked for. Invariant: every
//! value is that of [`super::over_time::Slider`] over the same points, to the bit; sums are not answered here, for their order of additions counts.

use tailors_model::source::{Need, Part, Whole};

use super::over_time::{RangeFunction, Slide, after, greatest, least};
use super::selector::{Grid, drop_stale};
use super::value::{ABSENT, is_absent};

/// What is needed of points from `first_ms` to `last_ms` by windows or looks that reach `back_ms` back: nothing if none sees any. `whole_step`: what is
/// enough where one window sees them all, `else_need` what where they lie in several or in part between them.
pub(crate) fn need(times: Grid, back_ms: i64, (first_ms, last_ms): (i64, i64), whole_step: Need, else_need: Need) -> Need {
    // The first that ends behind the first point begins before all others that do.
    let Some(end_ms) = first_from(times, first_ms).map(|step| times.at(step)) else { return Need::Nothing };
    let start_ms = end_ms.saturating_sub(back_ms);
    match () {
        () if start_ms >= last_ms => Need::Nothing,
        () if start_ms < first_ms && end_ms >= last_ms => whole_step,
        () => else_need,
    }
}

/// The first step at `at_ms` or later.
fn first_from(times: Grid, at_ms: i64) -> Option<usize> {
    let behind = at_ms.saturating_sub(times.start_ms).max(0);
    let step = if behind == 0 { 0 } else { (behind.checked_add(times.step_ms - 1)?.checked_div(times.step_ms)?) as usize };
    (step < times.steps).then_some(step)
}

/// The value so far of each step.
#[derive(Default)]
pub(crate) struct Stepwise {
    out: Vec<f64>,
    /// When the point was, or could have been at the earliest, that gave the value.
    at_ms: Vec<i64>,
}

impl Stepwise {
    /// What this is enough for.
    pub(crate) fn answers(how: &Slide) -> bool {
        use RangeFunction::{AbsentInput, Count, First, Last, Max, Min, Present};
        (how.range_ms <= how.times.step_ms || how.times.steps == 1)
            && matches!(how.function, Min | Max | First | Last | Count | Present | AbsentInput)
    }

    /// What it needs of points.
    pub(crate) fn need(how: &Slide, edges_ms: (i64, i64)) -> Need {
        use RangeFunction::{AbsentInput, Count, Present};
        let counts = matches!(how.function, Count | Present | AbsentInput);
        need(how.times, how.range_ms, edges_ms, Need::Whole, if counts { Need::Times } else { Need::Points })
    }

    /// Takes a part.
    pub(crate) fn push(&mut self, how: &Slide, part: Part<'_>) {
        if self.out.is_empty() {
            self.out = vec![ABSENT; how.times.steps];
            self.at_ms = vec![0; how.times.steps];
        }
        match part {
            Part::Points(times, values) if values.iter().any(|value| is_absent(*value)) => {
                let (mut times, mut values) = (times.to_vec(), values.to_vec());
                drop_stale(&mut times, &mut values);
                self.push_points(how, &times, &values);
            }
            Part::Points(times, values) => self.push_points(how, times, values),
            Part::Times(times) => each_window(how, times, |step, from, to| self.add(how.function, step, times[from], (to - from) as f64)),
            Part::Whole(whole) => {
                if let Some(step) = first_from(how.times, whole.first_ms) {
                    let (at_ms, value) = of_whole(how.function, &whole);
                    self.add(how.function, step, at_ms, value);
                }
            }
        }
    }

    fn push_points(&mut self, how: &Slide, times: &[i64], values: &[f64]) {
        each_window(how, times, |step, from, to| {
            let (at_ms, value) = match how.function {
                RangeFunction::Min => (times[from], least(&values[from..to])),
                RangeFunction::Max => (times[from], greatest(&values[from..to])),
                RangeFunction::First => (times[from], values[from]),
                RangeFunction::Last => (times[to - 1], values[to - 1]),
                _ => (times[from], (to - from) as f64),
            };
            self.add(how.function, step, at_ms, value);
        });
    }

    fn add(&mut self, function: RangeFunction, step: usize, at_ms: i64, value: f64) {
        let (out, out_ms) = (&mut self.out[step], &mut self.at_ms[step]);
        let earlier = at_ms < *out_ms;
        let takes = is_absent(*out)
            || match function {
                // Of equal ones, which zeros are, the earlier counts.
                RangeFunction::Min => value < *out || out.is_nan() || (value == *out && earlier),
                RangeFunction::Max => value > *out || out.is_nan() || (value == *out && earlier),
                RangeFunction::First => earlier,
                RangeFunction::Last => !earlier,
                _ => {
                    *out += value;
                    false
                }
            };
        if takes {
            (*out, *out_ms) = (value, at_ms);
        }
    }

    /// The value at each step, when all parts have come.
    pub(crate) fn finish(mut self, how: &Slide) -> Vec<f64> {
        self.out.resize(how.times.steps, ABSENT);
        if matches!(how.function, RangeFunction::Present | RangeFunction::AbsentInput) {
            self.out.iter_mut().filter(|value| !is_absent(**value)).for_each(|value| *value = 1.0);
        }
        self.out
    }
}

fn of_whole(function: RangeFunction, whole: &Whole) -> (i64, f64) {
    match function {
        RangeFunction::Min => (whole.first_ms, whole.min),
        RangeFunction::Max => (whole.first_ms, whole.max),
        RangeFunction::First => (whole.first_ms, whole.first),
        RangeFunction::Last => (whole.last_ms, whole.last),
        _ => (whole.first_ms, whole.count as f64),
    }
}

/// Goes through the windows that see any of these times: step, first position, end.
fn each_window(how: &Slide, times: &[i64], mut each: impl FnMut(usize, usize, usize)) {
    let Some(mut step) = times.first().and_then(|first| first_from(how.times, *first)) else { return };
    let mut at = 0;
    while step < how.times.steps && at < times.len() {
        let end_ms = how.times.at(step);
        let from = after(times, at, end_ms - how.range_ms);
        at = after(times, from, end_ms);
        if from < at {
            each(step, from, at);
        }
        step += 1;
    }
}
