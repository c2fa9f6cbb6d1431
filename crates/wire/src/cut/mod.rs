//! Writes the gateway's own chunks: those that end an answer early, and in-band errors.

use super::chunk::Chunk;
use super::error::ErrorBody;
use super::json;
use bytes::Bytes;
use domain::charge::TokenCount;
use serde_json::value::RawValue;

/// The end of a stream, as it goes to the caller.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// The most choices that [`StreamSummary`] tracks: as many as one call may request.
const MAX_CHOICES: usize = 128;

/// The format in which chunks are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChunkStyle {
    #[default]
    Chat,
    /// Chunks of the older completions endpoint.
    Text,
}

/// The common members of an answer's chunks, from which the gateway writes further ones.
#[derive(Debug, Clone, Default)]
pub struct StreamSummary {
    style: ChunkStyle,
    /// Raw JSON, quotes included.
    id: Option<String>,
    created: Option<String>,
    model: Option<String>,
    /// Index of each choice, and whether it still runs.
    choices: Vec<(u64, bool)>,
}

impl ChunkStyle {
    fn object(self) -> &'static str {
        match self {
            Self::Chat => "chat.completion.chunk",
            Self::Text => "text_completion",
        }
    }

    /// The members of a choice without new output.
    fn empty_choice(self) -> &'static str {
        match self {
            Self::Chat => r#""delta":{}"#,
            Self::Text => r#""text":"","logprobs":null"#,
        }
    }
}

impl StreamSummary {
    /// The summary of a stream that has not begun.
    #[must_use]
    pub fn new(style: ChunkStyle) -> Self {
        Self { style, ..Self::default() }
    }

    /// Records the envelope and the choices of one chunk.
    pub fn observe(&mut self, chunk: &Chunk<'_>) {
        store_first(&mut self.id, chunk.id);
        store_first(&mut self.created, chunk.created);
        store_first(&mut self.model, chunk.model);
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

    /// True if every choice that began has given its reason to end.
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
/// runs, and the usage if the caller requested it. [`DONE`] is not among them.
#[must_use]
pub fn length_cut(summary: &StreamSummary, usage: Option<&TokenCount>) -> Bytes {
    let mut events = String::new();
    let empty_choice = summary.style.empty_choice();
    for index in summary.running() {
        events += &summary.event(&format!(
            "\"choices\":[{{\"index\":{index},{empty_choice},\"finish_reason\":\"length\"}}]"
        ));
    }
    if let Some(tokens) = usage {
        events += &usage_event(summary, tokens);
    }
    events.into()
}

/// The chunk with the usage of a stream.
#[must_use]
pub fn usage_chunk(summary: &StreamSummary, tokens: &TokenCount) -> Bytes {
    usage_event(summary, tokens).into()
}

fn usage_event(summary: &StreamSummary, tokens: &TokenCount) -> String {
    summary.event(&format!("\"choices\":[],\"usage\":{}", usage_object(tokens)))
}

/// The event that reports an error once the answer has begun.
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

/// Stores the first value, if it is short and of one line: it is copied into events that the gateway writes.
fn store_first(stored: &mut Option<String>, raw: Option<&RawValue>) {
    let short = raw.filter(|raw| !json::is_null(raw) && raw.get().len() <= 256);
    if let (None, Some(raw)) = (&stored, short.filter(|raw| !raw.get().contains(['\n', '\r']))) {
        *stored = Some(raw.get().to_owned());
    }
}

#[cfg(test)]
mod tests;
