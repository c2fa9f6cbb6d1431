//! Usage objects, and what they mean in billed tokens and money.
//!
//! Upstreams disagree on whether `completion_tokens` holds the reasoning: OpenAI folds it in, xAI
//! counts it apart. The sum tells which. Invariant: what comes out always has visible completion
//! and reasoning apart, cached tokens within the prompt, and no number beyond [`MAX_TOKENS`].

use super::json;
use crate::account::charge::TokenCount;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Counts above this are taken for garbage: a thousand times the largest context there is.
pub const MAX_TOKENS: u64 = 1_000_000_000;
/// Costs above this (100,000 US dollars for one call) are taken for garbage.
const MAX_TICKS: i64 = 1_000_000_000_000_000;

/// What an upstream reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub tokens: TokenCount,
    /// `cost_in_usd_ticks` (1e-10 US dollars), where the upstream gives it.
    pub cost_ticks: Option<i64>,
}

/// Both naming schemes: chat and the older endpoints say prompt and completion, the responses
/// endpoint says input and output.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written<'a> {
    #[serde(borrow, alias = "input_tokens")]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow, alias = "output_tokens")]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow, alias = "input_tokens_details")]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow, alias = "output_tokens_details")]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    cost_in_usd_ticks: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

/// A reply, as far as its usage goes.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl Usage {
    /// Reads a usage object. `None` when it is not one, names no tokens, or a count in it is
    /// negative or absurd: the call is then charged by estimate, which is safer than by garbage.
    #[must_use]
    pub fn parse(usage: &[u8]) -> Option<Self> {
        let written: Written<'_> = json::object(usage)?;
        let prompt = number(written.prompt_tokens).ok()?;
        let completion = number(written.completion_tokens).ok()?;
        let total = number(written.total_tokens).ok()?;
        let cached = number(details(written.prompt_tokens_details).cached_tokens).ok()?;
        let reasoning = number(details(written.completion_tokens_details).reasoning_tokens).ok()?;
        let (prompt, completion) = match (prompt, completion, total) {
            (None, None, _) => return None,
            (Some(prompt), Some(completion), _) => (prompt, completion),
            // Embeddings report no completion, and some servers leave it to be subtracted.
            (Some(prompt), None, total) => (prompt, total.unwrap_or(0).saturating_sub(prompt)),
            (None, Some(completion), total) => {
                (total.unwrap_or(0).saturating_sub(completion), completion)
            }
        };
        let (completion, reasoning) = unfold(prompt, completion, reasoning.unwrap_or(0), total);
        let cached = cached.unwrap_or(0).min(prompt);
        Some(Self {
            tokens: TokenCount { prompt, cached, completion, reasoning },
            cost_ticks: written.cost_in_usd_ticks.and_then(ticks),
        })
    }

    /// Reads the usage object of images, which may name their cost alone.
    #[must_use]
    pub fn of_images(usage: &[u8]) -> Option<Self> {
        let written: Written<'_> = json::object(usage)?;
        let cost_ticks = written.cost_in_usd_ticks.and_then(ticks);
        let of_cost = cost_ticks.map(|_| Self { tokens: TokenCount::default(), cost_ticks });
        Self::parse(usage).or(of_cost)
    }

    /// The usage of a whole (not streamed) reply.
    #[must_use]
    pub fn from_reply(body: &[u8]) -> Option<Self> {
        let reply: Reply<'_> = json::object(body)?;
        Self::parse(reply.usage?.get().as_bytes())
    }
}

/// Usage as Anthropic's messages write it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Anthropic<'a> {
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_creation_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cost_in_usd_ticks: Option<&'a RawValue>,
}

/// Usage that comes in several objects, each with all that was used so far of what it names.
#[derive(Debug, Clone, Copy, Default)]
pub struct SplitUsage {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_creation: Option<u64>,
    output: Option<u64>,
    cost_ticks: Option<i64>,
}

impl SplitUsage {
    /// Takes in one more object; `None` until input and output are known, or when it is absurd.
    pub fn and(&mut self, usage: &[u8]) -> Option<Usage> {
        let written: Anthropic<'_> = json::object(usage)?;
        let counts = [
            (written.input_tokens, &mut self.input),
            (written.cache_read_input_tokens, &mut self.cache_read),
            (written.cache_creation_input_tokens, &mut self.cache_creation),
            (written.output_tokens, &mut self.output),
        ];
        for (raw, count) in counts {
            *count = number(raw).ok()?.or(*count);
        }
        self.cost_ticks = written.cost_in_usd_ticks.and_then(ticks).or(self.cost_ticks);
        let cached = self.cache_read.unwrap_or(0);
        // The cached part stands beside the input, not in it.
        let prompt = self.input? + cached + self.cache_creation.unwrap_or(0);
        let tokens = TokenCount { prompt, cached, completion: self.output?, reasoning: 0 };
        Some(Usage { tokens, cost_ticks: self.cost_ticks })
    }
}

/// Visible completion and reasoning, apart.
///
/// A total of at least prompt + completion + reasoning says that reasoning comes on top (xAI);
/// any smaller total says that it is folded in (OpenAI). Without a total it is taken as folded,
/// unless there is more reasoning than completion, which only "on top" can explain.
fn unfold(prompt: u64, completion: u64, reasoning: u64, total: Option<u64>) -> (u64, u64) {
    let on_top = match total {
        Some(total) => total >= prompt + completion + reasoning,
        None => reasoning > completion,
    };
    if on_top {
        return (completion, reasoning);
    }
    let reasoning = reasoning.min(completion);
    (completion - reasoning, reasoning)
}

struct Absurd;

/// A count; `null` and what is not a number are as good as absent.
fn number(raw: Option<&RawValue>) -> Result<Option<u64>, Absurd> {
    let Some(raw) = raw else { return Ok(None) };
    if let Ok(count) = raw.get().parse::<u64>() {
        return if count <= MAX_TOKENS { Ok(Some(count)) } else { Err(Absurd) };
    }
    // Some servers write counts as 12.0; a fraction of a token is charged as a whole one.
    #[expect(clippy::cast_precision_loss, reason = "the bound is far below 2^52")]
    let most = MAX_TOKENS as f64;
    match serde_json::from_str::<f64>(raw.get()) {
        Err(_)
            if raw.get().starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) =>
        {
            Err(Absurd)
        }
        Err(_) => Ok(None),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        Ok(count) if (0.0..=most).contains(&count) => Ok(Some(count.ceil() as u64)),
        Ok(_) => Err(Absurd),
    }
}

fn ticks(raw: &RawValue) -> Option<i64> {
    raw.get().parse().ok().filter(|ticks| (0..=MAX_TICKS).contains(ticks))
}

/// Details that are not an object are as good as absent.
fn details(raw: Option<&RawValue>) -> Details<'_> {
    raw.filter(|raw| !json::is_null(raw))
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "tests/usage.rs"]
mod tests;
