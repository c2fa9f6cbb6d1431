//! An [`Answer`] in the format of `/v1/messages`, which is Anthropic's: one JSON body, or a row of
//! events.

use crate::answer::{Answer, FinishReason, Words};
use crate::pacing::{Emitted, EventSource};
use crate::reply::chat::Envelope;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The whole message as one JSON object.
pub fn message(answer: &Answer, envelope: &Envelope) -> String {
    let mut message = begun(answer, envelope);
    message["content"] = content(answer, envelope);
    message["stop_reason"] = stop_reason(answer).into();
    match usage(answer) {
        Some(usage) => message["usage"] = usage,
        None => drop(message.as_object_mut().and_then(|members| members.remove("usage"))),
    }
    message.to_string()
}

/// The body of a reply to `/v1/messages/count_tokens`.
pub fn token_count(prompt: u64) -> String {
    json!({"input_tokens": prompt}).to_string()
}

/// The message in its state at the beginning of a stream.
fn begun(answer: &Answer, envelope: &Envelope) -> Value {
    let mut usage = usage(answer).unwrap_or_else(|| json!({"input_tokens": 0}));
    usage["output_tokens"] = 1.into();
    json!({
        "id": format!("msg_{}", envelope.id), "type": "message", "role": "assistant", "model": answer.model,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    })
}

/// Anthropic counts cached tokens beside the input, not within it.
fn usage(answer: &Answer) -> Option<Value> {
    let usage = answer.reported_usage?;
    // So none of it can be more than the prompt.
    let cached = usage.cached.min(usage.prompt);
    Some(json!({
        "input_tokens": usage.prompt.saturating_sub(cached + usage.cache_writes),
        "cache_creation_input_tokens": usage.cache_writes,
        "cache_read_input_tokens": cached, "output_tokens": usage.completion + usage.reasoning,
    }))
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
    }
}

fn content(answer: &Answer, envelope: &Envelope) -> Value {
    let mut blocks = Vec::new();
    if answer.shown_reasoning > 0 {
        blocks.push(
            json!({"type": "thinking", "thinking": answer.reasoning_text(), "signature": ""}),
        );
    }
    blocks.push(match &answer.call {
        Some(call) => {
            let input: Value = serde_json::from_str(&call.function.arguments).unwrap_or_default();
            let mut block = tool_use(answer, envelope);
            block["input"] = input;
            block
        }
        None => json!({"type": "text", "text": answer.text_of(0)}),
    });
    blocks.into()
}

fn tool_use(answer: &Answer, envelope: &Envelope) -> Value {
    let name = answer.call.as_ref().map(|call| call.function.name.as_str());
    json!({"type": "tool_use", "id": format!("toolu_{}", envelope.id), "name": name, "input": {}})
}

/// The answer as events: some before the words, one for each word, some after.
#[derive(Debug)]
pub struct MessageEvents {
    before: VecDeque<Value>,
    words: Words,
    words_left: u64,
    /// Tokens of a call; they go with the event that carries its arguments.
    call_tokens: u64,
    after: VecDeque<Value>,
}

impl MessageEvents {
    pub fn new(answer: &Answer, envelope: &Envelope) -> Self {
        let start = json!({"type": "message_start", "message": begun(answer, envelope)});
        let block = match &answer.call {
            Some(_) => tool_use(answer, envelope),
            None => json!({"type": "text", "text": ""}),
        };
        let block = json!({"type": "content_block_start", "index": 0, "content_block": block});
        let mut after = VecDeque::new();
        if let Some(call) = &answer.call {
            let delta =
                json!({"type": "input_json_delta", "partial_json": call.function.arguments});
            after.push_back(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        }
        after.push_back(json!({"type": "content_block_stop", "index": 0}));
        let delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
        let mut end = json!({"type": "message_delta", "delta": delta});
        if let Some(usage) = usage(answer) {
            end["usage"] = usage;
        }
        after.push_back(end);
        after.push_back(json!({"type": "message_stop"}));
        Self {
            before: VecDeque::from([start, block, json!({"type": "ping"})]),
            words: answer.words_of(0),
            words_left: answer.words,
            call_tokens: answer.call.as_ref().map_or(0, |call| call.tokens),
            after,
        }
    }
}

fn write_event(out: &mut Vec<u8>, event: &Value) {
    let kind = event["type"].as_str().unwrap_or_default();
    out.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
}

impl EventSource for MessageEvents {
    fn token_is_next(&self) -> bool {
        self.before.is_empty() && (self.words_left > 0 || self.call_tokens > 0)
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Emitted {
        if let Some(event) = self.before.pop_front() {
            write_event(out, &event);
            return Emitted { tokens: 0 };
        }
        if self.words_left > 0 {
            let delta =
                json!({"type": "text_delta", "text": self.words.next().unwrap_or_default()});
            write_event(out, &json!({"type": "content_block_delta", "index": 0, "delta": delta}));
            self.words_left -= 1;
            return Emitted { tokens: 1 };
        }
        if let Some(event) = self.after.pop_front() {
            write_event(out, &event);
        }
        Emitted { tokens: std::mem::take(&mut self.call_tokens) }
    }

    fn is_over(&self) -> bool {
        self.before.is_empty() && self.words_left == 0 && self.after.is_empty()
    }

    fn error(&self) -> String {
        let error = json!({"type": "api_error", "message": "An internal error occurred."});
        format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error}))
    }
}
