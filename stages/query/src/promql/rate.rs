//! rate, increase, delta, irate, idelta: change inside a window, extrapolated to its edges as Prometheus does it.

/// Points of one window `(start_ms, end_ms]`, and where in them the value fell.
pub(crate) struct Window<'a> {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) timestamps: &'a [i64],
    pub(crate) values: &'a [f64],
    /// Positions in the series at which the value is below the one before, those inside this window after its first point.
    pub(crate) falls: &'a [usize],
    /// Position in the series of the window's first point.
    pub(crate) first: usize,
}

/// How rate, increase and delta differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extrapolation {
    /// Falls are resets, and the value never was below zero.
    pub(crate) counter: bool,
    /// Per second of the window.
    pub(crate) per_second: bool,
}

/// The change over the window, extrapolated to an edge when the nearest point is at most 1.1 average distances from it, else by half a distance;
/// a counter not further back than where it would have been zero.
pub(crate) fn extrapolated(window: &Window<'_>, how: Extrapolation) -> Option<f64> {
    let (timestamps, values) = (window.timestamps, window.values);
    if values.len() < 2 {
        return None;
    }
    let (first_ms, last_ms) = (timestamps[0], timestamps[timestamps.len() - 1]);
    let mut change = values[values.len() - 1] - values[0];
    if how.counter {
        for fall in window.falls {
            change += values[fall - window.first - 1];
        }
    }
    let mut to_start_s = (first_ms - window.start_ms) as f64 / 1_000.0;
    let mut to_end_s = (window.end_ms - last_ms) as f64 / 1_000.0;
    let sampled_s = (last_ms - first_ms) as f64 / 1_000.0;
    let average_s = sampled_s / (values.len() - 1) as f64;
    let threshold_s = average_s * 1.1;
    if to_start_s >= threshold_s {
        to_start_s = average_s / 2.0;
    }
    if how.counter && change > 0.0 && values[0] >= 0.0 {
        let to_zero_s = sampled_s * (values[0] / change);
        if to_zero_s < to_start_s {
            to_start_s = to_zero_s;
        }
    }
    if to_end_s >= threshold_s {
        to_end_s = average_s / 2.0;
    }
    let mut factor = (sampled_s + to_start_s + to_end_s) / sampled_s;
    if how.per_second {
        factor /= (window.end_ms - window.start_ms) as f64 / 1_000.0;
    }
    Some(change * factor)
}

/// Change between the last two points; per second and reset-aware for a counter.
pub(crate) fn between_last_two(window: &Window<'_>, counter: bool) -> Option<f64> {
    let before = window.values.len().checked_sub(2)?;
    let (previous, last) = (window.values[before], window.values[before + 1]);
    let reset = counter && last < previous;
    let change = if reset { last } else { last - previous };
    let distance_ms = window.timestamps[before + 1] - window.timestamps[before];
    Some(if counter { change / (distance_ms as f64 / 1_000.0) } else { change })
}
