//! Limits, prices and lists as admins type them. Each error is a sentence in the language of the page that names
//! the field.

use super::Choice;
use crate::console::page::Page;
use crate::control::api_error::ApiError;
use crate::control::http::extract::Object;
use crate::control::state::ControlState;
use crate::control::views::limits::{
    Bounded, ModelId, ModelNames, PriceCents, WINDOW_REQUESTS, WINDOW_SECONDS, WindowForm, Word,
    WordList,
};
use crate::control::views::plan::WindowView;
use domain::cached_tokens::CachedTokenFraction;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The field of a number or list that is not valid.
fn refused(page: &Page, field: &str, rule: &str) -> ApiError {
    ApiError::form_field(format!("{}: {rule}", page.t(field)))
}

/// A number within its bounds; `None` if the field is empty. `field` is its name on the page.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn number<T: Bounded>(page: &Page, field: &str, typed: &str) -> Result<Option<T>, ApiError> {
    let Some(number) = whole(page, field, typed, T::LEAST..=T::MOST)? else { return Ok(None) };
    T::try_from(number).map(Some).map_err(|_| refused(page, field, typed))
}

/// As [`number`], of a field that must be filled in.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn required<T: Bounded>(page: &Page, field: &str, typed: &str) -> Result<T, ApiError> {
    number(page, field, typed)?.ok_or_else(|| missing(page, field))
}

fn whole(
    page: &Page,
    field: &str,
    typed: &str,
    bounds: RangeInclusive<u64>,
) -> Result<Option<u64>, ApiError> {
    let digits: String = typed.chars().filter(|c| !matches!(c, ' ' | ',' | '_')).collect();
    if digits.is_empty() {
        return Ok(None);
    }
    match digits.parse().ok().filter(|number| bounds.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => {
            let bounds: [&dyn Display; 2] = [bounds.start(), bounds.end()];
            let rule = page.fill("enter a whole number from {} to {}.", &bounds);
            Err(refused(page, field, &rule))
        }
    }
}

/// The short-term limit; `None` if both fields are empty.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn window(
    page: &Page,
    (requests, seconds): (&str, &str),
) -> Result<Option<WindowForm>, ApiError> {
    let wide = |bounds: &RangeInclusive<u32>| u64::from(*bounds.start())..=u64::from(*bounds.end());
    let requests = whole(page, "Requests of the window", requests, wide(&WINDOW_REQUESTS))?;
    let seconds = whole(page, "Seconds of the window", seconds, wide(&WINDOW_SECONDS))?;
    let (requests, seconds) = match (requests, seconds) {
        (None, None) => return Ok(None),
        (Some(requests), Some(seconds)) => (requests, seconds),
        (None, Some(_)) => return Err(missing(page, "Requests of the window")),
        (Some(_), None) => return Err(missing(page, "Seconds of the window")),
    };
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let view = WindowView { requests: narrow(requests), seconds: narrow(seconds) };
    let form = WindowForm::try_from(Object(view));
    form.map(Some).map_err(|error| refused(page, "Requests of the window", &error.to_string()))
}

/// The error of an empty field that must be filled in.
#[must_use]
pub fn missing(page: &Page, field: &str) -> ApiError {
    refused(page, field, page.t("fill in this field."))
}

/// A price that was typed in dollars, such as `4` or `4.50`.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn price(page: &Page, field: &str, typed: &str) -> Result<PriceCents, ApiError> {
    let cents = cents_of(typed).and_then(|cents| PriceCents::try_from(cents).ok());
    cents.ok_or_else(|| {
        refused(page, field, page.t("enter dollars such as 4 or 4.50, at most 1000000."))
    })
}

/// A fraction from 0 to 1, such as `0.1`.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn fraction(page: &Page, field: &str, typed: &str) -> Result<CachedTokenFraction, ApiError> {
    let rule = || page.t("enter a number from 0 to 1 with at most three decimals, such as 0.1.");
    typed.trim().parse().map_err(|_| refused(page, field, rule()))
}

fn cents_of(typed: &str) -> Option<u64> {
    let typed = typed.trim().trim_start_matches('$');
    let (whole, cents) = typed.split_once('.').unwrap_or((typed, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || cents.len() > 2 || !is_digits(whole) || !is_digits(cents) {
        return None;
    }
    let cents: u64 = format!("{cents:0<2}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(cents)
}

/// Cents as they are typed: `4.50`.
#[must_use]
pub fn typed_price(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Words with spaces or commas between them.
///
/// # Errors
/// [`ApiError::InvalidValue`].
pub fn words(page: &Page, field: &str, typed: &str) -> Result<WordList, ApiError> {
    let words = typed.split([',', ' ', '\n', '\r']).filter(|word| !word.is_empty());
    let words: Result<Vec<Word>, _> = words.map(|word| Word::try_from(word.to_owned())).collect();
    let rule = || page.t("enter at most 32 words of letters, digits and the characters . _ : / -");
    let words = words.map_err(|_| refused(page, field, rule()))?;
    WordList::try_from(words).map_err(|_| refused(page, field, rule()))
}

/// The models that were chosen; `None` for all of them.
///
/// # Errors
/// [`ApiError::InvalidValue`] if none is chosen.
pub fn models(page: &Page, scope: &str, chosen: &[String]) -> Result<Option<ModelNames>, ApiError> {
    if scope != "some" {
        // Without a script, ticking a model does not choose it.
        return match chosen {
            [] => Ok(None),
            _ => Err(refused(page, "Models", page.t("choose “only these”, or no model."))),
        };
    }
    if chosen.is_empty() {
        return Err(refused(page, "Models", page.t("choose at least one.")));
    }
    let names: Result<Vec<ModelId>, _> =
        chosen.iter().map(|name| ModelId::try_from(name.clone())).collect();
    let names = names.ok().and_then(|names| ModelNames::try_from(names).ok());
    names.map(Some).ok_or_else(|| refused(page, "Models", page.t("choose at most 100.")))
}

/// The models of the configuration and those already chosen, as boxes to check.
#[must_use]
pub fn model_choices(state: &ControlState, chosen: &[String]) -> Vec<Choice> {
    let upstreams = state.instance.upstreams.load();
    let known = upstreams.catalog.models.iter().map(|model| model.id.to_string());
    let mut names: Vec<String> = known.collect();
    names.extend(chosen.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    names.iter().map(|name| Choice::new(name, name, chosen.contains(name))).collect()
}

/// The ids of a list of models.
#[must_use]
pub fn ids(models: Option<&Arc<[Arc<str>]>>) -> Vec<String> {
    models.map(|models| models.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::views::limits::{ConcurrentStreams, TokensPerDay};

    #[test]
    fn prices_are_typed_in_dollars() {
        for (typed, cents) in [
            ("4", Some(400)),
            (" $4.5 ", Some(450)),
            ("0.07", Some(7)),
            ("4.999", None),
            ("", None),
            (".5", None),
            ("-1", None),
            ("4,50", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(cents_of(typed), cents, "{typed}");
        }
        assert_eq!((typed_price(450), typed_price(7)), ("4.50".to_owned(), "0.07".to_owned()));
    }

    #[test]
    fn fractions_are_between_0_and_1() {
        let page = Page::default();
        assert_eq!(fraction(&page, "x", " 0.1 ").unwrap().thousandths(), 100);
        for bad in ["", "-0.1", "1.1", "0.12345", "NaN", "10%", "0,1"] {
            let error = fraction(&page, "x", bad).unwrap_err().to_string();
            assert!(error.starts_with("x: enter a number from 0 to 1"), "{bad}: {error}");
        }
    }

    #[test]
    fn numbers_have_bounds_and_names() {
        let page = Page::default();
        let tokens = |typed| number::<TokensPerDay>(&page, "Tokens per day", typed);
        assert_eq!(tokens("1,000 000").unwrap().unwrap().0, 1_000_000);
        assert!(tokens("").unwrap().is_none());
        for bad in ["x", "-1", "1.5", "99999999999999"] {
            let error = tokens(bad).unwrap_err().to_string();
            assert_eq!(error, "Tokens per day: enter a whole number from 0 to 1000000000000.");
        }
        assert!(required::<ConcurrentStreams>(&page, "Open streams", "").is_err());
        assert!(required::<ConcurrentStreams>(&page, "Open streams", "0").is_err());
    }

    #[test]
    fn a_window_needs_both_numbers() {
        let page = Page::default();
        assert!(window(&page, ("", "")).unwrap().is_none());
        assert_eq!(window(&page, ("5", "60")).unwrap().unwrap().0.refill_seconds, 60);
        for bad in [("5", ""), ("", "60"), ("0", "60"), ("5", "86401")] {
            assert!(window(&page, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn all_models_or_at_least_one() {
        let page = Page::default();
        let one = ["grok-4.3".to_owned()];
        assert!(models(&page, "all", &[]).unwrap().is_none());
        assert!(models(&page, "all", &one).is_err(), "ticked, and not chosen");
        assert_eq!(models(&page, "some", &one).unwrap().unwrap().0.len(), 1);
        assert!(models(&page, "some", &[]).is_err());
        assert_eq!(words(&page, "x", "auto, low\r\n high").unwrap().0.len(), 3);
        assert!(words(&page, "x", "a\"b").is_err());
    }
}
