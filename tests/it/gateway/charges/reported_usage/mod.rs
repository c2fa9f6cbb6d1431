//! Usage as upstreams write it, well or badly: what was reported is charged, and what was delivered
//! is never free.

mod chat_cases;
mod other_cases;

use crate::support::http_client::Call;
use crate::support::scripted_upstream::{ScriptedUpstream, events, json, stream};
use crate::support::{Gateway, Key, gateway};
use chat_cases::{streamed_chats, whole_chats};
use domain::charge::{Charge, Source, Status};
use other_cases::{messages, others, responses};
use std::collections::HashMap;

/// A reply of an upstream, and what the call costs: tokens of prompt and of output, where known, and
/// who counted.
#[derive(Clone)]
struct Case {
    name: &'static str,
    path: &'static str,
    reply: Vec<u8>,
    prompt: Option<u64>,
    output: Option<u64>,
    source: Source,
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// 500 words, which are at least as many tokens.
fn words() -> String {
    vec!["word"; 500].join(" ")
}

fn case(name: &'static str, path: &'static str, reply: Vec<u8>) -> Case {
    Case { name, path, reply, prompt: Some(700), output: Some(300), source: Source::Reported }
}

/// The upstream told nothing, or nothing that can be true, of these.
fn counted(case: Case, prompt: Option<u64>, output: Option<u64>) -> Case {
    Case { prompt, output, source: Source::Estimated, ..case }
}

fn whole(message: &str, usage: &str) -> Vec<u8> {
    json(
        200,
        &format!(
            r#"{{"id":"x","object":"chat.completion","choices":[{{"index":0,"message":{message},"finish_reason":"stop"}}],"usage":{usage}}}"#
        ),
    )
}

fn chat_stream(delta: &str, last: &str) -> Vec<u8> {
    let text = format!(r#"{{"id":"x","choices":[{{"index":0,"delta":{delta}}}]}}"#);
    let stop = r#"{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    events(&[&text, stop, last, "[DONE]"])
}

const USAGE: &str = r#"{"prompt_tokens":700,"completion_tokens":300,"total_tokens":1000}"#;
const HI: &str = r#"{"role":"assistant","content":"hi"}"#;

async fn call(gw: &Gateway, key: &Key, path: &str, name: &str, is_stream: bool) -> Charge {
    let stream = if is_stream { r#","stream":true"# } else { "" };
    let read = match path {
        CHAT => r#""messages":[{"role":"user","content":"a prompt of some words"}]"#,
        MESSAGES => {
            r#""max_tokens":5000,"messages":[{"role":"user","content":"a prompt of some words"}]"#
        }
        RESPONSES | "/v1/embeddings" => r#""input":"a prompt of some words""#,
        _ => r#""prompt":"a prompt of some words""#,
    };
    let body = format!(r#"{{"model":"grok-4.3",{read},"user":"{name}"{stream}}}"#);
    let reply = Call::post(gw.addr(), path).key(&key.text).body(body).send().await;
    assert_eq!(reply.status, 200, "{name}: {}", reply.text());
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert_eq!(charge.status, Status::Complete, "{name}: {}", reply.text());
    charge
}

#[tokio::test(flavor = "multi_thread")]
async fn reported_usage_is_charged_however_it_is_written() {
    let cases: Vec<Case> =
        [whole_chats(), streamed_chats(), responses(), messages(), others()].concat();
    let replies: HashMap<&str, Vec<u8>> =
        cases.iter().map(|case| (case.name, case.reply.clone())).collect();
    assert_eq!(replies.len(), cases.len());
    let upstream = ScriptedUpstream::start(move |asked| {
        let name = asked.body.split("\"user\":\"").nth(1).and_then(|rest| rest.split('"').next());
        replies[name.unwrap()].clone()
    });
    let upstream = upstream.await;
    let gw = gateway().upstreams(&upstream.table("scripted", "k", "")).start().await;
    let key = gw.key("wide").await;
    let mut wrong = Vec::new();
    for case in &cases {
        let is_stream = case.reply.windows(12).any(|bytes| bytes == b"event-stream");
        let charge = call(&gw, &key, case.path, case.name, is_stream).await;
        let tokens = &charge.tokens;
        let output = tokens.completion + tokens.reasoning;
        let is_right = case.prompt.is_none_or(|prompt| prompt == tokens.prompt)
            && tokens.prompt > 0
            && case.output.is_none_or(|expected| expected == output)
            && charge.source == case.source;
        if !is_right {
            wrong.push(format!("{}: {tokens:?} {:?}", case.name, charge.source));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_and_written_tokens_have_their_prices() {
    let chat = |cached: u64, written: u64| {
        whole(
            "{}",
            &format!(
                r#"{{"prompt_tokens":1000,"completion_tokens":0,"total_tokens":1000,"prompt_tokens_details":{{"cached_tokens":{cached},"cache_write_tokens":{written}}}}}"#
            ),
        )
    };
    let messages = r#"{"content":[],"usage":{"input_tokens":100,"cache_read_input_tokens":500,"cache_creation_input_tokens":400,"output_tokens":0}}"#;
    let cost = |ticks: &str| {
        whole(
            "{}",
            &format!(
                r#"{{"prompt_tokens":1000,"completion_tokens":0,"cost_in_usd_ticks":{ticks}}}"#
            ),
        )
    };
    // Dollars a million are micro-dollars a token: 10 as input, 1 cached, 100 written.
    let cases = [
        ("cached", CHAT, chat(500, 0), 500 * 10 + 500),
        ("written", CHAT, chat(500, 400), 100 * 10 + 500 + 400 * 100),
        ("more cached than prompt", CHAT, chat(5_000, 0), 1000 * 10),
        ("more written than prompt", CHAT, chat(500, 5_000), 500 + 500 * 100),
        ("Anthropic", MESSAGES, json(200, messages), 100 * 10 + 500 + 400 * 100),
        ("cost below zero", CHAT, cost("-5"), 1000 * 10),
        ("cost beyond reason", CHAT, cost("900000000000000"), 1000 * 10),
        ("cost with tools", CHAT, cost("150000000"), 15_000),
    ];
    let replies: HashMap<&str, Vec<u8>> =
        cases.iter().map(|case| (case.0, case.2.clone())).collect();
    let upstream = ScriptedUpstream::start(move |asked| {
        let name = asked.body.split("\"user\":\"").nth(1).and_then(|rest| rest.split('"').next());
        replies[name.unwrap()].clone()
    });
    let upstream = upstream.await;
    let model = "[[models]]\nid = \"priced\"\nupstreams = [{ name = \"scripted\" }]\ncontext_tokens = 9000\n\
                 prices = { input = 10, cached_input = 1, cache_write = 100, output = 1 }\n";
    let gw = gateway().upstreams(&upstream.table("scripted", "k", "")).models(model).start().await;
    let key = gw.key("wide").await;
    for (name, path, _, micro_dollars) in cases {
        let body = format!(
            r#"{{"model":"priced","max_tokens":9,"messages":[{{"role":"user","content":"a"}}],"user":"{name}"}}"#
        );
        let reply = Call::post(gw.addr(), path).key(&key.text).body(body).send().await;
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!(charge.cost_micro_dollars, micro_dollars, "{name}: {:?}", charge.tokens);
        assert!(
            charge.tokens.cached <= charge.tokens.prompt && charge.tokens.total() == 1000,
            "{name}"
        );
    }
    gw.finish().await;
}
