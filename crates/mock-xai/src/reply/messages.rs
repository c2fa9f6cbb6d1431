//! An [`Answer`] in the format of `/v1/messages`, which is Anthropic's: one JSON body, or a row of
//! events.

use crate::answer::{Answer, FinishReason};
use crate::pacing::{Emitted, EventSource};
use crate::reply::chat::Envelope;
use crate::words::Words;
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

/// The answer as events: some that are ready, and words, each of which becomes one.
#[derive(Debug)]
pub struct MessageEvents {
    parts: VecDeque<Part>,
}

#[derive(Debug)]
enum Part {
    /// An event with the tokens that go with it.
    Event(Value, u64),
    /// Words that are left of a block: of its text, or of reasoning, which is counted apart.
    Words { words: Words, left: u64, index: u64, is_text: bool },
}

impl MessageEvents {
    pub fn new(answer: &Answer, envelope: &Envelope) -> Self {
        let mut own = Self { parts: VecDeque::new() };
        own.add(json!({"type": "message_start", "message": begun(answer, envelope)}));
        let index = u64::from(answer.shown_reasoning > 0);
        if answer.shown_reasoning > 0 {
            own.add_thinking(answer);
        }
        own.add_block(answer, envelope, index);
        let delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
        let mut end = json!({"type": "message_delta", "delta": delta});
        if let Some(usage) = usage(answer) {
            end["usage"] = usage;
        }
        own.add(end);
        own.add(json!({"type": "message_stop"}));
        own
    }

    fn add(&mut self, event: Value) {
        self.parts.push_back(Part::Event(event, 0));
    }

    fn add_thinking(&mut self, answer: &Answer) {
        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
        self.add(json!({"type": "content_block_start", "index": 0, "content_block": block}));
        let (words, left) = (answer.reasoning_words(), answer.shown_reasoning);
        self.parts.push_back(Part::Words { words, left, index: 0, is_text: false });
        let signature = json!({"type": "signature_delta", "signature": ""});
        self.add(json!({"type": "content_block_delta", "index": 0, "delta": signature}));
        self.add(json!({"type": "content_block_stop", "index": 0}));
    }

    /// The block with the text or the call.
    fn add_block(&mut self, answer: &Answer, envelope: &Envelope, index: u64) {
        let block = match &answer.call {
            Some(_) => tool_use(answer, envelope),
            None => json!({"type": "text", "text": ""}),
        };
        self.add(json!({"type": "content_block_start", "index": index, "content_block": block}));
        self.add(json!({"type": "ping"}));
        if let Some(call) = &answer.call {
            let delta =
                json!({"type": "input_json_delta", "partial_json": call.function.arguments});
            let event = json!({"type": "content_block_delta", "index": index, "delta": delta});
            self.parts.push_back(Part::Event(event, call.tokens));
        } else if answer.words > 0 {
            let (words, left) = (answer.words_of(0), answer.words);
            self.parts.push_back(Part::Words { words, left, index, is_text: true });
        }
        self.add(json!({"type": "content_block_stop", "index": index}));
    }
}

fn write_event(out: &mut Vec<u8>, event: &Value) {
    let kind = event["type"].as_str().unwrap_or_default();
    out.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
}

impl EventSource for MessageEvents {
    fn token_is_next(&self) -> bool {
        match self.parts.front() {
            Some(Part::Words { .. }) => true,
            Some(Part::Event(_, tokens)) => *tokens > 0,
            None => false,
        }
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Emitted {
        let (tokens, is_done) = match self.parts.front_mut() {
            Some(Part::Words { words, left, index, is_text }) => {
                let word = words.next().unwrap_or_default();
                let delta = if *is_text {
                    json!({"type": "text_delta", "text": word})
                } else {
                    json!({"type": "thinking_delta", "thinking": word})
                };
                let event = json!({"type": "content_block_delta", "index": index, "delta": delta});
                write_event(out, &event);
                *left -= 1;
                (u64::from(*is_text), *left == 0)
            }
            Some(Part::Event(event, tokens)) => {
                write_event(out, event);
                (*tokens, true)
            }
            None => (0, true),
        };
        if is_done {
            self.parts.pop_front();
        }
        Emitted { tokens }
    }

    fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    fn error(&self) -> String {
        let error = json!({"type": "api_error", "message": "An internal error occurred."});
        format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error}))
    }
}
