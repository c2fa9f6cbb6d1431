//! The simulator's behaviour: for all requests ([`Settings`]), and for one ([`Overrides`]).
//!
//! A caller steers its own request by headers (`x-sim-tokens: 40`) or, where headers get lost on
//! the way, by a marker in its last user message: `[sim tokens=40 token-ms=5 fault=stall=3]`.

use crate::fault::Faults;
use crate::surfaces::Surfaces;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The largest number that a header or a marker can set: tokens, or milliseconds of about a day.
const MAX_NUMBER: u64 = 100_000_000;

/// The settings of every request that does not override them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to bind; [`super::Simulator::start`] takes the bound listener.
    pub listen: SocketAddr,
    /// Same seed and same request, same answer.
    pub seed: u64,
    /// Silence before the first token of an answer.
    pub first_token: Duration,
    /// Time between two tokens; zero writes whole answers at once.
    pub token_gap: Duration,
    /// Length of an answer, before the request's own limit.
    pub tokens: u64,
    /// Hidden reasoning of reasoning models; `None` draws it from the seed.
    pub reasoning: Option<u64>,
    /// Tokens of a hidden system prompt, billed on top of the visible one.
    pub prompt_overhead: u64,
    pub faults: Faults,
    /// The only accepted key; `None` accepts any.
    pub key: Option<String>,
    /// The request log is also written to this file, a JSON line per answer.
    pub log: Option<PathBuf>,
    /// Events that are due together share a write of about this many bytes; 0 writes each alone.
    pub coalesce: usize,
    /// Names beside the built-in models, priced as the default one.
    pub more_models: Vec<String>,
    /// The surfaces that are offered.
    pub surfaces: Surfaces,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 0,
            first_token: Duration::ZERO,
            token_gap: Duration::ZERO,
            tokens: 24,
            reasoning: None,
            prompt_overhead: 0,
            faults: Faults::default(),
            key: None,
            log: None,
            coalesce: 16 * 1024,
            more_models: Vec::new(),
            surfaces: Surfaces::default(),
        }
    }
}

/// The settings of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrides {
    pub tokens: u64,
    pub reasoning: Option<u64>,
    pub first_token: Duration,
    pub token_gap: Duration,
    /// Prompt tokens that are written into the cache, at most the whole prompt.
    pub cache_writes: u64,
    pub faults: Faults,
    /// True if requests are accepted that xAI refuses.
    pub is_lenient: bool,
    /// True if the request itself says how much a model reasons, so that one reasons that otherwise does not.
    pub asks_reasoning: bool,
    pub call: Option<ForcedCall>,
}

/// The function that an answer is to call, if the request has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedCall {
    pub name: String,
    /// The arguments, valid or not; `None` if they follow from the schema.
    pub arguments: Option<String>,
}

/// An option that is not valid. It is an error, since a test with a wrong option tests nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the simulator option '{key}={value}' is not valid ({why})")]
pub struct InvalidOverride {
    key: String,
    value: String,
    why: String,
}

impl Overrides {
    /// The settings, overridden by headers, overridden by the marker in `text`.
    ///
    /// # Errors
    /// [`InvalidOverride`] on unknown words and values.
    pub fn new(
        settings: &Settings,
        faults: Faults,
        head: &HeaderMap,
        text: &str,
    ) -> Result<Self, InvalidOverride> {
        let mut overrides = Self {
            tokens: settings.tokens,
            reasoning: settings.reasoning,
            first_token: settings.first_token,
            token_gap: settings.token_gap,
            cache_writes: 0,
            faults,
            is_lenient: false,
            asks_reasoning: false,
            call: None,
        };
        for (name, value) in head {
            if let Some(key) = name.as_str().strip_prefix("x-sim-") {
                overrides.set(key, value.to_str().unwrap_or_default())?;
            }
        }
        for (key, value) in marker(text).iter().flat_map(|inner| words(inner)) {
            overrides.set(key, value)?;
        }
        Ok(overrides)
    }

    /// The duration of an answer of `words` words.
    pub fn duration(&self, words: u64) -> Duration {
        let words = u32::try_from(words).unwrap_or(u32::MAX);
        self.first_token + self.token_gap.saturating_mul(words)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), InvalidOverride> {
        let bad =
            |why: String| InvalidOverride { key: key.to_owned(), value: value.to_owned(), why };
        if key == "fault" {
            self.faults = value.parse().map_err(|e| bad(format!("{e}")))?;
            return Ok(());
        }
        if key == "lenient" {
            self.is_lenient = true;
            return Ok(());
        }
        if key == "call" {
            self.call = Some(ForcedCall::parse(value).ok_or_else(|| {
                bad("must be NAME or NAME:BASE64, with the arguments in base64".to_owned())
            })?);
            return Ok(());
        }
        let number = value.parse::<u64>().map_err(|e| bad(e.to_string()))?;
        if number > MAX_NUMBER {
            return Err(bad(format!("must be at most {MAX_NUMBER}")));
        }
        match key {
            "tokens" => self.tokens = number,
            "reasoning" => {
                self.reasoning = Some(number);
                self.asks_reasoning = number > 0;
            }
            "first-token-ms" => self.first_token = Duration::from_millis(number),
            "cache-writes" => self.cache_writes = number,
            "token-ms" => self.token_gap = Duration::from_millis(number),
            _ => return Err(bad("unknown option".to_owned())),
        }
        Ok(())
    }
}

impl ForcedCall {
    fn parse(text: &str) -> Option<Self> {
        let (name, arguments) = match text.split_once(':') {
            Some((name, encoded)) => {
                let arguments = STANDARD.decode(encoded).ok()?;
                (name, Some(String::from_utf8(arguments).ok()?))
            }
            None => (text, None),
        };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), arguments })
    }
}

/// The inside of the last `[sim …]` in a text.
fn marker(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once("[sim ")?;
    rest.split_once(']').map(|(inner, _)| inner)
}

fn words(marker: &str) -> impl Iterator<Item = (&str, &str)> {
    marker.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use http::HeaderValue;

    fn overrides(
        headers: &[(&'static str, &'static str)],
        text: &str,
    ) -> Result<Overrides, InvalidOverride> {
        let head =
            headers.iter().map(|(k, v)| (k.parse().expect("name"), HeaderValue::from_static(v)));
        Overrides::new(&Settings::default(), Faults::default(), &head.collect(), text)
    }

    #[test]
    fn headers_and_markers_steer_alike() {
        let by_header = overrides(&[("x-sim-tokens", "500"), ("x-sim-fault", "stall=9")], "hello");
        let by_marker = overrides(&[], "hello [sim tokens=500 fault=stall=9] there");
        assert_eq!(by_header, by_marker);
        assert!(by_marker.expect("a good marker").faults.has(Fault::Stall(9)));
    }

    #[test]
    fn the_marker_wins_and_the_rest_stays() {
        let overrides =
            overrides(&[("x-sim-token-ms", "7")], "[sim token-ms=5]").expect("good words");
        assert_eq!(overrides.token_gap, Duration::from_millis(5));
        assert_eq!(overrides.tokens, Settings::default().tokens);
    }

    #[test]
    fn calls_and_leniency_are_asked_for() {
        let chosen = overrides(&[], "[sim call=f:eyJhIjoxfQ== lenient]").expect("good words");
        let call = ForcedCall { name: "f".to_owned(), arguments: Some(r#"{"a":1}"#.to_owned()) };
        assert_eq!((chosen.call, chosen.is_lenient), (Some(call), true));
        let named = overrides(&[("x-sim-call", "f"), ("x-sim-lenient", "1")], "").expect("good");
        assert!(named.is_lenient && named.call.is_some_and(|call| call.arguments.is_none()));
    }

    #[test]
    fn what_cannot_be_read_is_reported() {
        assert!(overrides(&[("x-sim-tokens", "many")], "").is_err());
        assert!(overrides(&[], "[sim colour=red]").is_err());
        assert!(overrides(&[], "[sim call=f:%%%]").is_err());
        assert!(overrides(&[], "[sim call=]").is_err());
        assert!(overrides(&[], "[sim token-ms=18446744073709551615]").is_err());
        assert!(overrides(&[], "[simple] text").is_ok());
    }
}
