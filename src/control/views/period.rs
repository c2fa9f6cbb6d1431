//! The period of days that a report covers.

use crate::control::api_error::ApiError;
use domain::day::Day;
use jiff::ToSpan;
use std::collections::HashMap;
use store::reports::Sums;

/// Maximum number of days in a period.
const MAX_DAYS: i32 = 366;
/// Default number of days in a period.
const DEFAULT_DAYS: i32 = 30;

/// Years that a request may name.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=9998;

/// Days from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub from: Day,
    pub to: Day,
}

impl Period {
    /// The requested period; by default the thirty days that end with `to`, which is `today` by default.
    ///
    /// # Errors
    /// It ends before it begins, or is longer than 366 days.
    pub fn asked(from: Option<&str>, to: Option<&str>, today: Day) -> Result<Self, ApiError> {
        let to = day("to", to)?.unwrap_or(today);
        let usual = Day(to.0.saturating_sub((DEFAULT_DAYS - 1).days()));
        let period = Self { from: day("from", from)?.unwrap_or(usual), to };
        match period.length() {
            1..=MAX_DAYS => Ok(period),
            ..=0 => Err(reversed()),
            days => Err(ApiError::invalid(
                "from",
                format!("The period must have at most {MAX_DAYS} days, but has {days}."),
            )),
        }
    }

    /// A calendar month (`YYYY-MM`); by default the month of `today`.
    ///
    /// # Errors
    /// The text is not a month.
    pub fn month(asked: Option<&str>, today: Day) -> Result<Self, ApiError> {
        let first = match asked {
            None => today.0.first_of_month(),
            Some(month) if month.len() == "2026-09".len() => {
                day("month", Some(&format!("{month}-01")))
                    .map_err(|_| bad_month())?
                    .map_or(today.0, |day| day.0)
            }
            Some(_) => return Err(bad_month()),
        };
        Ok(Self { from: Day(first), to: Day(first.last_of_month()) })
    }

    /// Every day of the period with its sums; days without calls have zeros.
    #[must_use]
    pub fn filled(self, sums: Vec<(Day, Sums)>) -> Vec<(Day, Sums)> {
        let known: HashMap<Day, Sums> = sums.into_iter().collect();
        let days = self.from.0.series(1.day()).take_while(|day| *day <= self.to.0).map(Day);
        days.map(|day| (day, known.get(&day).copied().unwrap_or_default())).collect()
    }

    fn length(self) -> i32 {
        (self.to.0 - self.from.0).get_days().saturating_add(1)
    }
}

/// An optional day (`YYYY-MM-DD`).
///
/// # Errors
/// The text is not a day.
pub fn day(param: &str, text: Option<&str>) -> Result<Option<Day>, ApiError> {
    let read = |text: &str| {
        let day = text.parse().ok().filter(|day: &Day| YEARS.contains(&day.0.year()));
        day.ok_or_else(|| {
            ApiError::invalid(param, format!("`{param}` must be a date such as 2026-09-21."))
        })
    };
    text.map(read).transpose()
}

/// The first and the last day of what is asked for; `None` where there is no bound.
pub fn days(from: Option<&str>, to: Option<&str>) -> Result<(Option<Day>, Option<Day>), ApiError> {
    let (from, to) = (day("from", from)?, day("to", to)?);
    let is_reversed = from.zip(to).is_some_and(|(from, to)| from > to);
    if is_reversed { Err(reversed()) } else { Ok((from, to)) }
}

fn reversed() -> ApiError {
    ApiError::invalid("from", "`from` must not be later than `to`.")
}

fn bad_month() -> ApiError {
    ApiError::invalid("month", "`month` must be a month such as 2026-09.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn periods_have_an_end_and_a_bound() {
        let today = day("2026-09-21");
        let asked = |from, to| Period::asked(from, to, today).map(|p| (p.from, p.to)).ok();
        assert_eq!(asked(None, None), Some((day("2026-08-23"), today)));
        assert_eq!(asked(Some("2026-09-21"), None), Some((today, today)));
        assert_eq!(asked(None, Some("2026-03-01")), Some((day("2026-01-31"), day("2026-03-01"))));
        assert_eq!(asked(Some("2026-09-22"), None), None);
        assert_eq!(asked(Some("2025-09-21"), None), Some((day("2025-09-21"), today)));
        assert_eq!(asked(Some("2025-09-20"), None), None);
        assert_eq!(asked(Some("-009999-01-01"), Some("9998-12-31")), None);
        assert_eq!(asked(None, Some("9999-12-31")), None);
        assert_eq!(asked(Some("yesterday"), None), None);
    }

    #[test]
    fn days_without_bounds_are_in_order() {
        let days = |from, to| super::days(from, to).ok();
        let (first, last) = ("2026-09-20", "2026-09-21");
        assert_eq!(days(None, None), Some((None, None)));
        assert_eq!(days(Some(last), None), Some((Some(day(last)), None)));
        assert_eq!(days(Some(first), Some(last)), Some((Some(day(first)), Some(day(last)))));
        assert_eq!(days(Some(last), Some(last)), Some((Some(day(last)), Some(day(last)))));
        assert_eq!(days(Some(last), Some(first)), None);
        assert_eq!(days(Some("yesterday"), None), None);
    }

    #[test]
    fn months_are_whole_and_days_without_calls_are_zeros() {
        let today = day("2026-02-21");
        let month = |text| Period::month(text, today).map(|p| (p.from, p.to)).ok();
        assert_eq!(month(None), Some((day("2026-02-01"), day("2026-02-28"))));
        assert_eq!(month(Some("2024-02")), Some((day("2024-02-01"), day("2024-02-29"))));
        for bad in ["2026", "2026-13", "2026-02-01", "", "feb"] {
            assert_eq!(month(Some(bad)), None, "{bad}");
        }
        let some = Sums { calls: 3, ..Sums::default() };
        let filled = Period::month(None, today).unwrap().filled(vec![(day("2026-02-03"), some)]);
        assert_eq!(filled.len(), 28);
        assert_eq!(filled[2], (day("2026-02-03"), some));
        assert_eq!(filled[3], (day("2026-02-04"), Sums::default()));
    }
}
