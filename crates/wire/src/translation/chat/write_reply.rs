//! Writes a whole chat completion.

use crate::translation::event::StopReason;
use crate::translation::json_writer::JsonWriter;
use crate::translation::reply::{ItemKind, OutputItem, Reply};
use crate::usage::Usage;

/// Writes a completion with this id.
pub(in crate::translation) fn write(reply: &Reply, id: &str, out: &mut Vec<u8>) {
    JsonWriter::object(out, |body| {
        body.text("id", &format!("chatcmpl-{id}")).text("object", "chat.completion");
        body.number("created", reply.created_at).text("model", &reply.model);
        body.list("choices", |choices| {
            choices.element(|choice| {
                choice.number("index", 0);
                choice.child("message", |message| write_message(reply, message));
                choice.null("logprobs").text("finish_reason", finish_reason(reply));
            });
        });
        if let Some(usage) = &reply.usage {
            body.child("usage", |object| write_usage(usage, object));
        }
    });
}

fn write_message(reply: &Reply, message: &mut JsonWriter<'_>) {
    let has = |kind: &ItemKind| reply.items.iter().any(|item| item.kind == *kind);
    let text_of = |kind: ItemKind| has(&kind).then(|| reply.text_of(&kind));
    message.text("role", "assistant");
    message.text_or_null("content", text_of(ItemKind::Text).as_deref());
    message.text_or_null("refusal", text_of(ItemKind::Refusal).as_deref());
    message.text_if("reasoning_content", text_of(ItemKind::Reasoning).as_deref());
    if reply.has_calls() {
        message.list("tool_calls", |list| {
            for item in reply.items.iter().filter(|item| item.kind.is_call()) {
                list.element(|call| write_call(item, &item.text, call));
            }
        });
    }
}

/// Writes the members of a call with this input.
pub(super) fn write_call(item: &OutputItem, input: &str, call: &mut JsonWriter<'_>) {
    match &item.kind {
        ItemKind::Function { call_id, name, .. } => {
            call.text("id", call_id).text("type", "function").child("function", |function| {
                function.text("name", name).text("arguments", input);
            });
        }
        ItemKind::Custom { call_id, name, .. } => {
            call.text("id", call_id).text("type", "custom").child("custom", |custom| {
                custom.text("name", name).text("input", input);
            });
        }
        _ => {}
    }
}

/// The reason to end in the words of this surface.
pub(super) fn finish_reason(reply: &Reply) -> &'static str {
    match reply.stop {
        Some(StopReason::MaxTokens) => "length",
        Some(StopReason::ContentFilter) => "content_filter",
        _ if reply.has_calls() => "tool_calls",
        _ => "stop",
    }
}

/// Writes usage by OpenAI's arithmetic: reasoning is part of the completion.
pub(super) fn write_usage(usage: &Usage, object: &mut JsonWriter<'_>) {
    let tokens = &usage.tokens;
    object.number("prompt_tokens", tokens.prompt);
    object.number("completion_tokens", tokens.completion.saturating_add(tokens.reasoning));
    object.number("total_tokens", tokens.total());
    object.child("prompt_tokens_details", |details| {
        details.number("cached_tokens", tokens.cached);
    });
    object.child("completion_tokens_details", |details| {
        details.number("reasoning_tokens", tokens.reasoning);
    });
    if let Some(ticks) = usage.cost_ticks {
        object.json("cost_in_usd_ticks", &ticks.to_string());
    }
}
