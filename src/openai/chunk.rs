//! One chunk of a streamed answer: what the gateway reads of it, and the few it writes itself.
//!
//! Chunks are relayed as bytes; nothing here re-encodes them. A chunk that cannot be read is
//! relayed all the same. The same reader takes a whole reply, whose `message` is one large delta.

use super::error::{ErrorBody, UpstreamError};
use super::follow::Listener;
use super::json::{self, each_element, each_member};
use super::usage::Usage;
use crate::account::charge::TokenCount;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The end of a stream, as it goes to the caller.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Choices that [`Seen`] keeps apart: as many as one call may ask for.
const MAX_CHOICES: usize = 128;

/// A `chat.completion.chunk` or a `chat.completion`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow, rename = "usage")]
    written_usage: Option<&'a RawValue>,
    #[serde(borrow, rename = "error")]
    written_error: Option<&'a RawValue>,
    #[serde(borrow, rename = "choices")]
    written_choices: Option<Vec<Choice<'a>>>,
    /// Where some upstreams put the usage.
    #[serde(
        borrow,
        rename = "x_groq",
        alias = "usageMetadata",
        alias = "amazon-bedrock-invocationMetrics"
    )]
    other_usage: Option<&'a RawValue>,
    /// Not as the wire format has it: read with [`Chunk::lenient`].
    #[serde(skip)]
    is_irregular: bool,
    #[serde(skip)]
    pub usage: Option<Usage>,
    /// The upstream failed after its answer had begun.
    #[serde(skip)]
    pub error: Option<UpstreamError>,
}

/// What a chunk says of one choice.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice<'a> {
    pub index: u64,
    /// Moonshot puts the usage of streams in here.
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow, alias = "message")]
    delta: Option<Delta<'a>>,
    /// The older completions endpoint has the text here.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

/// What is new in a choice, or all of it in a whole reply.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
}

/// What a piece of output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Content,
    Reasoning,
    Refusal,
    ToolName,
    ToolArguments,
}

/// In which words chunks are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Chat,
    /// Of the older completions.
    Text,
}

/// What the chunks of one answer have in common, to write further ones that fit.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    style: Style,
    /// As they were written, quotes and all.
    id: Option<String>,
    created: Option<String>,
    model: Option<String>,
    /// Index of each choice, and whether it still runs.
    choices: Vec<(u64, bool)>,
}

impl<'a> Chunk<'a> {
    /// Reads an event's data or a reply's body; `None` when it is not understood.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut chunk = json::object(data).or_else(|| Self::lenient(data))?;
        chunk.usage = chunk.usage_in(data);
        let says_nothing_else = chunk.written_choices.is_none() && chunk.usage.is_none();
        if says_nothing_else || chunk.written_error.is_some_and(|raw| !json::is_null(raw)) {
            chunk.error = UpstreamError::in_band(data);
        }
        Some(chunk)
    }

    /// Reads what serde would refuse: names that are written twice, an index that is no number,
    /// choices in another form. What repeats a choice counts as another piece of it. `None` when
    /// nothing that matters is found.
    fn lenient(data: &'a [u8]) -> Option<Self> {
        let mut chunk = Self::default();
        let mut choices = Vec::new();
        let walked = each_member(json::object_text(data)?, |name, value| match &*name {
            "id" => chunk.id = Some(value),
            "created" => chunk.created = Some(value),
            "model" => chunk.model = Some(value),
            "usage" => chunk.written_usage = Some(value),
            "error" => chunk.written_error = Some(value),
            "x_groq" | "usageMetadata" => chunk.other_usage = Some(value),
            "choices" if value.get().starts_with('{') => choices.push(Choice::lenient(value)),
            "choices" => {
                let _ = each_element(value.get(), |choice| choices.push(Choice::lenient(choice)));
                chunk.written_choices.get_or_insert_default();
            }
            _ => {}
        });
        if !choices.is_empty() {
            chunk.written_choices = Some(choices);
        }
        // The usage may be in any of the places, and there twice.
        chunk.is_irregular = true;
        walked.ok().filter(|()| chunk.says_something()).map(|()| chunk)
    }

    fn says_something(&self) -> bool {
        let members = [self.written_usage, self.written_error, self.other_usage];
        let has_text = |choice: &Choice<'_>| {
            let mut has_text = choice.finish().is_some() || choice.usage.is_some();
            choice.each_text(&mut |_, _| has_text = true);
            has_text
        };
        members.iter().any(Option::is_some) || self.choices().iter().any(has_text)
    }

    /// The usage that `data`, of which this was read, reports.
    fn usage_in(&self, data: &[u8]) -> Option<Usage> {
        let of = |raw: Option<&RawValue>| raw.and_then(|raw| Usage::parse(raw.get().as_bytes()));
        let is_elsewhere = self.is_irregular
            || self.other_usage.is_some()
            || self.choices().is_empty()
            || self.choices().iter().any(|choice| choice.usage.is_some());
        of(self.written_usage)
            .filter(|_| !self.is_irregular)
            .or_else(|| if is_elsewhere { Usage::find(data) } else { None })
    }

    /// Whether the chunk is there for its usage only: the one to take out again when the caller
    /// had not asked for it.
    #[must_use]
    pub fn is_usage_only(&self) -> bool {
        let no_choices = self.written_choices.as_ref().is_some_and(Vec::is_empty);
        let has_usage = self.written_usage.is_some_and(|raw| !json::is_null(raw));
        no_choices && has_usage && self.error.is_none()
    }

    /// Tells `to` what the chunk says.
    pub fn tell(&self, to: &mut dyn Listener) {
        for choice in self.choices() {
            if choice.finish().is_some() {
                to.finished();
            }
            choice.each_text(&mut |kind, raw| to.text(choice.index, kind, raw));
        }
        // Last, because it covers the text of its own chunk.
        if let Some(usage) = self.usage {
            to.usage(usage);
        }
    }

    /// The choices it speaks of.
    #[must_use]
    pub fn choices(&self) -> &[Choice<'a>] {
        self.written_choices.as_deref().unwrap_or_default()
    }
}

impl<'a> Choice<'a> {
    fn lenient(choice: &'a RawValue) -> Self {
        let mut read = Self::default();
        let _ = each_member(choice.get(), |name, value| match &*name {
            "index" => read.index = json::text(value).parse().unwrap_or(0),
            "usage" => read.usage = Some(value),
            "finish_reason" if !json::is_null(value) => read.finish_reason = Some(value),
            "delta" | "message" => read.delta.get_or_insert_default().lenient(value),
            "text" => longer(&mut read.text, value),
            _ => {}
        });
        read
    }

    /// Why the choice ended. An empty reason, which xAI sends with tool calls, is none.
    #[must_use]
    pub fn finish(&self) -> Option<Cow<'a, str>> {
        let raw = self.finish_reason.filter(|raw| raw.get().starts_with('"'))?;
        Some(json::text(raw)).filter(|reason| !reason.is_empty())
    }

    /// Calls `visit` with every piece of output that is not empty.
    pub fn each_text(&self, visit: &mut dyn FnMut(Kind, &'a RawValue)) {
        let mut give = |kind, raw: &'a RawValue| {
            if json::text_len(raw) > 0 && !json::is_null(raw) {
                visit(kind, raw);
            }
        };
        if let Some(text) = self.text {
            give(Kind::Content, text);
        }
        let Some(delta) = &self.delta else { return };
        let texts = [
            (Kind::Content, delta.content),
            (Kind::Reasoning, delta.reasoning()),
            (Kind::Refusal, delta.refusal),
        ];
        for (kind, raw) in texts {
            if let Some(raw) = raw {
                give(kind, raw);
            }
        }
        if let Some(calls) = delta.tool_calls {
            let _ = each_element(calls.get(), |call| tool_call(call, &mut give));
        }
        if let Some(call) = delta.function_call {
            function(call, &mut give);
        }
    }
}

impl<'a> Delta<'a> {
    /// Takes in what is said under each name, or the text that stands in place of it all.
    fn lenient(&mut self, delta: &'a RawValue) {
        if delta.get().starts_with('"') {
            return longer(&mut self.content, delta);
        }
        let _ = each_member(delta.get(), |name, value| {
            let field = match &*name {
                "content" => &mut self.content,
                "refusal" => &mut self.refusal,
                "reasoning_content" => &mut self.reasoning_content,
                "reasoning" => &mut self.reasoning,
                "thinking" => &mut self.thinking,
                "tool_calls" => &mut self.tool_calls,
                "function_call" => &mut self.function_call,
                _ => return,
            };
            longer(field, value);
        });
    }

    /// Some servers send the same reasoning under two names: it counts once.
    fn reasoning(&self) -> Option<&'a RawValue> {
        let names = [self.reasoning_content, self.reasoning, self.thinking];
        names.into_iter().flatten().find(|raw| !json::is_null(raw))
    }
}

/// Of a text that is written twice the longer one counts.
fn longer<'a>(kept: &mut Option<&'a RawValue>, raw: &'a RawValue) {
    let length = |raw: &RawValue| if json::is_null(raw) { 0 } else { raw.get().len() };
    if kept.is_none_or(|kept| length(raw) > length(kept)) {
        *kept = Some(raw);
    }
}

fn tool_call<'a>(call: &'a RawValue, give: &mut dyn FnMut(Kind, &'a RawValue)) {
    let _ = each_member(call.get(), |name, value| match &*name {
        "function" | "custom" => function(value, give),
        _ => {}
    });
}

fn function<'a>(call: &'a RawValue, give: &mut dyn FnMut(Kind, &'a RawValue)) {
    let _ = each_member(call.get(), |name, value| match &*name {
        "name" => give(Kind::ToolName, value),
        "arguments" | "input" => give(Kind::ToolArguments, value),
        _ => {}
    });
}

impl Style {
    fn object(self) -> &'static str {
        match self {
            Self::Chat => "chat.completion.chunk",
            Self::Text => "text_completion",
        }
    }

    /// The members of a choice that says nothing new.
    fn nothing(self) -> &'static str {
        match self {
            Self::Chat => r#""delta":{}"#,
            Self::Text => r#""text":"","logprobs":null"#,
        }
    }
}

impl Seen {
    /// Nothing seen yet.
    #[must_use]
    pub fn of(style: Style) -> Self {
        Self { style, ..Self::default() }
    }

    /// Takes in one chunk.
    pub fn note(&mut self, chunk: &Chunk<'_>) {
        keep(&mut self.id, chunk.id);
        keep(&mut self.created, chunk.created);
        keep(&mut self.model, chunk.model);
        for choice in chunk.choices() {
            let runs = choice.finish().is_none();
            let known = self.choices.iter().position(|(index, _)| *index == choice.index);
            if let Some(at) = known {
                self.choices[at].1 &= runs;
            } else if self.choices.len() < MAX_CHOICES {
                self.choices.push((choice.index, runs));
            }
        }
    }

    /// Whether every choice that began has given its reason to end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|(_, runs)| !runs)
    }

    /// The choices that still run; the first one when none has begun.
    fn running(&self) -> Vec<u64> {
        if self.choices.is_empty() {
            return vec![0];
        }
        self.choices.iter().filter(|(_, runs)| *runs).map(|(index, _)| *index).collect()
    }

    /// One event in this answer's style, from members to put behind the common ones.
    fn event(&self, members: &str) -> String {
        let id = self.id.as_deref().unwrap_or("\"chatcmpl-cut\"");
        let created = self.created.as_deref().unwrap_or("0");
        let model = self.model.as_deref().unwrap_or("\"\"");
        let object = self.style.object();
        format!(
            "data: {{\"id\":{id},\"object\":\"{object}\",\"created\":{created},\
             \"model\":{model},{members}}}\n\n"
        )
    }
}

/// Events that end an answer early the way a token limit would: one for each choice that still
/// runs, and the usage where the caller asked for it. [`DONE`] is not among them.
#[must_use]
pub fn length_cut(seen: &Seen, usage: Option<&TokenCount>) -> Bytes {
    let mut events = String::new();
    let nothing = seen.style.nothing();
    for index in seen.running() {
        events += &seen.event(&format!(
            "\"choices\":[{{\"index\":{index},{nothing},\"finish_reason\":\"length\"}}]"
        ));
    }
    if let Some(tokens) = usage {
        events += &seen.event(&format!("\"choices\":[],\"usage\":{}", usage_object(tokens)));
    }
    events.into()
}

/// The event that tells the caller of an error once the answer has begun.
#[must_use]
pub fn error_event(error: &ErrorBody) -> Bytes {
    format!("data: {}\n\n", error.to_json()).into()
}

/// A usage object by OpenAI's arithmetic, reasoning folded into the completion.
fn usage_object(tokens: &TokenCount) -> serde_json::Value {
    serde_json::json!({
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion.saturating_add(tokens.reasoning),
        "total_tokens": tokens.total(),
        "prompt_tokens_details": { "cached_tokens": tokens.cached },
        "completion_tokens_details": { "reasoning_tokens": tokens.reasoning },
    })
}

/// Keeps the first value seen, if it is short and of one line: it will stand in an event of ours.
fn keep(kept: &mut Option<String>, raw: Option<&RawValue>) {
    let short = raw.filter(|raw| !json::is_null(raw) && raw.get().len() <= 256);
    if let (None, Some(raw)) = (&kept, short.filter(|raw| !raw.get().contains(['\n', '\r']))) {
        *kept = Some(raw.get().to_owned());
    }
}

#[cfg(test)]
#[path = "tests/chunk.rs"]
mod tests;
