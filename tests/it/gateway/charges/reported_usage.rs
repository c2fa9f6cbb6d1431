//! Usage as upstreams write it, well or badly: what was reported is charged, and what was delivered
//! is never free.

use crate::support::http_client::Call;
use crate::support::scripted_upstream::{ScriptedUpstream, events, json, stream};
use crate::support::{Gateway, Key, gateway};
use domain::charge::{Charge, Source, Status};
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

fn whole_chats() -> Vec<Case> {
    let long = format!(r#"{{"role":"assistant","content":"{}"}}"#, words());
    let call = format!(
        r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{}"}}}}]}}"#,
        words()
    );
    let thought =
        format!(r#"{{"role":"assistant","content":"","reasoning_content":"{}"}}"#, words());
    let none = r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#;
    vec![
        case(
            "one key twice in the message",
            CHAT,
            whole(r#"{"role":"a","role":"assistant","content":"hi"}"#, USAGE),
        ),
        case("content twice", CHAT, whole(r#"{"content":"hi","content":"hi"}"#, USAGE)),
        case("usage twice, the last null", CHAT, whole(HI, &format!(r#"{USAGE},"usage":null"#))),
        case("usage twice, the last zero", CHAT, whole(HI, &format!(r#"{USAGE},"usage":{none}"#))),
        case(
            "a key twice in usage",
            CHAT,
            whole(HI, r#"{"prompt_tokens":0,"prompt_tokens":700,"completion_tokens":300}"#),
        ),
        case(
            "details twice",
            CHAT,
            whole(
                HI,
                &USAGE.replace(
                    '}',
                    r#","completion_tokens_details":{"reasoning_tokens":1,"reasoning_tokens":2}}"#,
                ),
            ),
        ),
        case(
            "numbers as strings",
            CHAT,
            whole(HI, r#"{"prompt_tokens":"700","completion_tokens":"300"}"#),
        ),
        case(
            "numbers as floats",
            CHAT,
            whole(HI, r#"{"prompt_tokens":700.0,"completion_tokens":3e2}"#),
        ),
        case(
            "usage first",
            CHAT,
            json(200, &format!(r#"{{"usage":{USAGE},"choices":[{{"index":0,"message":{HI}}}]}}"#)),
        ),
        case(
            "index below zero",
            CHAT,
            json(200, &format!(r#"{{"choices":[{{"index":-1,"message":{HI}}}],"usage":{USAGE}}}"#)),
        ),
        case(
            "index as text",
            CHAT,
            json(
                200,
                &format!(r#"{{"choices":[{{"index":"0","message":{HI}}}],"usage":{USAGE}}}"#),
            ),
        ),
        case(
            "no list of choices",
            CHAT,
            json(200, &format!(r#"{{"choices":{{"message":{HI}}},"usage":{USAGE}}}"#)),
        ),
        case("choices null", CHAT, json(200, &format!(r#"{{"choices":null,"usage":{USAGE}}}"#))),
        case(
            "message as text",
            CHAT,
            json(200, &format!(r#"{{"choices":[{{"message":"hi"}}],"usage":{USAGE}}}"#)),
        ),
        case(
            "byte order mark",
            CHAT,
            json(200, &format!("\u{feff} \n{{\"choices\":[],\"usage\":{USAGE}}}")),
        ),
        case(
            "Groq's place",
            CHAT,
            json(
                200,
                &format!(r#"{{"choices":[{{"message":{HI}}}],"x_groq":{{"usage":{USAGE}}}}}"#),
            ),
        ),
        case(
            "in the choice",
            CHAT,
            json(200, &format!(r#"{{"choices":[{{"message":{HI},"usage":{USAGE}}}]}}"#)),
        ),
        case(
            "Gemini's names",
            CHAT,
            json(
                200,
                &format!(
                    r#"{{"choices":[{{"message":{HI}}}],"usageMetadata":{{"promptTokenCount":700,"candidatesTokenCount":100,"thoughtsTokenCount":200,"totalTokenCount":1000}}}}"#
                ),
            ),
        ),
        case(
            "deep",
            CHAT,
            json(
                200,
                &format!(
                    r#"{{"choices":[{{"message":{HI}}}],"x":{}{},"usage":{USAGE}}}"#,
                    "[".repeat(500),
                    "]".repeat(500)
                ),
            ),
        ),
        case(
            "a negative detail",
            CHAT,
            whole(
                HI,
                &USAGE.replace('}', r#","completion_tokens_details":{"reasoning_tokens":-5}}"#),
            ),
        ),
        counted(
            case("total alone", CHAT, whole(HI, r#"{"total_tokens":1000}"#)),
            Some(999),
            Some(1),
        ),
        counted(case("zero", CHAT, whole(&long, none)), None, Some(500)),
        counted(case("zero for a tool call", CHAT, whole(&call, none)), None, Some(501)),
        counted(case("zero for reasoning", CHAT, whole(&thought, none)), None, Some(500)),
        counted(
            case(
                "no completion",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":0}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "no completion, and a total without it",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":0,"total_tokens":700}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case("no prompt", CHAT, whole(HI, r#"{"prompt_tokens":0,"completion_tokens":300}"#)),
            None,
            Some(300),
        ),
        counted(
            case(
                "one token for 500 words",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":1}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "below zero",
                CHAT,
                whole(&long, r#"{"prompt_tokens":700,"completion_tokens":-300}"#),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case("absurd", CHAT, whole(&long, r#"{"prompt_tokens":700,"completion_tokens":1e30}"#)),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "too large to count",
                CHAT,
                whole(
                    &long,
                    r#"{"prompt_tokens":700,"completion_tokens":18446744073709551615,"total_tokens":18446744073709551615}"#,
                ),
            ),
            Some(700),
            Some(500),
        ),
    ]
}

fn streamed_chats() -> Vec<Case> {
    let long = format!(r#"{{"content":"{}"}}"#, words());
    let last = format!(r#"{{"id":"x","choices":[],"usage":{USAGE}}}"#);
    let none = r#"{"id":"x","choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    let early = format!(r#"{{"id":"x","choices":[{{"index":0,"delta":{long}}}],"usage":{USAGE}}}"#);
    let stop = r#"{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let unended = format!("data: {stop}\n\ndata: {last}");
    let late = format!("data: {stop}\n\ndata: [DONE]\n\ndata: {last}\n\n");
    let spoiled = format!(
        r#"data: {{"choices":[{{"index":0,"delta":{{"content":"@"}},"finish_reason":"stop"}}],"usage":{USAGE}}}"#
    );
    let mut spoiled = format!("{spoiled}\n\ndata: [DONE]\n\n").into_bytes();
    let at = spoiled.iter().position(|byte| *byte == b'@').unwrap();
    spoiled[at] = 0xff;
    vec![
        case(
            "stream: one key twice",
            CHAT,
            chat_stream(r#"{"role":"a","role":"b","content":"hi"}"#, &last),
        ),
        case(
            "stream: a key twice beside usage",
            CHAT,
            chat_stream(HI, &format!(r#"{{"id":"x","id":"x","choices":[],"usage":{USAGE}}}"#)),
        ),
        case(
            "stream: an odd index beside usage",
            CHAT,
            chat_stream(
                HI,
                &format!(r#"{{"choices":[{{"index":-1,"delta":{{}}}}],"usage":{USAGE}}}"#),
            ),
        ),
        case("stream: zero at the end", CHAT, events(&[&early, stop, none, "[DONE]"])),
        case(
            "stream: null at the end",
            CHAT,
            events(&[&early, stop, r#"{"choices":[],"usage":null}"#, "[DONE]"]),
        ),
        case(
            "stream: Groq's place",
            CHAT,
            chat_stream(
                HI,
                &format!(
                    r#"{{"choices":[{{"index":0,"delta":{{}}}}],"x_groq":{{"usage":{USAGE}}}}}"#
                ),
            ),
        ),
        case(
            "stream: in the choice",
            CHAT,
            chat_stream(
                HI,
                &format!(r#"{{"choices":[{{"index":0,"delta":{{}},"usage":{USAGE}}}]}}"#),
            ),
        ),
        case(
            "stream: byte order mark",
            CHAT,
            stream(format!("\u{feff}data: {stop}\n\ndata: {last}\n\ndata: [DONE]\n\n").as_bytes()),
        ),
        case("stream: the last event has no end", CHAT, stream(unended.as_bytes())),
        case("stream: after the end marker", CHAT, stream(late.as_bytes())),
        case("stream: beside bytes that are no UTF-8", CHAT, stream(&spoiled)),
        counted(case("stream: zero", CHAT, chat_stream(&long, none)), None, Some(500)),
        counted(
            case(
                "stream: total alone",
                CHAT,
                chat_stream(
                    r#"{"content":"hi"}"#,
                    r#"{"choices":[],"usage":{"total_tokens":1000}}"#,
                ),
            ),
            Some(999),
            Some(1),
        ),
        counted(
            case(
                "stream: before the text",
                CHAT,
                events(&[
                    r#"{"choices":[],"usage":{"prompt_tokens":700,"completion_tokens":1}}"#,
                    &early.replace(USAGE, "null"),
                    stop,
                    "[DONE]",
                ]),
            ),
            Some(700),
            Some(500),
        ),
    ]
}

fn responses() -> Vec<Case> {
    let usage = r#"{"input_tokens":700,"output_tokens":300,"total_tokens":1000}"#;
    let item = |text: &str| {
        format!(
            r#"{{"type":"message","type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}"#
        )
    };
    let whole = |text: &str, usage: &str| {
        json(
            200,
            &format!(
                r#"{{"id":"r","status":"x","status":"completed","output":[{}],"usage":{usage}}}"#,
                item(text)
            ),
        )
    };
    let streamed = |text: &str, usage: &str| {
        let delta = format!(
            r#"{{"type":"response.output_text.delta","type":"response.output_text.delta","output_index":0,"delta":"{text}"}}"#
        );
        let done = format!(
            r#"{{"type":"response.completed","type":"response.completed","response":{{"id":"r","id":"r","output":[],"usage":{usage}}}}}"#
        );
        events(&[
            r#"{"type":"response.created","response":{"id":"r","usage":null}}"#,
            &delta,
            &done,
        ])
    };
    let none = r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#;
    vec![
        case("responses: keys twice", RESPONSES, whole("hi", usage)),
        case("responses stream: keys twice", RESPONSES, streamed("hi", usage)),
        counted(case("responses: zero", RESPONSES, whole(&words(), none)), None, Some(500)),
        counted(
            case("responses stream: zero", RESPONSES, streamed(&words(), none)),
            None,
            Some(500),
        ),
    ]
}

fn messages() -> Vec<Case> {
    let usage = r#"{"input_tokens":600,"cache_read_input_tokens":60,"cache_creation_input_tokens":40,"output_tokens":300}"#;
    let whole = |text: &str, usage: &str| {
        json(
            200,
            &format!(
                r#"{{"type":"m","type":"message","content":[{{"type":"text","text":"{text}"}}],"usage":{usage}}}"#
            ),
        )
    };
    let streamed = |text: &str, begin: &str, end: &str| {
        let begin = format!(
            r#"{{"type":"message_start","message":{{"id":"m","id":"m","usage":{begin}}}}}"#
        );
        let delta = format!(
            r#"{{"type":"content_block_delta","index":0,"index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
        );
        let end = format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{end}}}"#
        );
        events(&[&begin, &delta, &end, r#"{"type":"message_stop"}"#])
    };
    vec![
        case("messages: keys twice", MESSAGES, whole("hi", usage)),
        case("messages: OpenAI's names", MESSAGES, whole("hi", USAGE)),
        case(
            "messages stream: keys twice",
            MESSAGES,
            streamed("hi", usage, r#"{"output_tokens":300}"#),
        ),
        case(
            "messages stream: no input at the end",
            MESSAGES,
            streamed("hi", usage, r#"{"input_tokens":0,"output_tokens":300}"#),
        ),
        counted(
            case(
                "messages stream: no usage at the end",
                MESSAGES,
                streamed(&words(), usage, "null"),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "messages: zero",
                MESSAGES,
                whole(&words(), r#"{"input_tokens":0,"output_tokens":0}"#),
            ),
            None,
            Some(500),
        ),
    ]
}

fn others() -> Vec<Case> {
    let text =
        format!(r#"{{"choices":[{{"index":0,"index":0,"text":"{}"}}],"usage":{USAGE}}}"#, words());
    let embedding = r#"{"object":"list","object":"list","data":[],"usage":{"prompt_tokens":"700","total_tokens":700}}"#;
    let image = r#"{"data":[{"url":"u"}],"data":[{"url":"u"}],"usage":{"input_tokens":700,"output_tokens":300}}"#;
    vec![
        case("completions: keys twice", "/v1/completions", json(200, &text)),
        Case {
            output: Some(0),
            ..case("embeddings: keys twice", "/v1/embeddings", json(200, embedding))
        },
        case("images: keys twice", "/v1/images/generations", json(200, image)),
    ]
}

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
