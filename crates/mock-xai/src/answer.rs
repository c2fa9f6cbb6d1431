//! Decides an answer before its first byte: number of tokens, words, finish reason and cost.
//!
//! Pure: the same seed and the same request give the same answer. Each word is one o200k token, so
//! the truth about an answer is known without a tokenizer.

use crate::fault::{Fault, Faults};
use crate::model::Model;
use crate::request::ModelRequest;
use crate::request::tools::Function;
use crate::settings::Overrides;
use crate::stored_responses;
use crate::words::{Draws, Pieces, Words};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The most words of one choice.
const MAX_WORDS: u64 = 2_000_000;
/// The most words of all choices together.
const MAX_WORDS_OF_ALL: u64 = 8_000_000;

/// An answer, decided before its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub model: String,
    pub choices: u32,
    /// Words of each choice; 0 when a function is called.
    pub words: u64,
    pub call: Option<Call>,
    pub finish: FinishReason,
    /// The text in place of random words.
    structured: Option<Pieces>,
    /// Members of the request that a response repeats.
    pub echo: Arc<Map<String, Value>>,
    /// True if the model reasoned, shown or not.
    pub has_reasoned: bool,
    /// Reasoning that is also shown, word by word.
    pub shown_reasoning: u64,
    /// Reasoning in a form that only this simulator reads, if it was wanted.
    pub sealed: Option<String>,
    /// The usage in the reply; `None` if a fault removes it.
    pub reported_usage: Option<Usage>,
    /// The usage that is billed, whatever is reported.
    pub billed_usage: Usage,
    digest: u64,
}

/// A function call and its length in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub function: Function,
    pub tokens: u64,
}

/// The reason that an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
}

/// Billed tokens. At xAI's chat, `completion` is without `reasoning`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: u64,
    pub cached: u64,
    /// The part of the prompt that was written into the cache; only messages name it.
    pub cache_writes: u64,
    pub completion: u64,
    pub reasoning: u64,
    pub cost_ticks: u64,
}

impl Answer {
    /// Decides the answer to `request`.
    pub fn new(
        request: &ModelRequest,
        model: &Model,
        overrides: &Overrides,
        seed: u64,
        prompt_overhead: u64,
    ) -> Self {
        let digest = Draws::new(seed ^ request.digest).draw();
        // What has no words, such as embeddings, cannot have too many.
        let overrun = overrides.faults.overrun();
        let over = |max: u64| if max == 0 { 0 } else { max.saturating_add(overrun) };
        let limit = request.max_tokens.map(over);
        let call = request
            .call(overrides.call.as_ref())
            .map(Call::new)
            .filter(|call| limit.is_none_or(|max| call.tokens <= max));
        let structured = request.structured.as_deref().filter(|_| call.is_none()).map(Pieces::of);
        let wanted = structured.as_ref().map_or(overrides.tokens, Pieces::len);
        let words = match (&call, &structured) {
            (Some(_), _) => 0,
            (None, Some(_)) => limit.map_or(wanted, |max| wanted.min(max)),
            (None, None) => number_of_words(overrides, limit),
        };
        let visible = call.as_ref().map_or(words, |call| call.tokens);
        let reasoning = reasoning_tokens(request, model, overrides, digest);
        let prompt = request.prompt_tokens + prompt_overhead;
        let mut billed_usage = Usage::new(
            model,
            prompt,
            visible.saturating_mul(u64::from(request.choices)),
            reasoning,
        );
        billed_usage.cache_writes =
            overrides.cache_writes.min(billed_usage.prompt - billed_usage.cached);
        let is_shown = request.show_reasoning || model.takes_effort;
        Self {
            model: model.name.clone(),
            choices: request.choices,
            words,
            finish: FinishReason::of(call.is_some(), words, request.max_tokens, wanted),
            call,
            structured,
            echo: Arc::clone(&request.echo),
            has_reasoned: reasoning > 0,
            sealed: (request.wants_seal && reasoning > 0)
                .then(|| format!("{}{digest:016x}", stored_responses::seal(seed))),
            shown_reasoning: if is_shown { reasoning } else { 0 },
            reported_usage: reported(billed_usage, &overrides.faults),
            billed_usage,
            digest,
        }
    }

    /// The words of one choice, which may have no end; [`Answer::words`] is their number.
    pub fn words_of(&self, choice: u32) -> Words {
        match &self.structured {
            Some(pieces) => Words::given(pieces.clone()),
            None => Words::drawn(self.digest.wrapping_add(u64::from(choice))),
        }
    }

    /// The words of the reasoning, without end.
    pub fn reasoning_words(&self) -> Words {
        Words::drawn(self.digest.wrapping_add(u64::from(u32::MAX)))
    }

    /// The whole text of one choice.
    pub fn text_of(&self, choice: u32) -> String {
        let words = usize::try_from(self.words).unwrap_or(usize::MAX);
        self.words_of(choice).take(words).collect()
    }

    /// The reasoning that is shown.
    pub fn reasoning_text(&self) -> String {
        let words = usize::try_from(self.shown_reasoning).unwrap_or(usize::MAX);
        self.reasoning_words().take(words).collect()
    }

    /// Makes it images, which are paid by their number and have no tokens.
    pub fn price_images(&mut self) {
        let cost_ticks = IMAGE_TICKS * u64::from(self.choices);
        self.billed_usage = Usage { cost_ticks, ..Usage::default() };
        self.reported_usage = self.reported_usage.map(|_| self.billed_usage);
    }

    /// True if the answer is more than the simulator generates.
    pub fn is_too_long(&self) -> bool {
        self.words.saturating_mul(u64::from(self.choices)) > MAX_WORDS_OF_ALL
    }

    /// All visible tokens of all choices.
    pub fn visible(&self) -> u64 {
        self.billed_usage.completion
    }
}

/// Tokens of reasoning: of a model that always reasons, and of one that was asked to.
fn reasoning_tokens(
    request: &ModelRequest,
    model: &Model,
    overrides: &Overrides,
    digest: u64,
) -> u64 {
    // Embeddings and images have no words, and nothing to reason about.
    let is_text = request.max_tokens != Some(0);
    let is_asked = is_text && (overrides.asks_reasoning || request.asks_reasoning());
    if model.reasons() || (model.takes_effort && is_asked) {
        overrides.reasoning.unwrap_or(16 + digest % 48).min(MAX_WORDS)
    } else {
        0
    }
}

/// The words of an answer under `limit`; an overrun goes on to the limit.
fn number_of_words(overrides: &Overrides, limit: Option<u64>) -> u64 {
    let wanted = match limit {
        Some(max) if overrides.faults.overrun() > 0 => max,
        _ => overrides.tokens,
    };
    limit.map_or(wanted, |max| wanted.min(max)).min(MAX_WORDS)
}

/// Returns the usage that the reply reports, changed by faults.
fn reported(billed: Usage, faults: &Faults) -> Option<Usage> {
    if faults.has(Fault::NoUsage) {
        None
    } else if faults.has(Fault::ZeroUsage) {
        Some(Usage::default())
    } else if faults.has(Fault::CachedOver) {
        Some(Usage { cached: billed.prompt + 1000, ..billed })
    } else {
        Some(billed)
    }
}

impl Call {
    fn new(function: Function) -> Self {
        let count = |text: &str| o200k::count(text) as u64;
        let tokens = count(&function.name) + count(&function.arguments);
        Self { function, tokens }
    }
}

impl FinishReason {
    fn of(called: bool, words: u64, max_tokens: Option<u64>, wanted: u64) -> Self {
        match max_tokens {
            _ if called => Self::ToolCalls,
            Some(max) if words > max || (words == max && wanted > max) => Self::Length,
            _ => Self::Stop,
        }
    }

    /// The `finish_reason` of chat completions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

impl Usage {
    /// Prompts of more than 128 tokens find half of them in the cache, in blocks of 64.
    fn new(model: &Model, prompt: u64, completion: u64, reasoning: u64) -> Self {
        let cached = if prompt > 128 { prompt / 2 / 64 * 64 } else { 0 };
        let cost_ticks = model.cost_ticks(prompt, cached, completion + reasoning);
        Self { prompt, cached, cache_writes: 0, completion, reasoning, cost_ticks }
    }

    /// The object at the end of a chat completion.
    pub fn chat_json(&self) -> String {
        let Self { prompt, cached, completion, reasoning, cost_ticks, .. } = *self;
        let total = prompt + completion + reasoning;
        format!(
            r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total},"prompt_tokens_details":{{"text_tokens":{prompt},"audio_tokens":0,"image_tokens":0,"cached_tokens":{cached}}},"completion_tokens_details":{{"reasoning_tokens":{reasoning},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"num_sources_used":0,"cost_in_usd_ticks":{cost_ticks}}}"#
        )
    }

    /// The object of the responses route: output includes reasoning there.
    pub fn responses_json(&self) -> String {
        let Self { prompt, cached, reasoning, cost_ticks, .. } = *self;
        let output = self.completion + reasoning;
        let total = prompt + output;
        format!(
            r#"{{"input_tokens":{prompt},"input_tokens_details":{{"cached_tokens":{cached}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{reasoning}}},"total_tokens":{total},"num_sources_used":0,"num_server_side_tools_used":0,"cost_in_usd_ticks":{cost_ticks}}}"#
        )
    }
}

/// The price of an image: 0.02 dollars.
const IMAGE_TICKS: u64 = 200_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Faults;
    use crate::settings::Settings;
    use crate::{model, request};
    use http::HeaderMap;

    fn answer(body: &str, marker: &str) -> Answer {
        let body =
            format!(r#"{{{body},"messages":[{{"role":"user","content":"hello {marker}"}}]}}"#);
        let request = request::chat::read(body.as_bytes()).expect("a good body");
        let settings = Settings::default();
        let overrides = Overrides::new(
            &settings,
            Faults::default(),
            &HeaderMap::new(),
            &request.last_user_text,
        )
        .expect("good");
        let models = model::all(&[]);
        Answer::new(
            &request,
            model::find(&models, &request.model).expect("a model"),
            &overrides,
            0,
            0,
        )
    }

    #[test]
    fn a_text_has_as_many_tokens_as_words() {
        let answer = answer(r#""model":"grok-4.3""#, "[sim tokens=500]");
        assert_eq!(o200k::count(&answer.text_of(0)), 500);
        assert_eq!(answer.billed_usage.completion, 500);
    }

    #[test]
    fn the_same_request_gets_the_same_answer() {
        let first = answer(r#""model":"grok-4.3""#, "");
        assert_eq!(first, answer(r#""model":"grok-4.3""#, ""));
        assert_ne!(first.text_of(0), answer(r#""model":"grok-4.3""#, "again").text_of(0));
    }

    #[test]
    fn limits_apply_unless_overrun() {
        let cut = answer(r#""model":"grok-4.3","max_completion_tokens":5,"n":2"#, "");
        assert_eq!(
            (cut.words, cut.billed_usage.completion, cut.finish),
            (5, 10, FinishReason::Length)
        );
        let exact = answer(r#""model":"grok-4.3","max_tokens":24"#, "");
        assert_eq!((exact.words, exact.finish), (24, FinishReason::Stop));
        let over = answer(r#""model":"grok-4.3","max_tokens":5"#, "[sim fault=overrun=7]");
        assert_eq!((over.words, over.billed_usage.completion), (12, 12));
    }

    #[test]
    fn reasoning_is_counted_apart() {
        let answer = answer(r#""model":"grok-4.20-0309-reasoning""#, "[sim reasoning=30]");
        assert_eq!((answer.billed_usage.completion, answer.billed_usage.reasoning), (24, 30));
        let chat: serde_json::Value =
            serde_json::from_str(&answer.billed_usage.chat_json()).expect("json");
        assert_eq!(chat["total_tokens"], answer.billed_usage.prompt + 54);
        let responses: serde_json::Value =
            serde_json::from_str(&answer.billed_usage.responses_json()).expect("json");
        assert_eq!(responses["output_tokens"], 54);
    }

    #[test]
    fn a_usage_can_be_left_out() {
        let answer = answer(r#""model":"grok-4.3""#, "[sim fault=no-usage]");
        assert_eq!(answer.reported_usage, None);
        assert_eq!(answer.billed_usage.completion, 24);
    }
}
