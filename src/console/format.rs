//! Numbers, money and times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::borrow::Borrow;
use std::fmt;

/// A count with separators: `1,234,567`. Templates pass references, handlers numbers.
#[must_use]
pub fn count(number: impl Borrow<u64>) -> String {
    let digits = number.borrow().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in few characters, for charts: `950`, `12.3k`, `4.5M`.
#[must_use]
pub fn short_count(number: u64) -> String {
    let scaled = |unit: f64, name: &str| {
        let value = number as f64 / unit;
        if value < 100.0 { format!("{value:.1}{name}") } else { format!("{value:.0}{name}") }
    };
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => scaled(1e3, "k"),
        1_000_000..1_000_000_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "B"),
    }
}

/// Micro-dollars as dollars: at least two decimals, and up to six where cents would hide the amount.
#[must_use]
pub fn dollars(micro_dollars: impl Borrow<i64>) -> String {
    let micro_dollars = *micro_dollars.borrow();
    let sign = if micro_dollars < 0 { "-" } else { "" };
    let amount = micro_dollars.unsigned_abs();
    let (whole, rest) = (amount / 1_000_000, amount % 1_000_000);
    let decimals = format!("{rest:06}");
    let shown = if amount >= 1_000_000 || rest.is_multiple_of(10_000) {
        &decimals[..2]
    } else {
        decimals.as_str()
    };
    format!("{sign}${}.{shown}", count(whole))
}

/// A duration in milliseconds: `340 ms`, `1.2 s`, `2 min 5 s`.
#[must_use]
pub fn duration(millis: u32) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", f64::from(millis) / 1e3),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

/// An instant for a page: in UTC, and machine-readable, so that a script can show it in the reader's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Time {
    /// The value of the attribute `datetime` (RFC 3339).
    #[must_use]
    pub fn machine(self) -> String {
        self.0.to_string()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0.to_zoned(TimeZone::UTC);
        write!(f, "{} UTC", time.strftime("%Y-%m-%d %H:%M"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (123_456, "123,456"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), expected);
        }
        for (number, expected) in [
            (999, "999"),
            (1000, "1.0k"),
            (12_345, "12.3k"),
            (999_949, "1000k"),
            (4_500_000, "4.5M"),
        ] {
            assert_eq!(short_count(number), expected);
        }
    }

    #[test]
    fn money_shows_what_cents_would_hide() {
        for (micro, expected) in [
            (0, "$0.00"),
            (123, "$0.000123"),
            (10_000, "$0.01"),
            (1_239_999, "$1.23"),
            (-5_000_000_000, "-$5,000.00"),
        ] {
            assert_eq!(dollars(micro), expected);
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (millis, expected) in
            [(0, "0 ms"), (999, "999 ms"), (1_250, "1.2 s"), (125_900, "2 min 5 s")]
        {
            assert_eq!(duration(millis), expected);
        }
    }

    #[test]
    fn times_are_utc() {
        let time = Time("2026-11-27T00:00:00Z".parse().unwrap());
        assert_eq!(
            (time.to_string(), time.machine()),
            ("2026-11-27 00:00 UTC".to_owned(), "2026-11-27T00:00:00Z".to_owned())
        );
    }
}
