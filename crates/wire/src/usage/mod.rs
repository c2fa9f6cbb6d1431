//! Reads usage objects and converts them to billed tokens and cost.
//!
//! Upstreams disagree on whether `completion_tokens` contains the reasoning: OpenAI folds it in, xAI
//! counts it apart. The total shows which. Usage is read leniently, so that what was reported is not
//! lost to a key that is written twice or a number that is written as a string; numbers that cannot
//! be true are treated as absent. Invariant: what comes out always has visible completion and
//! reasoning apart, cached and written tokens within the prompt, and no number beyond
//! [`MAX_TOKENS`].

use super::cursor::Cursor;
use super::json::{self, each_element, each_member};
use domain::charge::{Source, TokenCount};
use serde_json::value::RawValue;

/// Counts above this are taken for garbage: a thousand times the largest context there is.
pub const MAX_TOKENS: u64 = 1_000_000_000;
/// PaidFeatures above this (100,000 US dollars for one call) are taken for garbage.
const MAX_TICKS: i64 = 1_000_000_000_000_000;
/// Tokens that a total may have beyond prompt and completion: what no model's reasoning exceeds.
const MAX_UNNAMED: u64 = 1 << 20;

/// The usage that an upstream reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// A count that was not reported is 0; see [`Meter::reported`](crate::tokens::meter::Meter).
    pub tokens: TokenCount,
    /// The part of the prompt that was written into the upstream's cache.
    pub cache_written: u64,
    /// `total_tokens`, where the upstream gives it.
    pub total: Option<u64>,
    /// `cost_in_usd_ticks` (1e-10 US dollars), where the upstream gives it.
    pub cost_ticks: Option<i64>,
    /// Estimated where a count had to be filled in.
    pub source: Source,
}

impl Usage {
    /// Usage that the gateway has counted.
    #[must_use]
    pub fn counted(tokens: TokenCount) -> Self {
        let source = Source::Estimated;
        Self { tokens, cache_written: 0, total: None, cost_ticks: None, source }
    }
}

/// The numbers of a usage object under any of their names. The larger one counts where two names mean the
/// same.
#[derive(Default)]
struct RawUsage {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    into_cache: Option<u64>,
    reasoning: Option<u64>,
    cost_ticks: Option<i64>,
    /// Cached tokens are counted beside the prompt, as Anthropic does.
    is_beside: bool,
    /// A count of prompt or completion was out of range.
    has_invalid_count: bool,
}

impl Usage {
    /// Usage of these tokens, as reported.
    #[must_use]
    pub fn of(tokens: TokenCount) -> Self {
        Self { tokens, cache_written: 0, total: None, cost_ticks: None, source: Source::Reported }
    }

    /// Reads a usage object. `None` when it is not one or has no number that can be true.
    #[must_use]
    pub fn parse(usage: &[u8]) -> Option<Self> {
        Self::of_json(serde_json::from_str(json::object_text(usage)?).ok()?)
    }

    /// [`parse`](Self::parse) of a value that is known to be JSON.
    #[must_use]
    pub fn of_json(usage: &RawValue) -> Option<Self> {
        RawUsage::read(usage)?.interpret()
    }

    /// The usage in a whole reply or in an event, in any of the places where upstreams are known to
    /// put it; the largest where there are several.
    #[must_use]
    pub fn find(body: &[u8]) -> Option<Self> {
        let mut found = None;
        let walked = each_member(json::object_text(body)?, |name, value| {
            let usage = match &*name {
                "usage"
                | "usageMetadata"
                | "usage_metadata"
                | "amazon-bedrock-invocationMetrics" => Self::of_json(value),
                "x_groq" | "response" | "message" => Self::inside(value),
                "choices" => Self::of_choices(value),
                _ => None,
            };
            found = Self::larger(found, usage);
        });
        walked.ok().and(found)
    }

    /// Returns the larger usage, with the cost of either.
    #[must_use]
    pub fn larger(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(first), Some(second)) = (one, other) else { return one.or(other) };
        let weight = |usage: &Self| usage.tokens.total().max(usage.total.unwrap_or(0));
        let larger = if weight(&first) > weight(&second) { first } else { second };
        Some(Self { cost_ticks: second.cost_ticks.or(first.cost_ticks), ..larger })
    }

    /// The `usage` member of an object that is itself a member.
    fn inside(object: &RawValue) -> Option<Self> {
        let [usage] = json::members(object.get().as_bytes(), ["usage"])?;
        Self::of_json(usage?)
    }

    fn of_choices(choices: &RawValue) -> Option<Self> {
        let mut found = None;
        let _ = each_element(choices.get(), |choice| {
            found = Self::larger(found, Self::inside(choice));
        });
        found
    }
}

impl RawUsage {
    fn read(object: &RawValue) -> Option<Self> {
        let mut raw = Self::default();
        each_member_of(object.get(), |name, value| raw.member(name, value))?;
        Some(raw)
    }

    fn member(&mut self, name: &str, value: &str) {
        match name {
            "prompt_tokens_details"
            | "input_tokens_details"
            | "completion_tokens_details"
            | "output_tokens_details" => {
                let _ = each_member_of(value, |name, value| self.detail(name, value));
            }
            "cost_in_usd_ticks" => self.cost_ticks = ticks(value).or(self.cost_ticks),
            "cache_read_input_tokens" => {
                self.is_beside = true;
                self.count(value, |raw| &mut raw.cached);
            }
            "cache_creation_input_tokens" => {
                self.count(value, |raw| &mut raw.into_cache);
            }
            "prompt_tokens" | "input_tokens" | "promptTokenCount" | "inputTokens"
            | "inputTokenCount" => {
                self.has_invalid_count |= number(value).is_err();
                self.count(value, |raw| &mut raw.prompt);
            }
            "completion_tokens"
            | "output_tokens"
            | "candidatesTokenCount"
            | "outputTokens"
            | "outputTokenCount" => {
                self.has_invalid_count |= number(value).is_err();
                self.count(value, |raw| &mut raw.completion);
            }
            "total_tokens" | "totalTokenCount" | "totalTokens" => {
                self.count(value, |raw| &mut raw.total);
            }
            "prompt_cache_hit_tokens" | "cachedContentTokenCount" | "cached_tokens" => {
                self.count(value, |raw| &mut raw.cached);
            }
            "thoughtsTokenCount" | "reasoning_tokens" => {
                self.count(value, |raw| &mut raw.reasoning);
            }
            _ => {}
        }
    }

    fn detail(&mut self, name: &str, value: &str) {
        match name {
            "cached_tokens" => self.count(value, |raw| &mut raw.cached),
            "cache_write_tokens" | "cache_creation_tokens" => {
                self.count(value, |raw| &mut raw.into_cache);
            }
            "reasoning_tokens" => self.count(value, |raw| &mut raw.reasoning),
            _ => {}
        }
    }

    /// Records a count, unless it is out of range.
    fn count(&mut self, json: &str, field: fn(&mut Self) -> &mut Option<u64>) {
        if let Ok(count) = number(json) {
            let field = field(self);
            *field = count.max(*field);
        }
    }

    fn interpret(&self) -> Option<Usage> {
        let counts = [self.prompt, self.completion, self.total, self.reasoning];
        if counts.iter().all(Option::is_none) && self.cost_ticks.is_none() {
            return None;
        }
        let (mut prompt, mut completion) = (self.prompt.unwrap_or(0), self.completion.unwrap_or(0));
        let (cached, written) = self.cache(&mut prompt, completion);
        let known = prompt + completion + self.reasoning.unwrap_or(0);
        let unnamed = self.total.unwrap_or(0).saturating_sub(known);
        let mut reasoning = self.reasoning;
        match (prompt, completion) {
            // The split is for the one to guess who saw the text.
            (0, 0) => {}
            (0, _) => prompt = unnamed,
            // Embeddings report no completion, and some servers leave it to be subtracted.
            (_, 0) => completion = unnamed,
            // Gemini's total has reasoning in it that is named nowhere.
            _ if reasoning.is_none() && unnamed <= MAX_UNNAMED => {
                reasoning = (unnamed > 0).then_some(unnamed);
            }
            _ => {}
        }
        let (completion, reasoning) =
            unfold(prompt, completion, reasoning.unwrap_or(0), self.total);
        Some(Usage {
            tokens: TokenCount { prompt, cached, completion, reasoning },
            cache_written: written,
            total: self.total.filter(|total| *total > 0),
            cost_ticks: self.cost_ticks,
            source: if self.has_invalid_count { Source::Estimated } else { Source::Reported },
        })
    }

    /// Tokens read from the cache and written into it, both within the prompt.
    ///
    /// More cached tokens than prompt are either counted beside it, which a total or Anthropic's
    /// names tell, or nonsense: then none are cached.
    fn cache(&self, prompt: &mut u64, completion: u64) -> (u64, u64) {
        let (cached, written) = (self.cached.unwrap_or(0), self.into_cache.unwrap_or(0));
        let both = cached + written;
        if both <= *prompt {
            return (cached, written);
        }
        let beside = *prompt + both;
        let has_room = self.total.is_some_and(|total| total >= beside + completion);
        if beside <= MAX_TOKENS && (has_room || (self.is_beside && self.total.is_none())) {
            *prompt = beside;
            return (cached, written);
        }
        let cached = if cached > *prompt { 0 } else { cached };
        (cached, written.min(*prompt - cached))
    }
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
    /// Takes in one more object, as Anthropic's messages write it; `None` when nothing is known of
    /// input and output. A side that is not known yet is 0.
    pub fn add(&mut self, usage: &[u8]) -> Option<Usage> {
        let mut is_theirs = false;
        let walked = each_member(json::object_text(usage)?, |name, value| {
            let count = match &*name {
                "input_tokens" => &mut self.input,
                "cache_read_input_tokens" => &mut self.cache_read,
                "cache_creation_input_tokens" => &mut self.cache_creation,
                "output_tokens" => &mut self.output,
                "cost_in_usd_ticks" => {
                    self.cost_ticks = ticks(value.get()).or(self.cost_ticks);
                    return;
                }
                _ => return,
            };
            is_theirs = true;
            // Some bridges end with an input of 0 after they reported the true one.
            *count = number(value.get()).unwrap_or(None).max(*count);
        });
        walked.ok()?;
        if is_theirs { self.interpret() } else { Usage::parse(usage) }
    }

    /// Discards the output count of `message_start`, which is not a total.
    pub fn reset_output(&mut self) {
        self.output = None;
    }

    /// The usage that is known so far; `None` if nothing is.
    #[must_use]
    pub fn interpret(&self) -> Option<Usage> {
        let input = self.input.unwrap_or(0);
        let cached = self.cache_read.unwrap_or(0).min(MAX_TOKENS - input);
        let written = self.cache_creation.unwrap_or(0).min(MAX_TOKENS - input - cached);
        // Cached tokens are counted beside the input, not within it.
        let prompt = input + cached + written;
        if self.output.is_none() && prompt == 0 {
            return None;
        }
        let completion = self.output.unwrap_or(0);
        let tokens = TokenCount { prompt, cached, completion, reasoning: 0 };
        Some(Usage { cache_written: written, cost_ticks: self.cost_ticks, ..Usage::of(tokens) })
    }
}

/// Visible completion and reasoning, apart.
///
/// A total of at least prompt + completion + reasoning means that reasoning comes on top (xAI);
/// any smaller total means that it is folded in (OpenAI). Without a total it is taken as folded,
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

struct OutOfRange;

/// A count, which some servers write as a string; `null` and what is not a number are treated as absent.
fn number(json: &str) -> Result<Option<u64>, OutOfRange> {
    let text = json::text_in(json);
    let text = text.trim();
    if let Ok(count) = text.parse::<u64>() {
        return if count <= MAX_TOKENS { Ok(Some(count)) } else { Err(OutOfRange) };
    }
    // Some servers write counts as 12.0; a fraction of a token is charged as a whole one.
    #[expect(clippy::cast_precision_loss, reason = "the bound is far below 2^52")]
    let most = MAX_TOKENS as f64;
    match text.parse::<f64>() {
        Err(_) => Ok(None),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        Ok(count) if (0.0..=most).contains(&count) => Ok(Some(count.ceil() as u64)),
        Ok(_) => Err(OutOfRange),
    }
}

/// Calls `visit` with every member of an object that is known to be JSON; `None` when it is no object.
fn each_member_of(object: &str, mut visit: impl FnMut(&str, &str)) -> Option<()> {
    let mut cursor = Cursor::new(object);
    cursor.enter(b'{').then_some(())?;
    while let Some(name) = cursor.next_member() {
        visit(&name, cursor.skip());
    }
    Some(())
}

fn ticks(json: &str) -> Option<i64> {
    json.parse().ok().filter(|ticks| (0..=MAX_TICKS).contains(ticks))
}

#[cfg(test)]
mod tests;
