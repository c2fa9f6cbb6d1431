//! Writes a whole response, which the last event of a stream carries too.

use crate::translation::event::{Failure, StopReason};
use crate::translation::json_writer::JsonWriter;
use crate::translation::reply::{ItemKind, OutputItem, Reply};
use crate::usage::Usage;

/// What a response has beside its reply.
#[derive(Debug, Clone)]
pub(in crate::translation) struct ResponseFrame {
    /// The part of all ids that is the gateway's.
    pub id: String,
    /// Members that repeat the request.
    pub echo: String,
}

/// The state of a response or an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl Status {
    /// The state of a reply that has ended.
    pub fn of(reply: &Reply) -> Self {
        match reply.stop {
            Some(StopReason::MaxTokens | StopReason::ContentFilter) => Self::Incomplete,
            _ => Self::Completed,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// Writes a response as the body of a reply.
pub(in crate::translation) fn write(reply: &Reply, frame: &ResponseFrame, out: &mut Vec<u8>) {
    JsonWriter::object(out, |body| write_response(reply, frame, Status::of(reply), None, body));
}

/// Writes the members of a response.
pub(super) fn write_response(
    reply: &Reply,
    frame: &ResponseFrame,
    status: Status,
    failure: Option<&Failure>,
    body: &mut JsonWriter<'_>,
) {
    body.text("id", &format!("resp_{}", frame.id)).text("object", "response");
    body.number("created_at", reply.created_at).text("status", status.as_str());
    match failure {
        Some(failure) => body.child("error", |error| {
            error.text("code", failure.response_code()).text("message", &failure.message);
        }),
        None => body.null("error"),
    };
    match &reply.stop {
        Some(StopReason::MaxTokens) if status == Status::Incomplete => {
            body.json("incomplete_details", r#"{"reason":"max_output_tokens"}"#)
        }
        Some(StopReason::ContentFilter) if status == Status::Incomplete => {
            body.json("incomplete_details", r#"{"reason":"content_filter"}"#)
        }
        _ => body.null("incomplete_details"),
    };
    body.text("model", &reply.model).list("output", |list| {
        if status != Status::InProgress {
            for (index, item) in reply.items.iter().enumerate() {
                list.element(|object| write_item(index, item, frame, item_status(item), object));
            }
        }
    });
    match reply.usage.as_ref().filter(|_| status != Status::InProgress) {
        Some(usage) => body.child("usage", |object| write_usage(usage, object)),
        None => body.null("usage"),
    };
    body.members(&frame.echo);
}

pub(super) fn item_status(item: &OutputItem) -> Status {
    if item.is_complete { Status::Completed } else { Status::Incomplete }
}

/// The id of an item of a response.
pub(super) fn item_id(index: usize, item: &OutputItem, frame: &ResponseFrame) -> String {
    let prefix = match item.kind {
        ItemKind::Text | ItemKind::Refusal => "msg",
        ItemKind::Reasoning => "rs",
        ItemKind::Function { .. } => "fc",
        ItemKind::Custom { .. } => "ctc",
        ItemKind::Search { .. } => "ws",
    };
    format!("{prefix}_{}_{index}", frame.id)
}

/// Writes an item; without its text while it is in progress.
pub(super) fn write_item(
    index: usize,
    item: &OutputItem,
    frame: &ResponseFrame,
    status: Status,
    object: &mut JsonWriter<'_>,
) {
    let has_text = status != Status::InProgress;
    let input = if has_text { item.text.as_str() } else { "" };
    object.text("id", &item_id(index, item, frame));
    match &item.kind {
        ItemKind::Text | ItemKind::Refusal => {
            object.text("type", "message").text("status", status.as_str());
            object.text("role", "assistant").list("content", |list| {
                if has_text {
                    list.element(|part| write_part(item, &item.text, part));
                }
            });
        }
        ItemKind::Reasoning => {
            object.text("type", "reasoning").list("summary", |list| {
                if has_text && !item.text.is_empty() {
                    list.element(|part| write_part(item, &item.text, part));
                }
            });
            object.text_if("encrypted_content", item.encrypted.as_deref().filter(|_| has_text));
        }
        ItemKind::Function { call_id, namespace, name } => {
            object.text("type", "function_call").text("status", status.as_str());
            object.text("call_id", call_id).text_if("namespace", namespace.as_deref());
            object.text("name", name).text("arguments", input);
        }
        ItemKind::Custom { call_id, namespace, name } => {
            object.text("type", "custom_tool_call").text("status", status.as_str());
            object.text("call_id", call_id).text_if("namespace", namespace.as_deref());
            object.text("name", name).text("input", input);
        }
        ItemKind::Search { query, .. } => {
            object.text("type", "web_search_call").text("status", status.as_str());
            object.child("action", |action| {
                action.text("type", "search").text("query", query);
            });
        }
    }
}

/// Writes the part of a message or a summary that has the text of an item.
pub(super) fn write_part(item: &OutputItem, text: &str, part: &mut JsonWriter<'_>) {
    match item.kind {
        ItemKind::Refusal => {
            part.text("type", "refusal").text("refusal", text);
        }
        ItemKind::Reasoning => {
            part.text("type", "summary_text").text("text", text);
        }
        _ => {
            part.text("type", "output_text").text("text", text);
            part.json("annotations", "[]").json("logprobs", "[]");
        }
    }
}

/// Writes usage, in which reasoning is part of the output.
fn write_usage(usage: &Usage, object: &mut JsonWriter<'_>) {
    let tokens = &usage.tokens;
    object.number("input_tokens", tokens.prompt);
    object.child("input_tokens_details", |details| {
        details.number("cached_tokens", tokens.cached);
        details.number("cache_write_tokens", usage.cache_written);
    });
    object.number("output_tokens", tokens.completion.saturating_add(tokens.reasoning));
    object.child("output_tokens_details", |details| {
        details.number("reasoning_tokens", tokens.reasoning);
    });
    object.number("total_tokens", tokens.total());
    if let Some(ticks) = usage.cost_ticks {
        object.json("cost_in_usd_ticks", &ticks.to_string());
    }
}
