//! The forms of config values: what each type accepts, and how it says so.

use super::written::{Form, Written};
use super::{Billing, Durability, Environment, LogFormat};
use domain::label::label;
use domain::secret::Secret;
use domain::user::normalised_email;
use http::Uri;
use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use wire::request::LimitField;
use wire::surface::Surface;

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy)]
pub struct Whole<T, const MIN: u64, const MAX: u64>(pub T);

/// A length of time of at least `MIN_MS` milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Seconds<const MIN_MS: u64>(pub Duration);

/// Ticks (1e-10 dollars) for one token, written as dollars for a million tokens.
#[derive(Debug, Clone, Copy)]
pub struct Dollars(pub u64);

/// Ticks for one image.
#[derive(Debug, Clone, Copy)]
pub struct PerImage(pub u64);

/// What an upstream offers.
#[derive(Debug, Clone)]
pub struct Surfaces(pub Vec<Surface>);

/// A name without spaces, to refer to something by.
#[derive(Debug, Clone)]
pub struct Name(pub String);

/// A file of certificates.
#[derive(Debug, Clone)]
pub struct CaFile(pub String);

/// A name for people.
#[derive(Debug, Clone)]
pub struct Shown(pub String);

/// Names in a list.
#[derive(Debug, Clone)]
pub struct Names(pub Vec<String>);

/// Networks, or single addresses.
#[derive(Debug, Clone)]
pub struct Nets(pub Vec<IpNet>);

/// Web origins.
#[derive(Debug, Clone)]
pub enum Origins {
    Any,
    Listed(Vec<String>),
}

/// The address of an upstream.
#[derive(Debug, Clone)]
pub struct BaseUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
}

/// An e-mail address, as far as one can tell.
#[derive(Debug, Clone)]
pub struct Email(pub String);

/// A filter that `tracing` understands.
#[derive(Debug, Clone)]
pub struct LogFilter(pub String);

/// An instant in Unix seconds, written as such or as a date.
#[derive(Debug, Clone, Copy)]
pub struct Released(pub i64);

/// Longest duration that makes sense; it keeps deadlines from overflowing.
const MAX_SECONDS: f64 = 30.0 * 86_400.0;

/// Ticks in one dollar for a million tokens have four decimal places.
const PRICE_DECIMALS: usize = 4;

impl<T: Form> Form for Option<T> {
    fn form() -> String {
        format!("{}, or \"\" for none", T::form())
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text() {
            Some("") => Some(None),
            _ => T::read(written).map(Some),
        }
    }
}

impl<T: TryFrom<u64>, const MIN: u64, const MAX: u64> Form for Whole<T, MIN, MAX> {
    fn form() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(written: &Written) -> Option<Self> {
        let number = written.whole().filter(|n| (MIN..=MAX).contains(n))?;
        T::try_from(number).ok().map(Self)
    }
}

impl<const MIN_MS: u64> Form for Seconds<MIN_MS> {
    fn form() -> String {
        let least = if MIN_MS == 0 { "0 or more" } else { "more than 0" };
        format!("seconds as a number such as 30 or 0.5, {least}, at most 30 days")
    }

    fn read(written: &Written) -> Option<Self> {
        let seconds: f64 = written.decimal()?.parse().ok()?;
        let duration =
            (0.0..=MAX_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))?;
        (duration >= Duration::from_millis(MIN_MS)).then_some(Self(duration))
    }
}

impl Form for Dollars {
    fn form() -> String {
        "US dollars per million tokens with at most four decimals, such as 2.00 or \"0.125\""
            .to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        let text = written.decimal()?;
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        let is_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let well_formed = is_digits(whole) && is_digits(decimals) && !whole.is_empty();
        if !well_formed || whole.len() > 9 || decimals.len() > PRICE_DECIMALS {
            return None;
        }
        format!("{whole}{decimals:0<PRICE_DECIMALS$}").parse().ok().map(Self)
    }
}

impl Form for PerImage {
    fn form() -> String {
        "US dollars per image with at most four decimals, such as 0.02".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        // What is a tick a token for a dollar per million tokens is a million for a dollar.
        Dollars::read(written)?.0.checked_mul(1_000_000).map(Self)
    }
}

impl Form for Surfaces {
    fn form() -> String {
        let names: Vec<_> = Surface::ALL.iter().map(|surface| surface.as_str()).collect();
        format!("a list of {}", names.join(", "))
    }

    fn read(written: &Written) -> Option<Self> {
        let surface =
            |name: &String| Surface::ALL.into_iter().find(|surface| surface.as_str() == name);
        written.list()?.iter().map(surface).collect::<Option<_>>().map(Self)
    }
}

impl Form for bool {
    fn form() -> String {
        "true or false".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written {
            Written::Flag(flag) => Some(*flag),
            _ => written.text()?.parse().ok(),
        }
    }
}

impl Form for String {
    fn form() -> String {
        "text in quotes".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        written.text().map(str::to_owned)
    }
}

impl Form for CaFile {
    fn form() -> String {
        "the path of a readable PEM file with certificates".to_owned()
    }

    /// Read here, because the connections made later take its being there for granted.
    fn read(written: &Written) -> Option<Self> {
        let path = written.text()?;
        let mut certificates = CertificateDer::pem_file_iter(path).ok()?.peekable();
        certificates.peek()?;
        certificates.all(|one| one.is_ok()).then(|| Self(path.to_owned()))
    }
}

impl Form for Name {
    fn form() -> String {
        "a name of at most 128 letters, digits, `-`, `_`, `.`, `:` and `/`".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        let text = written.text()?;
        is_name(text).then(|| Self(text.to_owned()))
    }
}

impl Form for Shown {
    fn form() -> String {
        "a name of 1 to 64 visible characters".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        label(written.text()?).ok().map(Self)
    }
}

impl Form for Names {
    fn form() -> String {
        format!("a list with each entry {}", Name::form())
    }

    fn read(written: &Written) -> Option<Self> {
        let names = written.list()?;
        names.iter().all(|n| is_name(n)).then_some(Self(names))
    }
}

impl Form for Nets {
    fn form() -> String {
        "addresses or networks such as \"10.0.0.0/8\", as a list or comma-separated".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        let net = |text: &String| {
            let text = without_brackets(text);
            text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        };
        written.list()?.iter().map(net).collect::<Option<_>>().map(Self)
    }
}

impl Form for Origins {
    fn form() -> String {
        "\"*\", or origins such as \"https://console.example.com\", as a list or comma-separated"
            .to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        let origins = written.list()?;
        if origins == ["*"] {
            return Some(Self::Any);
        }
        origins.iter().all(|o| is_origin(o)).then_some(Self::Listed(origins))
    }
}

impl Form for Secret {
    fn form() -> String {
        "text in quotes".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        let Written::Text(text) = written else { return None };
        // A key that a header cannot carry would fail at the first call, far from its cause.
        let is_plain = !text.chars().any(char::is_control);
        is_plain.then(|| Self::new(text))
    }
}

impl Form for IpAddr {
    fn form() -> String {
        "an IP address such as 127.0.0.1 or ::, or localhost".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text()? {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            text => without_brackets(text).parse().ok(),
        }
    }
}

/// An IPv6 address as it stands in URLs, `[::1]`, without its brackets.
fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

impl Form for BaseUrl {
    fn form() -> String {
        "an http:// or https:// URL without a query, such as https://api.x.ai/v1".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        let text = written.text()?;
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || text.contains(['?', '#']) {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if has_port => return None,
            None if tls => 443,
            None => 80,
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        (!host.is_empty()).then_some(Self { tls, host, port, path })
    }
}

impl BaseUrl {
    /// Whether it points at this machine.
    pub fn is_loopback(&self) -> bool {
        let is_loopback_ip = self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_loopback_ip || self.host == "localhost"
    }
}

impl Form for TimeZone {
    fn form() -> String {
        "an IANA time zone such as \"UTC\" or \"Europe/Berlin\"".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text()? {
            "UTC" => Some(Self::UTC),
            name => Self::get(name).ok(),
        }
    }
}

impl Form for Email {
    fn form() -> String {
        "an e-mail address".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        normalised_email(written.text()?).ok().map(Self)
    }
}

impl Form for LogFilter {
    fn form() -> String {
        "a log filter such as \"info\" or \"info,knockx=debug\"".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        let text = written.text()?;
        tracing_subscriber::EnvFilter::try_new(text).ok()?;
        Some(Self(text.to_owned()))
    }
}

impl Form for Released {
    fn form() -> String {
        "a date such as \"2026-09-21\", or Unix seconds".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        if let Some(seconds) = written.whole() {
            return i64::try_from(seconds).ok().map(Self);
        }
        let date: Date = written.text()?.parse().ok()?;
        let midnight = date.to_zoned(TimeZone::UTC).ok()?;
        Some(Self(midnight.timestamp().as_second()))
    }
}

impl Form for Environment {
    fn form() -> String {
        "development or production".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text()? {
            "development" => Some(Self::Development),
            "production" => Some(Self::Production),
            _ => None,
        }
    }
}

impl Form for Durability {
    fn form() -> String {
        "process or power".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text()? {
            "process" => Some(Self::Process),
            "power" => Some(Self::Power),
            _ => None,
        }
    }
}

impl Form for Billing {
    fn form() -> String {
        "open or manual (stripe is not built yet)".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text()? {
            "open" => Some(Self::Open),
            "manual" => Some(Self::Manual),
            _ => None,
        }
    }
}

impl Form for LogFormat {
    fn form() -> String {
        "pretty or json".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text()? {
            "pretty" => Some(Self::Pretty),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl Form for LimitField {
    fn form() -> String {
        "max_completion_tokens or max_tokens".to_owned()
    }

    fn read(written: &Written) -> Option<Self> {
        match written.text()? {
            "max_completion_tokens" => Some(Self::MaxCompletionTokens),
            "max_tokens" => Some(Self::MaxTokens),
            _ => None,
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(is_name_byte)
}

/// Scheme, host and port as a browser sends them: nothing after.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_web = matches!(scheme, "http" | "https");
    is_web && host.parse::<http::uri::Authority>().is_ok() && !host.contains('@')
}
