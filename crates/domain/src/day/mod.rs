//! A quota day: a calendar day in a plan's time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A calendar day, written `YYYY-MM-DD`. Which instants belong to it is the plan's time zone to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub Date);

impl Day {
    /// The day that `now` falls on in `zone`.
    #[must_use]
    pub fn at(now: Timestamp, zone: &TimeZone) -> Self {
        Self(zone.to_datetime(now).date())
    }

    /// The first instant of this day in `zone`.
    #[must_use]
    pub fn starts_at(self, zone: &TimeZone) -> Timestamp {
        self.0.to_zoned(zone.clone()).map_or(Timestamp::MIN, |start| start.timestamp())
    }

    /// The first instant after this day in `zone`. A midnight that a clock change skips becomes
    /// the first instant that exists.
    #[must_use]
    pub fn ends_at(self, zone: &TimeZone) -> Timestamp {
        let next = self.0.saturating_add(1.day());
        next.to_zoned(zone.clone()).map_or(Timestamp::MAX, |start| start.timestamp())
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Day {
    type Err = InvalidDay;
    fn from_str(text: &str) -> Result<Self, InvalidDay> {
        text.parse().map(Self).map_err(|_| InvalidDay)
    }
}

/// The text is not a date in the form YYYY-MM-DD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a date such as 2026-01-31")]
pub struct InvalidDay;

#[cfg(test)]
mod tests;
