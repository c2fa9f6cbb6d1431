//! What an upstream says under unusual names is metered, and what is the operator's does not leave.

use crate::support::http_client::Call;
use crate::support::scripted_upstream::{ScriptedUpstream, events, json};
use crate::support::{Gateway, Key, body, gateway};
use domain::charge::Source;
use serde_json::json;

const KEY: &str = "xai-Op3rat0rK3yThatNobodyReads";

async fn chat(
    gw: &Gateway,
    key: &Key,
    text: &str,
    members: &str,
) -> crate::support::http_client::Reply {
    gw.chat(key, &body(text, members)).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn output_in_unknown_fields_is_charged_without_usage() {
    let words = "one two three four five six seven eight nine ten";
    let messages = [
        json!({ "audio": { "id": "a", "transcript": words, "data": "" } }),
        json!({ "reasoning_text": words }),
        json!({ "thinking_blocks": [{ "type": "thinking", "thinking": words }] }),
        json!({ "reasoning_details": [{ "type": "reasoning.text", "text": words }] }),
        json!({ "something_new": { "deep": [words] } }),
    ];
    let count = messages.len();
    let upstream = ScriptedUpstream::start(move |asked| {
        let at = (0..count).find(|at| asked.body.contains(&format!("number {at}"))).unwrap();
        let message = &messages[at];
        if asked.body.contains(r#""stream":true"#) {
            let chunk = json!({ "id": "c", "choices": [{ "index": 0, "delta": message }] });
            let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
            events(&[&chunk.to_string(), &end.to_string(), "[DONE]"])
        } else {
            let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
            json(200, &json!({ "id": "c", "choices": [choice] }).to_string())
        }
    });
    let upstream = upstream.await;
    let gw = gateway().upstreams(&upstream.table("a", KEY, "")).start().await;
    let key = gw.key("wide").await;
    for at in 0..count {
        for stream in ["", r#","stream":true"#] {
            let reply = chat(&gw, &key, &format!("number {at}"), stream).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let charge = gw.charge(reply.header("x-request-id")).await;
            assert_eq!((charge.source, charge.tokens.completion), (Source::Estimated, 10), "{at}");
        }
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_and_errors_within_answers_are_redacted() {
    let upstream = ScriptedUpstream::start(|asked| {
        let delta = json!({ "content": format!("my key is {KEY}") });
        let error = json!({ "message": "worker 10.0.0.7 of upstream-7.corp.internal is down" });
        let usage = json!({ "prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10 });
        let choice = |name: &str| json!({ "index": 0, (name): delta, "error": error, "finish_reason": "stop" });
        if asked.body.contains(r#""stream":true"#) {
            let chunk = json!({ "id": "c", "choices": [choice("delta")], "usage": usage });
            events(&[&chunk.to_string(), "[DONE]"])
        } else {
            let reply = json!({ "id": "c", "choices": [choice("message")], "usage": usage });
            json(200, &reply.to_string())
        }
    });
    let upstream = upstream.await;
    let gw = gateway().upstreams(&upstream.table("a", KEY, "")).start().await;
    let key = gw.key("wide").await;
    for stream in ["", r#","stream":true"#] {
        let reply = chat(&gw, &key, "hi", stream).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = reply.text();
        assert!(text.contains("my key is [key]") && text.contains("[address]"), "{text}");
        assert!(!text.contains(KEY) && !text.contains("corp.internal"), "{text}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_is_ignored() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let marked = format!("\u{feff}{}", body("hi", ""));
    let call = Call::post(gw.addr(), "/v1/chat/completions").key(&key.text).body(marked);
    let reply = call.send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let look_alike = gw.chat(&key, &body("hi", ",\"max_t\u{43e}kens\":9")).send().await;
    assert_eq!((look_alike.status, look_alike.code()), (400, "invalid_name".to_owned()));
    gw.finish().await;
}
