//! The ways in which replies end, on every pair of surfaces: by the model, by a limit, by content rules, by the
//! gateway, and too early. `tests/sdk` checks these files against the types of OpenAI's and Anthropic's clients.

use super::endings::{beginning, gateway_ending};
use super::golden::{check, name_of, pretty};
use super::{PAIRS, reply_translation, stream};
use crate::surface::Surface;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Endings of which the upstream's body says all there is to say.
const WHOLE: [&str; 5] = ["answer", "calls", "refusal", "limit", "filter"];

fn file(from: Surface, to: Surface, ending: &str, kind: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/translation/tests/golden_endings");
    let folder = root.join(format!("{}-to-{}", name_of(from), name_of(to)));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{ending}.{kind}"))
}

/// The whole reply of an upstream that ends like this.
fn reply(to: Surface, ending: &str) -> Value {
    match to {
        Surface::Responses => response(ending),
        _ => completion(ending),
    }
}

fn completion(ending: &str) -> Value {
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "get_weather", "arguments": "{\"city\":\"Bar\"}"}});
    let (message, finish) = match ending {
        "calls" => {
            (json!({"role": "assistant", "content": null, "tool_calls": [call]}), "tool_calls")
        }
        "refusal" => {
            (json!({"role": "assistant", "content": null, "refusal": "I will not."}), "stop")
        }
        "limit" => (json!({"role": "assistant", "content": "Once upon"}), "length"),
        "filter" => (json!({"role": "assistant", "content": "Take"}), "content_filter"),
        _ => (
            json!({"role": "assistant", "content": "42.", "reasoning_content": "6 times 7."}),
            "stop",
        ),
    };
    json!({
        "id": "chatcmpl-u", "object": "chat.completion", "created": 1_789_999_999, "model": "qwen3",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    })
}

fn response(ending: &str) -> Value {
    let message = |part: Value| json!({"id": "msg_u", "type": "message", "role": "assistant", "status": "completed", "content": [part]});
    let text =
        |text: &str| message(json!({"type": "output_text", "text": text, "annotations": []}));
    let reasoning = json!({"id": "rs_u", "type": "reasoning", "encrypted_content": "c2VhbGVk",
        "summary": [{"type": "summary_text", "text": "6 times 7."}]});
    let call = json!({"id": "fc_u", "type": "function_call", "call_id": "call_1", "name": "get_weather",
        "arguments": "{\"city\":\"Bar\"}", "status": "completed"});
    let (output, reason) = match ending {
        "calls" => (json!([call]), None),
        "refusal" => (json!([message(json!({"type": "refusal", "refusal": "I will not."}))]), None),
        "limit" => (json!([text("Once upon")]), Some("max_output_tokens")),
        "filter" => (json!([text("Take")]), Some("content_filter")),
        _ => (json!([reasoning, text("42.")]), None),
    };
    json!({
        "id": "resp_u", "object": "response", "created_at": 1_789_999_999, "model": "grok-4.7",
        "status": if reason.is_some() { "incomplete" } else { "completed" },
        "incomplete_details": reason.map(|reason| json!({"reason": reason})), "output": output,
        "usage": {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15},
    })
}

/// The same reply as a stream.
fn reply_stream(to: Surface, ending: &str) -> String {
    let mut reply = reply(to, ending);
    if to == Surface::Responses {
        let status = reply["status"].as_str().unwrap().to_owned();
        return format!(
            "data: {}\n\n",
            json!({"type": format!("response.{status}"), "response": reply})
        );
    }
    reply["choices"][0]["delta"] = reply["choices"][0]["message"].take();
    format!("data: {reply}\n\ndata: [DONE]\n\n")
}

#[test]
fn whole_replies_end_as_their_surface_ends() {
    for (from, to) in PAIRS {
        for ending in WHOLE {
            let body = reply(to, ending).to_string();
            let translated = reply_translation(from, to).reply(body.as_bytes(), None).unwrap();
            check(&file(from, to, ending, "json"), &pretty(&translated));
        }
    }
}

#[test]
fn streams_end_as_their_surface_ends() {
    for (from, to) in PAIRS {
        let mut endings: Vec<_> =
            WHOLE.iter().map(|ending| (*ending, reply_stream(to, ending))).collect();
        let begun = |more: &str| beginning(to).to_owned() + more;
        endings.push(("quota", begun(&gateway_ending(to, true))));
        endings.push(("error", begun(&gateway_ending(to, false))));
        endings.push(("broken", begun("")));
        for (ending, upstream) in endings {
            let stream = stream(reply_translation(from, to), &upstream, usize::MAX);
            check(&file(from, to, ending, "sse"), &stream);
        }
    }
}

/// Endings that the gateway writes in the surface of the upstream, for callers of that surface.
#[test]
fn the_gateway_ends_streams_of_every_surface() {
    for surface in [Surface::ChatCompletions, Surface::Responses, Surface::Messages] {
        for (ending, is_cut) in [("quota", true), ("error", false)] {
            let stream = gateway_ending(surface, is_cut);
            check(&file(surface, surface, ending, "sse"), &stream);
        }
    }
}
