//! Upstreams that account wrongly, refuse for the operator's sake, or misbehave below HTTP.

use super::{RawReply, STREAM, chat, chat_body, entry, send, start};
use crate::settings::Settings;
use serde_json::Value;
use tokio::io::AsyncReadExt;

const REASONING: &str = "grok-4.20-0309-reasoning";

#[tokio::test]
async fn usage_can_be_wrong_and_the_truth_is_not() {
    let running = start(Settings::default()).await;
    for members in ["", STREAM] {
        let reply = chat(&running, "[sim fault=zero-usage]", members).await.text();
        assert!(reply.contains(r#""completion_tokens":0,"total_tokens":0"#), "{reply}");
        assert_eq!(entry(&running).await.completion, 24);
    }
    let over = chat(&running, "[sim fault=cached-over]", "").await.json();
    let usage = &over["usage"];
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
    assert_eq!(cached, usage["prompt_tokens"].as_u64().map(|prompt| prompt + 1000));
    let body = chat_body(&format!("[sim cache-writes=30]{}", " word".repeat(80)), "");
    let usage = &send(&running, "POST", "/v1/messages", "", &body).await.json()["usage"];
    assert_eq!(usage["cache_creation_input_tokens"], 30);
    let sum = usage["input_tokens"].as_u64().map(|input| input + 30);
    assert_eq!(sum, Some(entry(&running).await.prompt));
}

#[tokio::test]
async fn keys_stand_twice_and_indexes_are_odd() {
    let running = start(Settings::default()).await;
    for members in ["", STREAM] {
        let reply = chat(&running, "[sim fault=duplicate-keys]", members).await.text();
        assert!(reply.contains(r#""role":"assistant","role":"assistant""#), "{reply}");
        let reply = chat(&running, "[sim fault=odd-index]", members).await.text();
        assert!(reply.contains(r#""index":-1"#), "{reply}");
    }
}

#[tokio::test]
async fn an_error_can_come_first_on_every_surface() {
    let running = start(Settings::default()).await;
    let first =
        |reply: RawReply| reply.text().lines().find_map(|l| l.strip_prefix("data: ").map(json));
    let chat_said = chat(&running, "[sim fault=error-first]", STREAM).await;
    assert!(chat_said.head.starts_with("HTTP/1.1 200 "));
    let error = first(chat_said).expect("an event");
    assert_eq!(error["error"]["code"], "invalid_arguments");
    assert_eq!(error["error"]["param"], "messages[0].content");
    let body = r#"{"model":"grok-4.3","stream":true,"input":"[sim fault=error-first]"}"#;
    let error = first(send(&running, "POST", "/v1/responses", "", body).await).expect("an event");
    assert_eq!((&error["type"], &error["code"]), (&"error".into(), &"invalid_arguments".into()));
    let body = chat_body("[sim fault=error-first]", r#","stream":true"#);
    let error = first(send(&running, "POST", "/v1/messages", "", &body).await).expect("an event");
    assert_eq!(error["error"]["type"], "invalid_request_error");
    let whole = chat(&running, "[sim fault=error-first]", "").await;
    assert!(whole.head.starts_with("HTTP/1.1 400 "), "{}", whole.head);
    assert!(running.log.entries().is_empty(), "nothing is billed");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("json")
}

#[tokio::test]
async fn an_operators_trouble_has_the_shape_of_its_upstream() {
    let running = start(Settings::default()).await;
    for (fault, status, word) in [
        ("credit-balance", 400, "credit balance is too low"),
        ("arrearage", 400, "Arrearage"),
        ("billing-limit", 400, "billing_hard_limit_reached"),
        ("spending-limit", 403, "spending limit"),
        ("no-balance", 402, "Insufficient Balance"),
        ("no-quota", 429, "insufficient_quota"),
        ("key-not-valid", 400, "API key not valid"),
        ("prompt-too-long", 400, "maximum prompt length is 131072"),
        ("forbidden-prompt", 403, "violates usage guidelines"),
        ("content-policy", 400, "\"content_policy_violation\""),
        ("leaky-error", 400, "the key xai-1 of operator@example.com"),
    ] {
        let reply = chat(&running, &format!("[sim fault={fault}]"), "").await;
        assert!(reply.head.starts_with(&format!("HTTP/1.1 {status} ")), "{fault}: {}", reply.head);
        assert!(reply.text().contains(word), "{fault}: {}", reply.text());
    }
    let leaky = chat(&running, "[sim fault=leaky-headers]", "").await;
    assert!(leaky.head.contains("openai-organization: ") && leaky.json()["usage"].is_object());
}

#[tokio::test]
async fn interim_replies_and_trailers_surround_a_reply() {
    let running = start(Settings::default()).await;
    for members in ["", STREAM] {
        let reply = chat(&running, "[sim fault=interim=1000]", members).await;
        let whole = reply.head.clone() + &reply.text();
        assert_eq!(whole.matches("HTTP/1.1 103 ").count(), 1000);
        assert_eq!(whole.matches("HTTP/1.1 200 ").count(), 1);
    }
    let body = chat_body("[sim fault=trailers=5000]", STREAM);
    let mut stream = super::open(&running, "POST", "/v1/chat/completions", "", &body).await;
    let mut bytes = String::new();
    stream.read_to_string(&mut bytes).await.expect("read");
    assert_eq!(bytes.matches("x-trailer: one more\r\n").count(), 5000);
    assert!(bytes.ends_with("x-trailer: one more\r\n\r\n"));
    assert!(bytes.contains("[DONE]"));
}

#[tokio::test]
async fn gzip_comes_unrequested() {
    let running = start(Settings::default()).await;
    for members in ["", STREAM] {
        let reply = chat(&running, "[sim fault=gzip]", members).await;
        assert!(reply.whole && reply.head.contains("content-encoding: gzip"), "{}", reply.head);
        assert_eq!(&reply.body[..3], [0x1f, 0x8b, 8]);
        let file = tempfile::NamedTempFile::with_suffix(".gz").expect("a file");
        std::fs::write(file.path(), &reply.body).expect("written");
        let unpacked = std::process::Command::new("gzip").arg("-dc").arg(file.path()).output();
        let unpacked = unpacked.expect("gzip is there");
        assert!(unpacked.status.success(), "a sound file");
        let text = String::from_utf8(unpacked.stdout).expect("text");
        assert!(text.contains("completion_tokens"), "{text}");
    }
}

#[tokio::test]
async fn ids_collide_on_request() {
    let running = start(Settings::default()).await;
    let body =
        |text: &str| format!(r#"{{"model":"grok-4.3","input":"{text} [sim fault=short-id=7]"}}"#);
    let first = send(&running, "POST", "/v1/responses", "", &body("one")).await.json();
    let second = send(&running, "POST", "/v1/responses", "", &body("two, longer")).await.json();
    assert_eq!((&first["id"], &second["id"]), (&"000007".into(), &"000007".into()));
    assert_eq!(send(&running, "GET", "/v1/responses/000007", "", "").await.json(), second);
}

#[tokio::test]
async fn what_an_upstream_does_not_take_is_refused() {
    let running = start(Settings::default()).await;
    let refused = chat(&running, "[sim fault=no-stream-options]", STREAM).await;
    assert!(refused.head.starts_with("HTTP/1.1 400 ") && refused.text().contains("stream_options"));
    let taken = chat(&running, "[sim fault=no-stream-options]", r#","stream":true"#).await;
    assert!(taken.head.starts_with("HTTP/1.1 200 "), "{}", taken.head);

    let other = start(Settings { seed: 1, ..Settings::default() }).await;
    let include = r#""include":["reasoning.encrypted_content"],"store":false"#;
    let body = format!(r#"{{"model":"{REASONING}","input":"hello",{include},"stream":true}}"#);
    let events = send(&running, "POST", "/v1/responses", "", &body).await.text();
    let done = events.lines().filter_map(|line| line.strip_prefix("data: ")).map(json);
    let done: Vec<_> = done.filter(|event| event["type"] == "response.output_item.done").collect();
    assert_eq!((&done[0]["output_index"], &done[1]["output_index"]), (&0.into(), &1.into()));
    let sealed = &done[0]["item"];
    assert_eq!(sealed["type"], "reasoning");
    let next = format!(
        r#"{{"model":"{REASONING}","input":[{sealed},{{"role":"user","content":"go on [sim fault=sealed]"}}]}}"#
    );
    let own = send(&running, "POST", "/v1/responses", "", &next).await;
    assert!(own.head.starts_with("HTTP/1.1 200 "), "{}", own.head);
    let foreign = send(&other, "POST", "/v1/responses", "", &next).await;
    assert!(foreign.head.starts_with("HTTP/1.1 400 "), "{}", foreign.head);
    assert_eq!(foreign.json()["error"]["code"], "invalid_encrypted_content");
}
