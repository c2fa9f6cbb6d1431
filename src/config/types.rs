//! Types of configuration values: what each accepts, and how it describes that.

use super::value::{FromConfig, RawValue};
use domain::label::label;
use domain::secret::Secret;
use domain::user::normalised_email;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::Duration;
use wire::surface::Surface;

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy)]
pub struct WholeNumber<T, const MIN: u64, const MAX: u64>(pub T);

/// A length of time of at least `MIN_MS` milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Seconds<const MIN_MS: u64>(pub Duration);

/// Ticks (1e-10 dollars) for one token, written as dollars for a million tokens.
#[derive(Debug, Clone, Copy)]
pub struct TokenPrice(pub u64);

/// Ticks for one image, written as dollars.
#[derive(Debug, Clone, Copy)]
pub struct ImagePrice(pub u64);

/// Surfaces that an upstream offers.
#[derive(Debug, Clone)]
pub struct SurfaceList(pub Vec<Surface>);

/// A name without spaces, to refer to something by.
#[derive(Debug, Clone)]
pub struct Name(pub String);

/// Path of a PEM file with certificates.
#[derive(Debug, Clone)]
pub struct CaFile(pub String);

/// A name that users see.
#[derive(Debug, Clone)]
pub struct DisplayName(pub String);

/// A list of [`Name`]s.
#[derive(Debug, Clone)]
pub struct NameList(pub Vec<String>);

/// An e-mail address, as far as one can tell.
#[derive(Debug, Clone)]
pub struct Email(pub String);

/// A filter that `tracing` understands.
#[derive(Debug, Clone)]
pub struct LogFilter(pub String);

/// An instant in Unix seconds, written as such or as a date.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseDate(pub i64);

/// Longest accepted duration; it keeps deadlines from overflowing.
const MAX_SECONDS: f64 = 30.0 * 86_400.0;

/// Ticks in one dollar for a million tokens have four decimal places.
const PRICE_DECIMALS: usize = 4;

impl<T: FromConfig> FromConfig for Option<T> {
    fn expected() -> String {
        format!("{}, or \"\" for none", T::expected())
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        match value.text() {
            Some("") => Some(None),
            _ => T::from_value(value).map(Some),
        }
    }
}

impl<T: TryFrom<u64>, const MIN: u64, const MAX: u64> FromConfig for WholeNumber<T, MIN, MAX> {
    fn expected() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let number = value.whole().filter(|n| (MIN..=MAX).contains(n))?;
        T::try_from(number).ok().map(Self)
    }
}

impl<const MIN_MS: u64> FromConfig for Seconds<MIN_MS> {
    fn expected() -> String {
        let least = if MIN_MS == 0 { "0 or more" } else { "more than 0" };
        format!("seconds as a number such as 30 or 0.5, {least}, at most 30 days")
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let seconds: f64 = value.decimal()?.parse().ok()?;
        let duration =
            (0.0..=MAX_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))?;
        (duration >= Duration::from_millis(MIN_MS)).then_some(Self(duration))
    }
}

impl FromConfig for TokenPrice {
    fn expected() -> String {
        "US dollars per million tokens with at most four decimals, such as 2.00 or \"0.125\""
            .to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let text = value.decimal()?;
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        let is_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let well_formed = is_digits(whole) && is_digits(decimals) && !whole.is_empty();
        if !well_formed || whole.len() > 9 || decimals.len() > PRICE_DECIMALS {
            return None;
        }
        format!("{whole}{decimals:0<PRICE_DECIMALS$}").parse().ok().map(Self)
    }
}

impl FromConfig for ImagePrice {
    fn expected() -> String {
        "US dollars per image with at most four decimals, such as 0.02".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        // What is a tick a token for a dollar per million tokens is a million for a dollar.
        TokenPrice::from_value(value)?.0.checked_mul(1_000_000).map(Self)
    }
}

impl FromConfig for SurfaceList {
    fn expected() -> String {
        let names: Vec<_> = Surface::ALL.iter().map(|surface| surface.as_str()).collect();
        format!("a list of {}", names.join(", "))
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let surface =
            |name: &String| Surface::ALL.into_iter().find(|surface| surface.as_str() == name);
        value.list()?.iter().map(surface).collect::<Option<_>>().map(Self)
    }
}

impl FromConfig for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        match value {
            RawValue::Bool(flag) => Some(*flag),
            _ => value.text()?.parse().ok(),
        }
    }
}

impl FromConfig for String {
    fn expected() -> String {
        "text in quotes".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        value.text().map(str::to_owned)
    }
}

impl FromConfig for CaFile {
    fn expected() -> String {
        "the path of a readable PEM file with certificates".to_owned()
    }

    /// Read here, because the connections made later take its being there for granted.
    fn from_value(value: &RawValue) -> Option<Self> {
        let path = value.text()?;
        let mut certificates = CertificateDer::pem_file_iter(path).ok()?.peekable();
        certificates.peek()?;
        certificates.all(|one| one.is_ok()).then(|| Self(path.to_owned()))
    }
}

impl FromConfig for Name {
    fn expected() -> String {
        "a name of at most 128 letters, digits, `-`, `_`, `.`, `:` and `/`".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let text = value.text()?;
        is_name(text).then(|| Self(text.to_owned()))
    }
}

impl FromConfig for DisplayName {
    fn expected() -> String {
        "a name of 1 to 64 visible characters".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        label(value.text()?).ok().map(Self)
    }
}

impl FromConfig for NameList {
    fn expected() -> String {
        format!("a list with each entry {}", Name::expected())
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let names = value.list()?;
        names.iter().all(|n| is_name(n)).then_some(Self(names))
    }
}

impl FromConfig for Secret {
    fn expected() -> String {
        "text in quotes".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let RawValue::Text(text) = value else { return None };
        // A key that a header cannot carry would fail at the first call, far from its cause.
        let is_plain = !text.chars().any(char::is_control);
        is_plain.then(|| Self::new(text))
    }
}

impl FromConfig for TimeZone {
    fn expected() -> String {
        "an IANA time zone such as \"UTC\" or \"Europe/Berlin\"".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        match value.text()? {
            "UTC" => Some(Self::UTC),
            name => Self::get(name).ok(),
        }
    }
}

impl FromConfig for Email {
    fn expected() -> String {
        "an e-mail address".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        normalised_email(value.text()?).ok().map(Self)
    }
}

impl FromConfig for LogFilter {
    fn expected() -> String {
        "a log filter such as \"info\" or \"info,knockx=debug\"".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        let text = value.text()?;
        tracing_subscriber::EnvFilter::try_new(text).ok()?;
        Some(Self(text.to_owned()))
    }
}

impl FromConfig for ReleaseDate {
    fn expected() -> String {
        "a date such as \"2026-09-21\", or Unix seconds".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        if let Some(seconds) = value.whole() {
            return i64::try_from(seconds).ok().map(Self);
        }
        let date: Date = value.text()?.parse().ok()?;
        let midnight = date.to_zoned(TimeZone::UTC).ok()?;
        Some(Self(midnight.timestamp().as_second()))
    }
}

fn is_name(text: &str) -> bool {
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(is_name_byte)
}
