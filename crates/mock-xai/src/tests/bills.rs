//! Bills of answers, however the answers end.

use super::{STREAM, chat, chat_body, entry, open, send, start};
use crate::RunningSimulator;
use crate::request_log::LogEntry;
use crate::settings::Settings;
use serde_json::Value;
use std::time::Duration;
use tokio::io::AsyncReadExt;

const REASONING: &str = "grok-4.20-0309-reasoning";

/// Sends a request, reads a little of the reply (or none), goes away, and returns what was recorded.
async fn leave(running: &RunningSimulator, path: &str, body: &str, bytes: usize) -> LogEntry {
    let before = running.log.totals().answers;
    let mut stream = open(running, "POST", path, "", body).await;
    stream.read_exact(&mut vec![0; bytes]).await.expect("the beginning");
    while running.log.totals().open == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    let recorded = async {
        while running.log.totals().answers == before {
            tokio::task::yield_now().await;
        }
        entry(running).await
    };
    tokio::time::timeout(Duration::from_secs(10), recorded).await.expect("noticed")
}

#[tokio::test]
async fn whole_answers_are_billed_as_their_usage() {
    let running = start(Settings::default()).await;
    for (path, body) in [
        ("/v1/chat/completions", chat_body("hello", STREAM)),
        ("/v1/messages", chat_body("hello", "")),
        ("/v1/responses", format!(r#"{{"model":"{REASONING}","input":"hello"}}"#)),
        ("/v1/embeddings", r#"{"model":"simulated-embedding","input":"hello"}"#.to_owned()),
        ("/v1/images/generations", r#"{"model":"grok-imagine-image","prompt":"a cat"}"#.to_owned()),
    ] {
        send(&running, "POST", path, "", &body).await;
        let entry = entry(&running).await;
        let sum = entry.prompt + entry.completion + entry.reasoning;
        assert_eq!(
            (entry.billed.tokens, entry.billed.cost_ticks),
            (sum, entry.cost_ticks),
            "{path}"
        );
        assert!(entry.finished && entry.cost_ticks > 0, "{path}");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_generated_at_its_pace() {
    let running = start(Settings::default()).await;
    // Nothing is read, so that most of it finds no room between the two.
    let body = chat_body("[sim tokens=60000 token-ms=1]", STREAM);
    let stream = open(&running, "POST", "/v1/chat/completions", "", &body).await;
    let began = system::clock::instant();
    while running.log.totals().open == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(stream);
    let entry = entry(&running).await;
    let passed = u64::try_from(began.elapsed().as_millis()).expect("a short time");
    assert!((250..=passed + 1).contains(&entry.produced), "{} in {passed} ms", entry.produced);
    assert_eq!((entry.billed.completion, entry.finished), (entry.produced, false));
    assert_eq!(entry.billed.tokens, entry.prompt + entry.produced);
}

#[tokio::test]
async fn all_hidden_reasoning_of_a_left_stream_is_billed() {
    let running = start(Settings::default()).await;
    let body = chat_body("[sim tokens=50 token-ms=20 reasoning=900]", STREAM);
    let entry =
        leave(&running, "/v1/chat/completions", &body.replace("grok-4.3", REASONING), 1).await;
    assert!(entry.produced < 50, "{entry:?}");
    assert_eq!(entry.billed.tokens, entry.prompt + 900 + entry.produced);
}

#[tokio::test]
async fn what_nobody_can_stop_is_billed_whole() {
    let running = start(Settings::default()).await;
    let body = chat_body("[sim tokens=100 token-ms=20]", "");
    let entry = leave(&running, "/v1/chat/completions", &body, 0).await;
    assert_eq!((entry.finished, entry.billed.completion), (false, 100), "a reply in one piece");

    let body = r#"{"model":"grok-4.3","input":"[sim tokens=30 token-ms=10]","stream":true}"#;
    let entry = leave(&running, "/v1/responses", body, 1).await;
    assert_eq!((entry.finished, entry.billed.completion), (false, 30), "a stored response");
    let path = format!("/v1/responses/{}", entry.sim_id);
    let mut response = send(&running, "GET", &path, "", "").await.json();
    assert_eq!((&response["status"], &response["usage"]), (&"in_progress".into(), &Value::Null));
    while response["status"] == "in_progress" {
        tokio::time::sleep(Duration::from_millis(10)).await;
        response = send(&running, "GET", &path, "", "").await.json();
    }
    assert_eq!(response["usage"]["output_tokens"], 30);

    let body = body.replace("true}", r#"true,"store":false}"#);
    let entry = leave(&running, "/v1/responses", &body, 1).await;
    assert!(entry.billed.completion < 30, "one that is not stored ends with its caller");
}

#[tokio::test]
async fn a_deferred_completion_is_billed_once_fetched_or_not() {
    let running = start(Settings::default()).await;
    let reply = chat(&running, "[sim tokens=7]", r#","deferred":true"#).await.json();
    let entry = entry(&running).await;
    assert_eq!((entry.deferred, entry.billed.tokens), (true, entry.prompt + 7));
    let path =
        format!("/v1/chat/deferred-completion/{}", reply["request_id"].as_str().expect("id"));
    let fetched = send(&running, "GET", &path, "", "").await.json();
    assert_eq!(fetched["usage"]["completion_tokens"], 7);
    assert_eq!((running.log.totals().answers, running.log.totals().open), (1, 0));
}

#[tokio::test]
async fn refusals_are_not_billed() {
    let running = start(Settings::default()).await;
    for fault in ["429", "500", "error-first", "error-200", "credit-balance", "empty", "garbage"] {
        chat(&running, &format!("[sim fault={fault}]"), "").await;
    }
    assert_eq!(running.log.totals().billed_tokens, 0);
}

#[tokio::test]
async fn what_a_response_goes_on_from_is_in_its_prompt() {
    let running = start(Settings::default()).await;
    let body = r#"{"model":"grok-4.3","input":"hello"}"#;
    let first = send(&running, "POST", "/v1/responses", "", body).await.json();
    let context = entry(&running).await.billed.tokens;
    let next =
        format!(r#"{{"model":"grok-4.3","input":"hello","previous_response_id":{}}}"#, first["id"]);
    let second = send(&running, "POST", "/v1/responses", "", &next).await.json();
    let alone = first["usage"]["input_tokens"].as_u64().expect("a number");
    assert_eq!(second["usage"]["input_tokens"].as_u64(), Some(alone + context));
}
