//! Writes a whole message.

use crate::json;
use crate::translation::event::StopReason;
use crate::translation::json_writer::JsonWriter;
use crate::translation::reply::{ItemKind, OutputItem, Reply};
use crate::usage::Usage;

/// Writes a message with this id.
pub(in crate::translation) fn write(reply: &Reply, id: &str, out: &mut Vec<u8>) {
    JsonWriter::object(out, |body| {
        write_envelope(reply, id, body);
        body.list("content", |list| {
            reply.items.iter().for_each(|item| write_item(item, list));
        });
        write_stop(reply, body);
        body.child("usage", |usage| write_usage(reply.usage.as_ref(), usage));
    });
}

/// Writes the members before the content.
pub(super) fn write_envelope(reply: &Reply, id: &str, body: &mut JsonWriter<'_>) {
    body.text("id", &format!("msg_{id}")).text("type", "message").text("role", "assistant");
    body.text("model", &reply.model);
}

fn write_item(item: &OutputItem, list: &mut JsonWriter<'_>) {
    match &item.kind {
        ItemKind::Text | ItemKind::Refusal => {
            list.element(|block| {
                block.text("type", "text").text("text", &item.text);
            });
        }
        ItemKind::Reasoning => {
            list.element(|block| {
                block.text("type", "thinking").text("thinking", &item.text);
                block.text("signature", item.encrypted.as_deref().unwrap_or_default());
            });
        }
        ItemKind::Function { call_id, name, .. } => {
            list.element(|block| {
                block.text("type", "tool_use").text("id", call_id).text("name", name);
                // Arguments that the model broke off must not break the message.
                let is_object = json::is_object(item.text.as_bytes());
                block.json("input", if is_object { &item.text } else { "{}" });
            });
        }
        ItemKind::Custom { call_id, name, .. } => {
            list.element(|block| {
                block.text("type", "tool_use").text("id", call_id).text("name", name);
                block.child("input", |input| {
                    input.text("input", &item.text);
                });
            });
        }
        ItemKind::Search { id, query } => {
            list.element(|block| write_search(id, query, block));
            list.element(|block| write_search_result(id, block));
        }
    }
}

/// Writes the call of a search by the upstream.
pub(super) fn write_search(id: &str, query: &str, block: &mut JsonWriter<'_>) {
    block.text("type", "server_tool_use").text("id", id).text("name", "web_search");
    block.child("input", |input| {
        input.text("query", query);
    });
}

/// Writes the result of a search. The upstream shows what it found only in its answer.
pub(super) fn write_search_result(id: &str, block: &mut JsonWriter<'_>) {
    block.text("type", "web_search_tool_result").text("tool_use_id", id).json("content", "[]");
}

/// Writes the reason to end in the words of this surface.
pub(super) fn write_stop(reply: &Reply, body: &mut JsonWriter<'_>) {
    let (reason, sequence) = match &reply.stop {
        Some(StopReason::MaxTokens) => ("max_tokens", None),
        Some(StopReason::ContentFilter) => ("refusal", None),
        Some(StopReason::StopSequence(sequence)) => ("stop_sequence", Some(sequence.as_str())),
        _ if reply.has_calls() => ("tool_use", None),
        _ if reply.items.iter().any(|item| item.kind == ItemKind::Refusal) => ("refusal", None),
        _ => ("end_turn", None),
    };
    body.text("stop_reason", reason).text_or_null("stop_sequence", sequence);
}

/// Writes usage by Anthropic's arithmetic: cached tokens are counted beside the input.
pub(super) fn write_usage(usage: Option<&Usage>, object: &mut JsonWriter<'_>) {
    let tokens = usage.map(|usage| usage.tokens).unwrap_or_default();
    let written = usage.map_or(0, |usage| usage.cache_written);
    let beside = tokens.cached.saturating_add(written);
    object.number("input_tokens", tokens.prompt.saturating_sub(beside));
    object.number("cache_creation_input_tokens", written);
    object.number("cache_read_input_tokens", tokens.cached);
    object.number("output_tokens", tokens.completion.saturating_add(tokens.reasoning));
}
