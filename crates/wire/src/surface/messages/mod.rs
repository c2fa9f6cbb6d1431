//! `POST /v1/messages` and `/v1/messages/count_tokens`, in Anthropic's shape.
//!
//! Its usage counts the part of the prompt that came from the cache beside `input_tokens`, not in
//! it; and it comes in two halves, at a stream's beginning and at its end.

use super::{
    Description, Output, no_dependencies, no_id, read_unmetered_reply, unsupported_stream,
};
use crate::error::{ErrorBody, UpstreamError};
use crate::fields::Fields;
use crate::json::{self, each_element, each_member};
use crate::output::{self, OutputKind};
use crate::prompt::Prompt;
use crate::request::BadBody;
use crate::sse::Event;
use crate::stream_reader::{EventVerdict, StreamReader, UsageSink};
use crate::usage::{SplitUsage, Usage};
use bytes::Bytes;
use domain::charge::TokenCount;
use serde_json::json;
use serde_json::value::RawValue;
use std::fmt::Write;

pub(super) static MESSAGES: Description = Description {
    path: "/messages",
    output: Output::Tokens(&["max_tokens"]),
    streams: true,
    usage_needs_option: false,
    bills_prompt: true,
    choices,
    prompt,
    dependencies: no_dependencies,
    stream_reader: |_| Box::new(MessageStream::default()),
    read_reply,
    id_of: no_id,
    error,
};

pub(super) static COUNT_TOKENS: Description = Description {
    path: "/messages/count_tokens",
    output: Output::None,
    streams: false,
    usage_needs_option: false,
    bills_prompt: false,
    choices: |_| Ok(1),
    prompt,
    dependencies: no_dependencies,
    stream_reader: unsupported_stream,
    read_reply: read_unmetered_reply,
    id_of: no_id,
    error,
};

/// Always one; on this endpoint, an output limit is required.
fn choices(fields: &Fields<'_>) -> Result<u64, BadBody> {
    fields.required("max_tokens")?;
    fields.one_answer()
}

fn prompt<'a>(fields: &Fields<'a>) -> Result<Prompt<'a>, BadBody> {
    fields.messages("messages")
}

/// `{"type":"error","error":{"type","message"}}`; the type goes by the status.
fn error(status: u16, error: &ErrorBody) -> String {
    let kind = match status {
        400 | 405 | 408 | 422 | 431 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    };
    let mut body = json!({"type": "error", "error": {"type": kind, "message": error.message}});
    if let Some(details) = &error.details {
        body["error"]["details"] = serde_json::Value::clone(details);
    }
    body.to_string()
}

fn read_reply(body: &[u8], to: &mut dyn UsageSink) -> bool {
    let Some(message) = json::object_text(body) else { return false };
    let mut has_content = false;
    let _ = each_member(message, |name, value| {
        has_content |= name == "content";
        read_message_member(&name, value, to);
    });
    if has_content {
        to.on_finish();
    }
    if let Some(usage) = usage_of(body, &mut SplitUsage::default()) {
        to.on_usage(usage);
    }
    json::is_object(body)
}

/// A member of a message; of the content each block has a lane.
fn read_message_member(name: &str, value: &RawValue, to: &mut dyn UsageSink) {
    if name == "content" && value.get().starts_with('[') {
        let mut lane = 0;
        let _ = each_element(value.get(), |block| {
            read_member("content", block, lane, to);
            lane += 1;
        });
    } else {
        read_member(name, value, 0, to);
    }
}

/// The usage that a message or an event has, in each of the objects that may have it.
fn usage_of(object: &[u8], split: &mut SplitUsage) -> Option<Usage> {
    let mut found = None;
    let walked = each_member(json::object_text(object)?, |name, value| {
        if name == "usage" && !json::is_null(value) {
            found = Usage::larger(found, split.add(value.get().as_bytes()));
        }
    });
    walked.ok()?;
    found.or_else(|| Usage::find(object))
}

/// Reports the output of a member: a block of content, whole or new, or a value in its place.
fn read_member(name: &str, value: &RawValue, lane: u64, to: &mut dyn UsageSink) {
    output::each(OutputKind::Content, name, value.get(), &mut |piece| to.on_output(lane, piece));
}

fn read_block(block: Option<&RawValue>, lane: u64, to: &mut dyn UsageSink) {
    if let Some(block) = block {
        read_member("delta", block, lane, to);
    }
}

/// Reports the output of an event that has neither a message, a block nor a delta.
fn read_other_event(parsed: &MessageEvent<'_>, data: &[u8], lane: u64, to: &mut dyn UsageSink) {
    let has_place =
        parsed.message.is_some() || parsed.content_block.is_some() || parsed.delta.is_some();
    if let Some(event) = json::object_text(data).filter(|_| !has_place) {
        output::each_in(OutputKind::Content, event, |_| true, &mut |piece| {
            to.on_output(lane, piece);
        });
    }
}

/// The members of an event that are read.
struct MessageEvent<'a> {
    kind: Option<&'a RawValue>,
    index: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    content_block: Option<&'a RawValue>,
    delta: Option<&'a RawValue>,
}

impl<'a> MessageEvent<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let names = ["type", "index", "message", "content_block", "delta"];
        let [kind, index, message, content_block, delta] = json::members(data, names)?;
        Some(Self { kind, index, message, content_block, delta })
    }
}

/// A stream of blocks between `message_start` and `message_stop`.
#[derive(Default)]
struct MessageStream {
    usage: SplitUsage,
    /// Blocks that have begun and not ended.
    open: Vec<u64>,
    /// The block that the latest event began.
    begun: Option<u64>,
}

/// The most blocks that are tracked; a message has a handful.
const MAX_BLOCKS: usize = 1024;

impl StreamReader for MessageStream {
    fn on_event(&mut self, event: &Event, to: &mut dyn UsageSink) -> EventVerdict {
        let data = event.data.as_deref();
        let Some(parsed) = data.and_then(MessageEvent::read) else {
            if data.is_some_and(|data| !data.trim_ascii().is_empty()) {
                to.on_unreadable();
            }
            return EventVerdict::Relay;
        };
        let lane = parsed.index.and_then(|raw| raw.get().parse().ok()).unwrap_or(0);
        self.begun = None;
        match &*parsed.kind.map(json::text).unwrap_or_default() {
            "message_start" => self.begin(&parsed, to),
            "content_block_start" => {
                self.open_block(lane);
                read_block(parsed.content_block, lane, to);
            }
            "content_block_delta" => read_block(parsed.delta, lane, to),
            "content_block_stop" => self.open.retain(|open| *open != lane),
            "message_delta" => {
                to.on_finish();
                read_block(parsed.delta, lane, to);
                self.read_usage(data, to);
            }
            "message_stop" => {
                self.read_usage(data, to);
                return EventVerdict::Last;
            }
            "error" => {
                let error = UpstreamError::of_event(data.unwrap_or_default());
                return EventVerdict::ReplaceError(Box::new(error));
            }
            kind => {
                // In OpenAI's shape, which some bridges fall back to.
                if kind.is_empty()
                    && let Some(error) = data.and_then(UpstreamError::in_band)
                {
                    return EventVerdict::ReplaceError(Box::new(error));
                }
                read_block(parsed.content_block.or(parsed.delta), lane, to);
                read_other_event(&parsed, data.unwrap_or_default(), lane, to);
            }
        }
        EventVerdict::Relay
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes {
        let mut events = String::new();
        // The event that was not relayed may have started a block that the client has not seen.
        let unseen = self.begun;
        for index in std::mem::take(&mut self.open) {
            if Some(index) == unseen {
                continue;
            }
            let data = json!({"type": "content_block_stop", "index": index});
            let _ = write!(events, "event: content_block_stop\ndata: {data}\n\n");
        }
        let data = json!({
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": null},
            "usage": {
                "input_tokens": tokens.prompt - tokens.cached.min(tokens.prompt),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": tokens.cached,
                "output_tokens": tokens.completion.saturating_add(tokens.reasoning),
            },
        });
        let _ = write!(events, "event: message_delta\ndata: {data}\n\n");
        events += "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        events.into()
    }

    fn error(&mut self, body: &ErrorBody) -> Bytes {
        let status = if body.kind == "invalid_request_error" { 400 } else { 500 };
        format!("event: error\ndata: {}\n\n", error(status, body)).into()
    }
}

impl MessageStream {
    /// Reads `message_start`, whose output count is a starting value, not a total.
    fn begin(&mut self, parsed: &MessageEvent<'_>, to: &mut dyn UsageSink) {
        let Some(message) = parsed.message else { return };
        let _ = each_member(message.get(), |name, value| read_message_member(&name, value, to));
        let _: Option<Usage> = usage_of(message.get().as_bytes(), &mut self.usage);
        self.usage.reset_output();
        if let Some(usage) = self.usage.interpret() {
            to.on_usage(usage);
        }
    }

    fn open_block(&mut self, lane: u64) {
        if self.open.len() < MAX_BLOCKS {
            self.open.push(lane);
            self.begun = Some(lane);
        }
    }

    fn read_usage(&mut self, data: Option<&[u8]>, to: &mut dyn UsageSink) {
        if let Some(usage) = data.and_then(|data| usage_of(data, &mut self.usage)) {
            to.on_usage(usage);
        }
    }
}

#[cfg(test)]
mod tests;
