//! Everything that can go wrong with an upstream, by name.
//!
//! A fault is plain data here; `pacing.rs`, `corrupt.rs` and `reply` act on it. Several may be given at
//! once, separated by commas (`split,crlf`).

use crate::account_error::AccountError;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed after this many events, without the end of the body.
    Cut(u64),
    /// The connection is closed by a TCP reset after this many events.
    Reset(u64),
    /// The body ends well-formed after this many events, without `[DONE]`.
    Close(u64),
    /// Silence after this many events, until the client disconnects.
    Stall(u64),
    /// An error event in the middle of a stream, then the end.
    ErrorEvent(u64),
    /// 429, with a `retry-after` of this many seconds if not 0.
    TooMany(u64),
    /// 410, 422, 500 or 503 in xAI's shape.
    Status(u16),
    /// 502 with a page from a CDN.
    Html,
    /// 200 and bytes that are no JSON.
    Garbage,
    /// No bytes, not even a status, for this long.
    SlowFirstByte(Duration),
    /// One byte at a time.
    Drip,
    /// Pieces of odd sizes: inside UTF-8 characters, between CR and LF.
    Split,
    /// Lines end in CR LF instead of LF.
    Crlf,
    /// SSE comments and unknown events between the real ones.
    Comments,
    /// The JSON of an event spread over several `data:` lines.
    Multiline,
    NoUsage,
    UsageTwice,
    /// RunningSimulator usage on every chunk, as old xAI samples show it.
    UsageEveryChunk,
    /// 200 with an error body.
    Error200,
    /// xAI's response to a wrong key: 400, not 401.
    WrongKey,
    /// 200 and an empty body.
    Empty,
    /// One event (or body) of 8 MiB.
    Oversize,
    BadUtf8,
    /// The answer exceeds the request's limit by this many tokens.
    Overrun(u64),
    /// The connection is closed before any reply.
    RefuseHeaders,
    /// The reported usage is 0 tokens, whatever the answer.
    ZeroUsage,
    /// The reported usage has more cached tokens than prompt tokens.
    CachedOver,
    /// A member of each message occurs twice in it.
    DuplicateKeys,
    /// The index of the first choice is -1.
    OddIndex,
    /// The request is refused as invalid: in the first event of a stream, or with a 400.
    ErrorFirst,
    /// An error of the operator's account.
    AccountError(AccountError),
    /// This many interim replies (103) precede the reply.
    Interim(u64),
    /// This many trailers follow the body.
    Trailers(u64),
    /// A compressed body that was not requested.
    Gzip,
    /// The reply's id is this number, in six digits.
    ShortId(u64),
    /// Requests with `stream_options` are refused.
    NoStreamOptions,
    /// Requests with reasoning that was sealed under another seed are refused.
    Sealed,
    /// The prompt is refused as longer than the model's context, as xAI does it.
    PromptTooLong,
    /// The prompt is refused by content rules: 403, as xAI does it.
    ForbiddenPrompt,
    /// The prompt is refused by content rules: 400 with a code, as `OpenAI` does it.
    ContentPolicy,
    /// The reply has headers that only the operator may see.
    LeakyHeaders,
    /// A 400 that quotes the key, a host, an address and an e-mail address.
    LeakyError,
}

/// The faults of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

/// A name that is not the name of a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a fault; valid faults: {NAMES}")]
pub struct UnknownFault(String);

/// All faults with their arguments, for help texts.
pub const NAMES: &str = "cut=N reset=N close=N stall=N error-event=N 429[=SECONDS] 410 422 500 503 html \
    garbage slow-first-byte=MS drip split crlf comments multiline no-usage usage-twice \
    usage-every-chunk zero-usage cached-over duplicate-keys odd-index error-200 error-first wrong-key \
    credit-balance arrearage billing-limit spending-limit no-balance no-quota key-not-valid empty oversize bad-utf8 \
    overrun=N refuse-headers interim=N trailers=N gzip short-id=N no-stream-options sealed prompt-too-long forbidden-prompt content-policy leaky-headers leaky-error";

/// The way in which a stream breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    Cut,
    Reset,
    Close,
    Stall,
    ErrorEvent,
}

impl Faults {
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    pub fn iter(&self) -> impl Iterator<Item = Fault> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first break, and after how many events it comes.
    pub fn break_after(&self) -> Option<(u64, Break)> {
        self.iter().find_map(|fault| match fault {
            Fault::Cut(n) => Some((n, Break::Cut)),
            Fault::Reset(n) => Some((n, Break::Reset)),
            Fault::Close(n) => Some((n, Break::Close)),
            Fault::Stall(n) => Some((n, Break::Stall)),
            Fault::ErrorEvent(n) => Some((n, Break::ErrorEvent)),
            _ => None,
        })
    }

    /// The faults that a body without events can have: it breaks in its middle.
    #[must_use]
    pub fn for_body(&self) -> Self {
        let fitting = |fault| match fault {
            Fault::Cut(_) => Some(Fault::Cut(1)),
            Fault::Reset(_) => Some(Fault::Reset(1)),
            Fault::Close(_) => Some(Fault::Close(1)),
            Fault::Stall(_) => Some(Fault::Stall(1)),
            Fault::Drip | Fault::Split | Fault::Trailers(_) => Some(fault),
            _ => None,
        };
        Self(self.iter().filter_map(fitting).collect())
    }

    pub fn overrun(&self) -> u64 {
        self.iter()
            .map(|fault| if let Fault::Overrun(n) = fault { n } else { 0 })
            .fold(0, u64::saturating_add)
    }

    pub fn trailers(&self) -> u64 {
        self.iter()
            .map(|fault| if let Fault::Trailers(n) = fault { n } else { 0 })
            .fold(0, u64::saturating_add)
    }

    pub fn interim(&self) -> u64 {
        self.iter()
            .map(|fault| if let Fault::Interim(n) = fault { n } else { 0 })
            .fold(0, u64::saturating_add)
    }

    /// The id that a reply is to have in place of its own.
    pub fn short_id(&self) -> Option<String> {
        self.iter().find_map(|fault| match fault {
            Fault::ShortId(n) => Some(format!("{n:06}")),
            _ => None,
        })
    }

    pub fn slow_first_byte(&self) -> Duration {
        self.iter().map(|f| if let Fault::SlowFirstByte(d) = f { d } else { Duration::ZERO }).sum()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let names = text.split(',').map(str::trim);
        names
            .filter(|n| !n.is_empty() && *n != "none")
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let unknown = || UnknownFault(text.to_owned());
        let (name, argument) = match text.split_once('=') {
            Some((name, n)) => (name, Some(n.parse::<u64>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        named(name, argument).ok_or_else(unknown)
    }
}

/// The faults that take no argument.
const WITHOUT_ARGUMENT: [(&str, Fault); 33] = [
    ("410", Fault::Status(410)),
    ("422", Fault::Status(422)),
    ("500", Fault::Status(500)),
    ("503", Fault::Status(503)),
    ("html", Fault::Html),
    ("garbage", Fault::Garbage),
    ("drip", Fault::Drip),
    ("split", Fault::Split),
    ("crlf", Fault::Crlf),
    ("comments", Fault::Comments),
    ("multiline", Fault::Multiline),
    ("no-usage", Fault::NoUsage),
    ("usage-twice", Fault::UsageTwice),
    ("usage-every-chunk", Fault::UsageEveryChunk),
    ("zero-usage", Fault::ZeroUsage),
    ("cached-over", Fault::CachedOver),
    ("duplicate-keys", Fault::DuplicateKeys),
    ("odd-index", Fault::OddIndex),
    ("error-200", Fault::Error200),
    ("error-first", Fault::ErrorFirst),
    ("wrong-key", Fault::WrongKey),
    ("empty", Fault::Empty),
    ("oversize", Fault::Oversize),
    ("bad-utf8", Fault::BadUtf8),
    ("refuse-headers", Fault::RefuseHeaders),
    ("gzip", Fault::Gzip),
    ("no-stream-options", Fault::NoStreamOptions),
    ("sealed", Fault::Sealed),
    ("prompt-too-long", Fault::PromptTooLong),
    ("forbidden-prompt", Fault::ForbiddenPrompt),
    ("content-policy", Fault::ContentPolicy),
    ("leaky-headers", Fault::LeakyHeaders),
    ("leaky-error", Fault::LeakyError),
];

/// The longest silence before a reply: a day.
const MAX_WAIT_MS: u64 = 24 * 3600 * 1000;

/// An argument that is left out is the smallest that shows the fault.
fn named(name: &str, argument: Option<u64>) -> Option<Fault> {
    let events = argument.unwrap_or(3);
    Some(match name {
        "cut" => Fault::Cut(events),
        "reset" => Fault::Reset(events),
        "close" => Fault::Close(events),
        "stall" => Fault::Stall(events),
        "error-event" => Fault::ErrorEvent(events),
        "429" => Fault::TooMany(argument.unwrap_or(0)),
        "slow-first-byte" => {
            let wait = argument.unwrap_or(1000).min(MAX_WAIT_MS);
            Fault::SlowFirstByte(Duration::from_millis(wait))
        }
        "overrun" => Fault::Overrun(argument.unwrap_or(1)),
        "interim" => Fault::Interim(argument.unwrap_or(100)),
        "trailers" => Fault::Trailers(argument.unwrap_or(1000)),
        "short-id" => Fault::ShortId(argument.unwrap_or(1)),
        _ => {
            let plain =
                WITHOUT_ARGUMENT.iter().find(|(plain, _)| *plain == name).map(|(_, fault)| *fault);
            return plain.or_else(|| AccountError::from_name(name).map(Fault::AccountError));
        }
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(n) => write!(f, "cut={n}"),
            Self::Reset(n) => write!(f, "reset={n}"),
            Self::Close(n) => write!(f, "close={n}"),
            Self::Stall(n) => write!(f, "stall={n}"),
            Self::ErrorEvent(n) => write!(f, "error-event={n}"),
            Self::TooMany(0) => f.write_str("429"),
            Self::TooMany(n) => write!(f, "429={n}"),
            Self::SlowFirstByte(d) => write!(f, "slow-first-byte={}", d.as_millis()),
            Self::Overrun(n) => write!(f, "overrun={n}"),
            Self::Interim(n) => write!(f, "interim={n}"),
            Self::Trailers(n) => write!(f, "trailers={n}"),
            Self::ShortId(n) => write!(f, "short-id={n}"),
            Self::AccountError(account_error) => f.write_str(account_error.name()),
            plain => {
                let named = WITHOUT_ARGUMENT.iter().find(|(_, fault)| fault == plain);
                f.write_str(named.map_or("none", |(name, _)| name))
            }
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_help_is_read_and_written_alike() {
        for name in NAMES.split_whitespace() {
            let given = name.replace("[=SECONDS]", "").replace("=N", "=7").replace("=MS", "=7");
            let faults: Faults = given.parse().expect("a fault of the help");
            assert_eq!(faults.to_string(), given);
        }
    }

    #[test]
    fn faults_are_a_list_and_strangers_are_refused() {
        let faults: Faults = "split, crlf".parse().expect("two faults");
        assert!(faults.has(Fault::Split) && faults.has(Fault::Crlf));
        assert!("none".parse::<Faults>().expect("no fault").is_empty());
        assert!("cut=x".parse::<Faults>().is_err());
        assert!("explode".parse::<Faults>().is_err());
    }

    #[test]
    fn a_break_comes_after_its_events() {
        let faults: Faults = "crlf,stall=5".parse().expect("two faults");
        assert_eq!(faults.break_after(), Some((5, Break::Stall)));
        assert_eq!(Faults::from(Fault::Overrun(9)).overrun(), 9);
    }
}
