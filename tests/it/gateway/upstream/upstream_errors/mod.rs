//! What upstreams say when they say no: whose trouble it is, who is asked next, what the caller reads
//! and pays.

mod attribution;
mod error_events;
mod redaction;
mod capabilities;

use crate::support::http_client::{Call, Reply};
use crate::support::scripted_upstream::{ScriptedUpstream, events, json, with_headers};
use crate::support::{Gateway, Key, gateway, soon};
use domain::charge::{Source, Status};
use serde_json::{Value, json};
use std::collections::HashMap;

const OPERATORS_KEY: &str = "xai-Op3rat0rK3yThatNobodyReads";

/// Status and body by which an upstream says something.
type Said = (u16, &'static str);

const SURFACES: [&str; 4] =
    ["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/messages"];
const SOUND: &str = r#"{"id":"x","choices":[{"index":0,"message":{"content":"hi"},"text":"hi","finish_reason":"stop"}],"output":[],"content":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

/// The value of `user` in a body: by it the upstreams know what to answer.
fn user(body: &str) -> &str {
    body.split("\"user\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap()
}

fn body(path: &str, user: &str, members: &str) -> String {
    let read = match path {
        "/v1/responses" | "/v1/embeddings" => r#""input":"a prompt""#,
        "/v1/completions" | "/v1/images/generations" => r#""prompt":"a prompt""#,
        _ => r#""max_tokens":50,"messages":[{"role":"user","content":"a prompt"}]"#,
    };
    format!(r#"{{"model":"grok-4.3",{read},"user":"{user}"{members}}}"#)
}

async fn ask(gw: &Gateway, key: &Key, path: &str, user: &str, members: &str) -> Reply {
    Call::post(gw.addr(), path).key(&key.text).body(body(path, user, members)).send().await
}

/// An upstream that answers by the name of the user, and a sound one.
async fn pair(replies: HashMap<String, Vec<u8>>) -> (ScriptedUpstream, ScriptedUpstream) {
    let troubled = ScriptedUpstream::start(move |asked| replies[user(&asked.body)].clone()).await;
    let sound = ScriptedUpstream::start(|asked| match asked.body.contains(r#""stream":true"#) {
        false => json(200, SOUND),
        true => {
            let chunk = SOUND.replace("\"message\"", "\"delta\"");
            let begin = r#"{"type":"message_start","message":{"usage":{"input_tokens":7}}}"#;
            let end = r#"{"type":"message_delta","usage":{"output_tokens":3}}"#;
            let done = format!(r#"{{"type":"response.completed","response":{SOUND}}}"#);
            let parts: &[&str] = match &*asked.path {
                "/v1/messages" => &[begin, end, r#"{"type":"message_stop"}"#],
                "/v1/responses" => &[&done],
                _ => &[&chunk, "[DONE]"],
            };
            events(parts)
        }
    });
    (troubled, sound.await)
}

/// What an upstream says, by surface and form: as a status, as a whole reply of 200, as a stream's
/// first event.
fn forms((status, text): Said) -> Vec<(&'static str, bool, Vec<u8>)> {
    let mut forms = vec![
        ("status", false, json(status, text)),
        ("status of a stream", true, json(status, text)),
    ];
    if text.starts_with('{') && text.contains("\"error\":") {
        let code = format!(r#""error":{{"status":{status},"#);
        let text = text.replacen(r#""error":{"#, &code, 1);
        forms.push(("200", false, json(200, &text)));
        forms.push(("200 for a stream", true, json(200, &text)));
    }
    forms
}

/// The error of a surface as an event of its streams, with what it says.
fn error_event(path: &str, message: &str, code: &str) -> String {
    match path {
        "/v1/responses" => json!({"type": "error", "code": code, "message": message, "param": "x.y"}),
        "/v1/messages" => json!({"type": "error", "error": {"type": code, "message": message}}),
        _ => json!({"error": {"message": message, "type": "invalid_request_error", "code": code, "param": "x.y"}}),
    }
    .to_string()
}

/// An event of a surface that says a word.
fn word_event(path: &str) -> &'static str {
    match path {
        "/v1/responses" => {
            r#"{"type":"response.output_text.delta","output_index":0,"delta":"word"}"#
        }
        "/v1/messages" => {
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"word"}}"#
        }
        "/v1/completions" => r#"{"choices":[{"index":0,"text":"word"}]}"#,
        _ => r#"{"choices":[{"index":0,"delta":{"content":"word"}}]}"#,
    }
}

/// Message, code and param of a stream's last event.
fn last_error(reply: &Reply) -> (String, Value, Value) {
    let last: Value = serde_json::from_str(&reply.events().pop().unwrap()).unwrap();
    let error = if last["error"].is_object() { &last["error"] } else { &last };
    (error["message"].as_str().unwrap().to_owned(), error["code"].clone(), error["param"].clone())
}
