//! Parts of a date in UTC for any number of seconds, with the overflow that Go's `time.Unix` shows for seconds outside its calendar.

const DAY_S: i128 = 86_400;
/// From the first second of Go's calendar (1 March of the year -292277022400) to 1970.
const GO_CALENDAR_S: i128 = (730_692_556 * 146_097 + 306) * DAY_S + 62_135_596_800;

/// A time of day on a date, as numbers that PromQL hands out.
pub(crate) struct Date {
    pub(crate) year: f64,
    pub(crate) month: f64,
    pub(crate) day: f64,
    /// 0 is Sunday.
    pub(crate) weekday: f64,
    /// From 1.
    pub(crate) day_of_year: f64,
    pub(crate) days_in_month: f64,
    pub(crate) hour: f64,
    pub(crate) minute: f64,
}

impl Date {
    /// Date of a time, Unix seconds; decimals are cut. What is no i64 (NaN too) counts as the least one, as on Go's amd64.
    pub(crate) fn of(at_s: f64) -> Self {
        let fits = (i64::MIN as f64..-(i64::MIN as f64)).contains(&at_s);
        let at_s = i128::from(if fits { at_s as i64 } else { i64::MIN });
        let at_s = (at_s + GO_CALENDAR_S).rem_euclid(1 << 64) - GO_CALENDAR_S;
        let (days, second) = (at_s.div_euclid(DAY_S), at_s.rem_euclid(DAY_S));
        let (year, month, day) = civil(days);
        Self {
            year: year as f64,
            month: month as f64,
            day: day as f64,
            weekday: (days + 4).rem_euclid(7) as f64,
            day_of_year: (days - days_before(year, 1) + 1) as f64,
            days_in_month: (if month == 12 { 31 } else { days_before(year, month + 1) - days_before(year, month) }) as f64,
            hour: (second / 3_600) as f64,
            minute: (second / 60 % 60) as f64,
        }
    }
}

/// Year, month, day of a day counted from 1970: years begin in March, so that the leap day is a year's last.
fn civil(days: i128) -> (i128, i128, i128) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (month, day) = (if month < 10 { month + 3 } else { month - 9 }, day - (153 * month + 2) / 5 + 1);
    (era * 400 + year + i128::from(month <= 2), month, day)
}

/// Days from 1970 to the first of a month; the inverse of [`civil`].
fn days_before(year: i128, month: i128) -> i128 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day - 719_468
}
