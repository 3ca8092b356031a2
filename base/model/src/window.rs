//! Windows: 4 h of point time, aligned to UTC, half-open; the unit that is sealed, built and published.

use std::fmt;

/// Length of a window in milliseconds.
pub const WINDOW_MS: i64 = 14_400_000;
/// Length of a window in seconds.
pub const WINDOW_S: i64 = WINDOW_MS / 1_000;
/// Windows of a day (UTC).
pub const DAY_WINDOWS: usize = 6;
/// Length of a day in milliseconds.
pub const DAY_MS: i64 = DAY_WINDOWS as i64 * WINDOW_MS;

/// A window, named by its start in Unix seconds (a multiple of 14,400).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Window(i64);

impl Window {
    /// The window that holds a time, Unix milliseconds; floors towards the past.
    pub const fn of_ms(time_ms: i64) -> Self {
        Self(time_ms.div_euclid(WINDOW_MS) * WINDOW_S)
    }

    /// The window that starts at `start_s`, Unix seconds; `None` when that is no window edge.
    pub const fn starting_at_s(start_s: i64) -> Option<Self> {
        if start_s.rem_euclid(WINDOW_S) == 0 { Some(Self(start_s)) } else { None }
    }

    /// Start, Unix seconds.
    pub const fn start_s(self) -> i64 {
        self.0
    }

    /// Start, Unix milliseconds, inclusive.
    pub const fn start_ms(self) -> i64 {
        self.0 * 1_000
    }

    /// End, Unix milliseconds, exclusive.
    pub const fn end_ms(self) -> i64 {
        self.start_ms() + WINDOW_MS
    }

    /// The window after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + WINDOW_S)
    }

    /// First window of the day (UTC) that this one lies in.
    pub const fn first_of_day(self) -> Self {
        Self::of_ms(self.start_ms().div_euclid(DAY_MS) * DAY_MS)
    }

    /// The windows of the day that this one lies in, in order.
    pub fn day(self) -> [Self; DAY_WINDOWS] {
        let first = self.first_of_day();
        std::array::from_fn(|number| Self(first.0 + number as i64 * WINDOW_S))
    }

    /// Milliseconds from the start of this window; `None` when the time lies outside.
    pub fn offset_of(self, time_ms: i64) -> Option<u32> {
        u32::try_from(time_ms - self.start_ms()).ok().filter(|offset| i64::from(*offset) < WINDOW_MS)
    }
}

/// Ten digits of Unix seconds, as in object keys.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_half_open() {
        let window = Window::of_ms(WINDOW_MS);
        assert_eq!(Window::of_ms(WINDOW_MS - 1), Window::of_ms(0));
        assert_eq!(window.offset_of(WINDOW_MS), Some(0));
        assert_eq!(window.offset_of(2 * WINDOW_MS - 1), Some(14_399_999));
        assert_eq!(window.offset_of(2 * WINDOW_MS), None);
        assert_eq!(window.offset_of(WINDOW_MS - 1), None);
        assert_eq!(Window::of_ms(-1).start_ms(), -WINDOW_MS);
        assert_eq!(Window::starting_at_s(7), None);
    }

    #[test]
    fn a_day_has_six_windows() {
        let day = Window::of_ms(-1).day();
        assert_eq!((day[0].start_ms(), day[5].end_ms()), (-DAY_MS, 0));
        assert!(day.iter().all(|window| window.first_of_day() == day[0]));
        assert_eq!(Window::of_ms(0).first_of_day().start_s(), 0);
    }
}
