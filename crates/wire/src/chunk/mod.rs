//! One chunk of a streamed answer: what the gateway reads of it.
//!
//! Chunks are relayed as bytes; nothing here re-encodes them. A chunk that cannot be read is
//! relayed all the same. The same reader takes a whole reply, whose `message` is one large delta.
//! A chunk is read in one pass; unknown members are stored as text, and may contain output.

use super::error::UpstreamError;
use super::json::{self, FromMembers, each_element, each_member};
use super::output::{self, OutputKind, OutputPiece};
use super::stream_reader::UsageSink;
use super::usage::Usage;
use serde::de::{Deserialize, Deserializer, MapAccess};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::Cell;

/// A `chat.completion.chunk` or a `chat.completion`.
#[derive(Debug, Default)]
pub struct Chunk<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) created: Option<&'a RawValue>,
    pub(super) model: Option<&'a RawValue>,
    written_usage: Option<&'a RawValue>,
    written_error: Option<&'a RawValue>,
    written_choices: Option<Vec<Choice<'a>>>,
    /// The usage under the names of other APIs.
    other_usage: Option<&'a RawValue>,
    /// Members that are neither known nor part of the envelope.
    others: Others<'a>,
    /// Not as the wire format has it, so the usage may be anywhere.
    is_irregular: bool,
    pub usage: Option<Usage>,
    /// The upstream failed after its answer had begun.
    pub error: Option<UpstreamError>,
}

/// One choice of a chunk.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    pub index: u64,
    /// Moonshot puts the usage of streams in here.
    usage: Option<&'a RawValue>,
    finish_reason: Option<&'a RawValue>,
    delta: Option<Delta<'a>>,
    /// The older completions endpoint has the text here.
    text: Option<&'a RawValue>,
    others: Others<'a>,
}

/// The new output of a choice, or all of it in a whole reply.
#[derive(Debug, Default)]
struct Delta<'a> {
    content: Option<&'a RawValue>,
    refusal: Option<&'a RawValue>,
    /// Reasoning that is given as a string.
    reasoning: Option<&'a RawValue>,
    /// Reasoning as a list of details, which may repeat the string.
    details: Option<&'a RawValue>,
    tool_calls: Option<&'a RawValue>,
    others: Others<'a>,
}

/// Members by name; ordinary chunks have none.
type Others<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

impl<'a> Deserialize<'a> for Chunk<'a> {
    fn deserialize<D: Deserializer<'a>>(reader: D) -> Result<Self, D::Error> {
        json::from_members(reader)
    }
}

impl<'a> FromMembers<'a> for Chunk<'a> {
    fn member<M: MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        members: &mut M,
    ) -> Result<(), M::Error> {
        if name != "choices" {
            self.other_member(name, members.next_value()?);
            return Ok(());
        }
        let choices: Option<Vec<Choice<'a>>> = members.next_value()?;
        self.is_irregular |= self.written_choices.is_some();
        if let Some(choices) = choices {
            self.written_choices.get_or_insert_default().extend(choices);
        }
        Ok(())
    }
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

    /// Reads what is refused above: an index that is no number, choices in another form. `None` when
    /// nothing that matters is found.
    fn lenient(data: &'a [u8]) -> Option<Self> {
        let mut chunk = Self::default();
        let mut choices = Vec::new();
        let walked = each_member(json::object_text(data)?, |name, value| match &*name {
            "choices" if value.get().starts_with('{') => choices.push(Choice::lenient(value)),
            "choices" => {
                let _ = each_element(value.get(), |choice| choices.push(Choice::lenient(choice)));
                chunk.written_choices.get_or_insert_default();
            }
            _ => chunk.other_member(name, value),
        });
        if !choices.is_empty() {
            chunk.written_choices = Some(choices);
        }
        chunk.is_irregular = true;
        walked.ok().filter(|()| chunk.says_something()).map(|()| chunk)
    }

    /// Reads any member but the choices.
    fn other_member(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        let field = match &*name {
            "id" => &mut self.id,
            "created" => &mut self.created,
            "model" => &mut self.model,
            "usage" => &mut self.written_usage,
            "error" => &mut self.written_error,
            "x_groq" | "usageMetadata" | "amazon-bedrock-invocationMetrics" => {
                &mut self.other_usage
            }
            "object" | "system_fingerprint" | "service_tier" | "obfuscation" => return,
            _ => return other(&mut self.others, name, value),
        };
        // Of a member that occurs twice, the last that is not null counts.
        self.is_irregular |= field.is_some();
        if field.is_none() || !json::is_null(value) {
            *field = Some(value);
        }
    }

    fn says_something(&self) -> bool {
        let members = [self.written_usage, self.written_error, self.other_usage];
        let has_output = |choice: &Choice<'_>| {
            let mut has_output = choice.finish().is_some() || choice.usage.is_some();
            choice.each_piece(&mut |_| has_output = true);
            has_output
        };
        members.iter().any(Option::is_some)
            || self.choices().iter().any(has_output)
            || !self.others.is_empty()
    }

    /// The usage that `data`, of which this was read, reports.
    fn usage_in(&self, data: &[u8]) -> Option<Usage> {
        let of = |raw: Option<&RawValue>| raw.and_then(Usage::of_json);
        let is_elsewhere = self.is_irregular
            || self.other_usage.is_some()
            || self.choices().is_empty()
            || self.choices().iter().any(|choice| choice.usage.is_some());
        of(self.written_usage)
            .filter(|_| !self.is_irregular)
            .or_else(|| if is_elsewhere { Usage::find(data) } else { None })
    }

    /// True if the chunk carries nothing but usage: the gateway drops it if the client did not request usage.
    #[must_use]
    pub fn is_usage_only(&self) -> bool {
        let no_choices = self.written_choices.as_ref().is_some_and(Vec::is_empty);
        no_choices && self.has_usage() && self.error.is_none()
    }

    /// True if the chunk has a member for usage that is not null.
    #[must_use]
    pub fn has_usage(&self) -> bool {
        self.written_usage.is_some_and(|raw| !json::is_null(raw))
    }

    /// Reports the output and the usage of the chunk to `to`.
    pub fn report_to(&self, to: &mut dyn UsageSink) {
        for choice in self.choices() {
            if choice.finish().is_some() {
                to.on_finish();
            }
            choice.each_piece(&mut |piece| to.on_output(choice.index, piece));
        }
        each_other(&self.others, &mut |piece| to.on_output(0, piece));
        // Last, because it covers the text of its own chunk.
        if let Some(usage) = self.usage {
            to.on_usage(usage);
        }
    }

    /// The choices in the chunk.
    #[must_use]
    pub fn choices(&self) -> &[Choice<'a>] {
        self.written_choices.as_deref().unwrap_or_default()
    }
}

impl<'a> Deserialize<'a> for Choice<'a> {
    fn deserialize<D: Deserializer<'a>>(reader: D) -> Result<Self, D::Error> {
        json::from_members(reader)
    }
}

impl<'a> FromMembers<'a> for Choice<'a> {
    fn member<M: MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        members: &mut M,
    ) -> Result<(), M::Error> {
        match &*name {
            "index" => self.index = members.next_value()?,
            "delta" | "message" => {
                let delta: Option<Delta<'a>> = members.next_value()?;
                match (&mut self.delta, delta) {
                    (Some(first), Some(second)) => first.merge(second),
                    (first, second) => *first = first.take().or(second),
                }
            }
            _ => self.other_member(name, members.next_value()?),
        }
        Ok(())
    }
}

impl<'a> Choice<'a> {
    fn lenient(choice: &'a RawValue) -> Self {
        let mut read = Self::default();
        let _ = each_member(choice.get(), |name, value| match &*name {
            "index" => read.index = json::text(value).parse().unwrap_or(0),
            "delta" | "message" => read.delta.get_or_insert_default().lenient(value),
            _ => read.other_member(name, value),
        });
        read
    }

    /// Reads any member but the index and the delta.
    fn other_member(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        match &*name {
            "usage" => self.usage = Some(value),
            "finish_reason" if json::is_null(value) => {}
            "finish_reason" => self.finish_reason = Some(value),
            "text" => longer(&mut self.text, value),
            "logprobs" => {}
            _ => other(&mut self.others, name, value),
        }
    }

    /// The reason that the choice ended. An empty reason, which xAI sends with tool calls, counts as none.
    #[must_use]
    pub fn finish(&self) -> Option<Cow<'a, str>> {
        let raw = self.finish_reason.filter(|raw| raw.get().starts_with('"'))?;
        Some(json::text(raw)).filter(|reason| !reason.is_empty())
    }

    /// Calls `visit` with every piece of output.
    pub fn each_piece(&self, visit: &mut dyn FnMut(OutputPiece<'a>)) {
        if let Some(text) = self.text {
            output::each(OutputKind::Content, "text", text.get(), visit);
        }
        if let Some(delta) = &self.delta {
            delta.each_piece(visit);
        }
        each_other(&self.others, visit);
    }
}

impl<'a> Deserialize<'a> for Delta<'a> {
    fn deserialize<D: Deserializer<'a>>(reader: D) -> Result<Self, D::Error> {
        json::from_members(reader)
    }
}

impl<'a> FromMembers<'a> for Delta<'a> {
    fn member<M: MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        members: &mut M,
    ) -> Result<(), M::Error> {
        self.any_member(name, members.next_value()?);
        Ok(())
    }
}

impl<'a> Delta<'a> {
    /// Reads the members of a delta, or a string in place of the object.
    fn lenient(&mut self, delta: &'a RawValue) {
        if delta.get().starts_with('"') {
            return longer(&mut self.content, delta);
        }
        let _ = each_member(delta.get(), |name, value| self.any_member(name, value));
    }

    fn any_member(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        let is_string = value.get().starts_with('"');
        let field = match &*name {
            "content" => &mut self.content,
            "refusal" => &mut self.refusal,
            "reasoning_content" | "reasoning" | "reasoning_text" | "thinking" if is_string => {
                &mut self.reasoning
            }
            "reasoning_content" | "reasoning" | "reasoning_text" | "thinking"
            | "reasoning_details" | "thinking_blocks" => &mut self.details,
            "tool_calls" => &mut self.tool_calls,
            "role" => return,
            _ => return other(&mut self.others, name, value),
        };
        longer(field, value);
    }

    fn merge(&mut self, second: Self) {
        let Self { content, refusal, reasoning, details, tool_calls, others } = second;
        for (first, second) in [
            (&mut self.content, content),
            (&mut self.refusal, refusal),
            (&mut self.reasoning, reasoning),
            (&mut self.details, details),
            (&mut self.tool_calls, tool_calls),
        ] {
            if let Some(second) = second {
                longer(first, second);
            }
        }
        self.others.extend(others);
    }

    fn each_piece(&self, visit: &mut dyn FnMut(OutputPiece<'a>)) {
        let says_something = Cell::new(false);
        let mut visit = |piece: OutputPiece<'a>| {
            says_something.set(true);
            visit(piece);
        };
        each_of(OutputKind::Content, "content", self.content, &mut visit);
        self.each_of_reasoning(&mut visit);
        each_of(OutputKind::Refusal, "refusal", self.refusal, &mut visit);
        each_of(OutputKind::ToolArguments, "tool_calls", self.tool_calls, &mut visit);
        for (name, value) in self.others.iter().filter(|(name, _)| !is_copy(name)) {
            output::each(OutputKind::Content, name, value.get(), &mut visit);
        }
        if !says_something.get() {
            for (name, value) in self.others.iter().filter(|(name, _)| is_copy(name)) {
                output::each(OutputKind::Content, name, value.get(), &mut visit);
            }
        }
    }

    /// Some servers send the same reasoning under several names: its text counts once.
    fn each_of_reasoning(&self, visit: &mut dyn FnMut(OutputPiece<'a>)) {
        const NAME: &str = "reasoning";
        let text_len =
            |raw: Option<&RawValue>| raw.map_or(0, |raw| output::text_len(NAME, raw.get()));
        let is_in_string =
            self.details.is_none() || text_len(self.reasoning) > text_len(self.details);
        if is_in_string {
            each_of(OutputKind::Reasoning, NAME, self.reasoning, visit);
        }
        each_of(OutputKind::Reasoning, NAME, self.details, &mut |piece| {
            if !is_in_string || !matches!(piece, OutputPiece::Text(..)) {
                visit(piece);
            }
        });
    }
}

/// Calls `visit` with every piece of output in a member that may be there.
fn each_of<'a>(
    kind: OutputKind,
    name: &str,
    raw: Option<&'a RawValue>,
    visit: &mut dyn FnMut(OutputPiece<'a>),
) {
    if let Some(raw) = raw {
        output::each(kind, name, raw.get(), visit);
    }
}

/// True if the member repeats the output of others in another protocol's format.
fn is_copy(name: &str) -> bool {
    matches!(name, "provider_specific_fields" | "extra_content" | "model_extra")
}

/// Stores a member that may contain output.
fn other<'a>(others: &mut Others<'a>, name: Cow<'a, str>, value: &'a RawValue) {
    let may_hold = value.get().starts_with(['"', '{', '[']);
    if may_hold && !output::is_envelope(&name) {
        others.push((name, value));
    }
}

fn each_other<'a>(others: &Others<'a>, visit: &mut dyn FnMut(OutputPiece<'a>)) {
    for (name, value) in others {
        output::each(OutputKind::Content, name, value.get(), visit);
    }
}

/// Of a text that occurs twice, the longer one counts.
fn longer<'a>(kept: &mut Option<&'a RawValue>, raw: &'a RawValue) {
    let length = |raw: &RawValue| if json::is_null(raw) { 0 } else { raw.get().len() };
    if kept.is_none_or(|kept| length(raw) > length(kept)) {
        *kept = Some(raw);
    }
}

#[cfg(test)]
mod tests;
