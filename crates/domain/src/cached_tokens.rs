//! The part of a cached prompt token that counts against daily limits.

use super::charge::TokenCount;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The part of a cached prompt token that counts against daily limits, from 0 (none) to 1 (all of it).
/// Stored as thousandths, so that a count is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct CachedTokenFraction(u16);

const THOUSANDTHS: u16 = 1000;
/// Thousandths by which a number may differ from a whole number of them.
const MAX_ERROR: f64 = 1e-9;

/// The number is not a fraction that a plan may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0 to 1 with at most three decimals")]
pub struct InvalidFraction;

impl CachedTokenFraction {
    /// Cached tokens count like all others.
    pub const ONE: Self = Self(THOUSANDTHS);

    /// Returns the fraction of so many thousandths; `None` above 1000.
    #[must_use]
    pub fn from_thousandths(thousandths: u16) -> Option<Self> {
        (thousandths <= THOUSANDTHS).then_some(Self(thousandths))
    }

    /// Returns the fraction in thousandths, 0 to 1000.
    #[must_use]
    pub fn thousandths(self) -> u16 {
        self.0
    }

    /// Returns the fraction in percent, such as `10` or `12.5`.
    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

impl Default for CachedTokenFraction {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<f64> for CachedTokenFraction {
    type Error = InvalidFraction;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    fn try_from(number: f64) -> Result<Self, InvalidFraction> {
        // Refuses NaN too.
        if !(0.0..=1.0).contains(&number) {
            return Err(InvalidFraction);
        }
        let thousandths = number * f64::from(THOUSANDTHS);
        // What clients compute, such as 0.1 + 0.2, may differ in the last places.
        let is_whole = (thousandths - thousandths.round()).abs() < MAX_ERROR;
        if is_whole { Ok(Self(thousandths.round() as u16)) } else { Err(InvalidFraction) }
    }
}

impl From<CachedTokenFraction> for f64 {
    fn from(fraction: CachedTokenFraction) -> Self {
        Self::from(fraction.0) / Self::from(THOUSANDTHS)
    }
}

impl FromStr for CachedTokenFraction {
    type Err = InvalidFraction;

    fn from_str(text: &str) -> Result<Self, InvalidFraction> {
        text.parse::<f64>().map_err(|_| InvalidFraction)?.try_into()
    }
}

/// As a decimal, such as `0.1`.
impl fmt::Display for CachedTokenFraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f64::from(*self).fmt(f)
    }
}

impl TokenCount {
    /// The tokens that count against daily limits.
    #[must_use]
    pub fn counted(&self, fraction: CachedTokenFraction) -> u64 {
        self.total_without(self.uncounted(fraction))
    }

    /// The cached prompt tokens that do not count against daily limits: those that count are rounded up. Cached
    /// tokens beyond the prompt are ignored.
    #[must_use]
    pub fn uncounted(&self, fraction: CachedTokenFraction) -> u64 {
        let cached = self.cached.min(self.prompt);
        let thousandths = u128::from(cached) * u128::from(fraction.0);
        let counted = thousandths.div_ceil(u128::from(THOUSANDTHS));
        // Not more than `cached`, since the fraction is at most 1.
        cached - u64::try_from(counted).unwrap_or(cached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fraction(text: &str) -> CachedTokenFraction {
        text.parse().unwrap()
    }

    fn of(prompt: u64, cached: u64) -> TokenCount {
        TokenCount { prompt, cached, completion: 7, reasoning: 5 }
    }

    #[test]
    fn fractions_have_at_most_three_decimals() {
        for (text, thousandths) in [
            ("0", 0),
            ("-0", 0),
            ("1", 1000),
            ("1.0", 1000),
            ("0.1", 100),
            (".25", 250),
            ("0.125", 125),
            ("0.001", 1),
            ("0.999", 999),
            ("1e-1", 100),
            ("0.30000000000000004", 300),
        ] {
            assert_eq!(fraction(text).thousandths(), thousandths, "{text}");
        }
        let wrong = [
            "-0.1", "1.1", "1.001", "0.12345", "0.0001", "0.9999", "NaN", "inf", "-inf", "1e9", "",
            " 0.1", "0,1", "10%", "0x1",
        ];
        for text in wrong {
            assert_eq!(text.parse::<CachedTokenFraction>(), Err(InvalidFraction), "{text}");
        }
        for thousandths in 0..=1000 {
            let fraction = CachedTokenFraction::from_thousandths(thousandths).unwrap();
            assert_eq!(CachedTokenFraction::try_from(f64::from(fraction)), Ok(fraction));
            assert_eq!(fraction.to_string().parse(), Ok(fraction));
        }
        assert_eq!(CachedTokenFraction::from_thousandths(1001), None);
        assert_eq!(CachedTokenFraction::default(), CachedTokenFraction::ONE);
        assert_eq!(
            (fraction("0.1").to_string(), fraction("0.125").percent()),
            ("0.1".to_owned(), 12.5)
        );
    }

    #[test]
    fn cached_tokens_count_as_their_fraction_rounded_up() {
        for (text, prompt, cached, uncounted) in [
            ("1", 100, 100, 0),
            ("0", 100, 100, 100),
            ("0", 100, 0, 0),
            ("0.1", 100, 100, 90),
            ("0.1", 100, 1, 0),
            ("0.1", 100, 10, 9),
            ("0.1", 100, 11, 9),
            ("0.999", 2000, 1000, 1),
            ("0.999", 2000, 999, 0),
            ("0.001", 2000, 1001, 999),
            // More cached than there is.
            ("0.1", 10, u64::MAX, 9),
            ("0", 0, 5, 0),
            ("0", u64::MAX, u64::MAX, u64::MAX),
            ("1", u64::MAX, u64::MAX, 0),
            ("0.5", u64::MAX, u64::MAX, u64::MAX / 2),
        ] {
            let tokens = of(prompt, cached);
            assert_eq!(tokens.uncounted(fraction(text)), uncounted, "{text} {prompt} {cached}");
        }
    }

    proptest! {
        #[test]
        fn a_count_is_exact_and_within_the_prompt(
            prompt: u64, cached: u64, thousandths in 0..=1000_u16,
        ) {
            let fraction = CachedTokenFraction(thousandths);
            let (tokens, cached) = (of(prompt, cached), cached.min(prompt));
            let uncounted = tokens.uncounted(fraction);
            prop_assert!(uncounted <= cached);
            let counted = u128::from(cached - uncounted) * 1000;
            let exact = u128::from(cached) * u128::from(thousandths);
            prop_assert!(counted >= exact && counted < exact + 1000);
        }
    }
}
