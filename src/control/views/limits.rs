//! Limits and lists that requests set. Each type carries its bounds, so that every route checks and
//! describes them in the same way.

use super::plan::WindowView;
use crate::control::http::extract::Object;
use domain::plan::{Window, Words};
use serde::Deserialize;
use std::fmt::Display;
use std::ops::RangeInclusive;
use utoipa::ToSchema;

/// The most entries of a list of models.
const MAX_MODELS: usize = 100;
/// The most entries of a list of words.
const MAX_WORDS: usize = 32;
/// Requests of the short-term limit.
pub const WINDOW_REQUESTS: RangeInclusive<u32> = 1..=1_000_000;
/// Seconds over which it is refilled.
pub const WINDOW_SECONDS: RangeInclusive<u32> = 1..=86_400;

/// A number or list outside of its bounds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OutOfBounds(String);

/// A number of a request, with its bounds.
pub trait Bounded: TryFrom<u64> {
    const LEAST: u64;
    const MOST: u64;
}

/// A number within bounds.
macro_rules! bounded {
    ($($(#[$meta:meta])* $name:ident($number:ty): $least:literal..=$most:literal;)*) => {
        $(
            #[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
            #[serde(try_from = "u64")]
            $(#[$meta])*
            pub struct $name(pub $number);

            impl TryFrom<u64> for $name {
                type Error = OutOfBounds;
                fn try_from(given: u64) -> Result<Self, OutOfBounds> {
                    let bounds: RangeInclusive<$number> = $least..=$most;
                    let number = <$number>::try_from(given).ok();
                    let number = number.filter(|number| bounds.contains(number));
                    number.map(Self).ok_or_else(|| out_of_bounds(&bounds, given))
                }
            }

            impl Bounded for $name {
                const LEAST: u64 = $least;
                const MOST: u64 = $most;
            }
        )*
    };
}

bounded! {
    /// Tokens of a day.
    #[schema(value_type = u64, maximum = 1_000_000_000_000_i64, example = 50_000)]
    TokensPerDay(u64): 0..=1_000_000_000_000;
    /// Requests of a day.
    #[schema(value_type = u64, maximum = 1_000_000_000, example = 1000)]
    RequestsPerDay(u64): 0..=1_000_000_000;
    /// US cents per month.
    #[schema(value_type = u32, maximum = 100_000_000, example = 2500)]
    PriceCents(u32): 0..=100_000_000;
    /// Streams that may be open at the same time.
    #[schema(value_type = u32, minimum = 1, maximum = 1_000_000, example = 20)]
    ConcurrentStreams(u32): 1..=1_000_000;
    /// Server-side tool calls of one request.
    #[schema(value_type = u32, minimum = 1, maximum = 1000, example = 20)]
    MaxToolCalls(u32): 1..=1000;
}

fn out_of_bounds<N: Display>(bounds: &RangeInclusive<N>, given: impl Display) -> OutOfBounds {
    let (least, most) = (bounds.start(), bounds.end());
    OutOfBounds(format!("must be between {least} and {most}, but is {given}"))
}

fn at_most<T>(list: Vec<T>, most: usize) -> Result<Vec<T>, OutOfBounds> {
    if list.len() <= most {
        return Ok(list);
    }
    Err(OutOfBounds(format!("must have at most {most} entries, but has {}", list.len())))
}

/// The short-term limit of requests, within its bounds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Object<WindowView>")]
pub struct WindowForm(pub Window);

impl TryFrom<Object<WindowView>> for WindowForm {
    type Error = OutOfBounds;
    fn try_from(Object(given): Object<WindowView>) -> Result<Self, OutOfBounds> {
        if WINDOW_REQUESTS.contains(&given.requests) && WINDOW_SECONDS.contains(&given.seconds) {
            return Ok(Self(Window { capacity: given.requests, refill_seconds: given.seconds }));
        }
        Err(OutOfBounds(format!(
            "must have 1 to 1000000 requests in 1 to 86400 seconds, but has {} in {}",
            given.requests, given.seconds
        )))
    }
}

/// The id or an alias of a model.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._:/-]{1,128}$", example = "grok-4.3")]
pub struct ModelId(pub String);

impl TryFrom<String> for ModelId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_word(&text, 128) {
            Ok(Self(text))
        } else {
            Err("a model id must have 1 to 128 letters, digits or characters of `._:/-`")
        }
    }
}

/// A list of models.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "Vec<ModelId>")]
#[schema(value_type = Vec<ModelId>, max_items = 100)]
pub struct ModelNames(pub Vec<ModelId>);

impl TryFrom<Vec<ModelId>> for ModelNames {
    type Error = OutOfBounds;
    fn try_from(names: Vec<ModelId>) -> Result<Self, OutOfBounds> {
        at_most(names, MAX_MODELS).map(Self)
    }
}

/// An allowed value of a request field, such as `1024x1024`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._:/-]{1,64}$", example = "auto")]
pub struct Word(String);

impl TryFrom<String> for Word {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_word(&text, 64) {
            Ok(Self(text))
        } else {
            Err("a value must have 1 to 64 letters, digits or characters of `._:/-`")
        }
    }
}

/// A list of allowed values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "Vec<Word>")]
#[schema(value_type = Vec<Word>, max_items = 32)]
pub struct WordList(pub Words);

impl TryFrom<Vec<Word>> for WordList {
    type Error = OutOfBounds;
    fn try_from(words: Vec<Word>) -> Result<Self, OutOfBounds> {
        let words = at_most(words, MAX_WORDS)?;
        Ok(Self(words.into_iter().map(|word| word.0.into()).collect()))
    }
}

fn is_word(text: &str, most: usize) -> bool {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
    is_plain && (1..=most).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use utoipa::PartialSchema;

    #[test]
    fn numbers_are_checked_as_the_schema_describes_them() {
        fn check<T: PartialSchema + TryFrom<u64>>(least: u64, most: u64) {
            let schema = serde_json::to_value(T::schema()).unwrap();
            assert_eq!((&schema["minimum"], &schema["maximum"]), (&least.into(), &most.into()));
            assert!(T::try_from(least).is_ok() && T::try_from(most).is_ok(), "{schema}");
            assert!(T::try_from(most + 1).is_err() && T::try_from(u64::MAX).is_err(), "{schema}");
            assert!(least == 0 || T::try_from(least - 1).is_err(), "{schema}");
        }
        check::<TokensPerDay>(0, 1_000_000_000_000);
        check::<RequestsPerDay>(0, 1_000_000_000);
        check::<PriceCents>(0, 100_000_000);
        check::<ConcurrentStreams>(1, 1_000_000);
        check::<MaxToolCalls>(1, 1000);
        let error = ConcurrentStreams::try_from(u64::MAX).unwrap_err().to_string();
        assert_eq!(error, "must be between 1 and 1000000, but is 18446744073709551615");
    }

    #[test]
    fn lists_and_windows_have_bounds() {
        let models = |count| serde_json::from_value::<ModelNames>(vec!["m"; count].into());
        assert_eq!(models(100).unwrap().0.len(), 100);
        let error = models(101).unwrap_err().to_string();
        assert_eq!(error, "must have at most 100 entries, but has 101");
        assert!(serde_json::from_value::<WordList>(vec!["auto"; 33].into()).is_err());
        let window = |json: &str| serde_json::from_str::<WindowForm>(json);
        assert_eq!(window(r#"{"requests":5,"seconds":60}"#).unwrap().0.capacity, 5);
        assert!(window(r#"{"requests":0,"seconds":60}"#).is_err());
        assert!(window(r#"{"requests":5,"seconds":86401}"#).is_err());
        assert!(window("[5,60]").is_err(), "a list is not an object");
    }
}
