//! Calls on a surface that the model's upstream does not offer.

use crate::support::http_client::{Call, Reply};
use crate::support::scripted_upstream::{ScriptedUpstream, json as json_reply};
use crate::support::{Gateway, Key, Plan, WIDE, gateway, soon};
use domain::charge::{Source, Status};
use serde_json::{Value, json};

/// Every translation: the caller's path, and the surface that the upstream offers.
const PAIRS: [(&str, &str); 4] = [
    ("/v1/messages", "chat/completions"),
    ("/v1/messages", "responses"),
    ("/v1/responses", "chat/completions"),
    ("/v1/chat/completions", "responses"),
];

fn upstream(surface: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{{simulator}}/v1\"\n\
         api_key = \"sim-test-key\"\nsurfaces = [{surface:?}]\n"
    )
}

fn call_body(path: &str, text: &str, more: Value) -> String {
    let mut body = match path {
        "/v1/responses" => json!({"model": "grok-4.3", "input": text}),
        _ => json!({"model": "grok-4.3", "messages": [{"role": "user", "content": text}]}),
    };
    if path == "/v1/messages" {
        body["max_tokens"] = json!(400);
    }
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

async fn ask(gw: &Gateway, key: &Key, path: &str, body: String) -> Reply {
    Call::post(gw.addr(), path).key(&key.text).body(body).send().await
}

/// Input and output tokens that the caller of a whole reply is told.
fn told(path: &str, usage: &Value) -> (u64, u64) {
    let names = if path == "/v1/chat/completions" {
        ["prompt_tokens", "completion_tokens"]
    } else {
        ["input_tokens", "output_tokens"]
    };
    let number = |name: &str| usage[name].as_u64().unwrap_or_else(|| panic!("{path}: {usage}"));
    let cached = usage["cache_read_input_tokens"].as_u64().unwrap_or(0);
    (number(names[0]) + cached, number(names[1]))
}

fn text_of(path: &str, reply: &Value) -> String {
    let text = match path {
        "/v1/messages" => {
            let blocks = reply["content"].as_array().unwrap();
            blocks.iter().find(|block| block["type"] == "text").map(|block| &block["text"])
        }
        "/v1/responses" => {
            let items = reply["output"].as_array().unwrap();
            let message = items.iter().find(|item| item["type"] == "message");
            message.map(|item| &item["content"][0]["text"])
        }
        _ => Some(&reply["choices"][0]["message"]["content"]),
    };
    text.and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {reply}")).to_owned()
}

/// The data of each event.
fn events(reply: &Reply) -> Vec<Value> {
    let data = reply.events().into_iter();
    let data = data.filter(|data| data != "[DONE]");
    data.map(|data| serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_replies_are_translated_and_charged_what_the_upstream_billed() {
    for (path, offered) in PAIRS {
        let gw = gateway().upstreams(&upstream(offered)).start().await;
        let key = gw.key("wide").await;
        let reply = ask(&gw, &key, path, call_body(path, "Hello there!", json!({}))).await;
        assert_eq!(reply.status, 200, "{path} over {offered}: {}", reply.text());
        let name = |path: &str| path.trim_start_matches("/v1/").to_owned();
        assert_eq!(reply.header("x-kx-translated"), format!("{}->{offered}", name(path)));
        assert!(!text_of(path, &reply.json()).is_empty(), "{path} over {offered}");
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!((charge.status, charge.source), (Status::Complete, Source::Reported));
        let shown = told(path, &reply.json()["usage"]);
        assert_eq!(shown.0, charge.tokens.prompt, "{path} over {offered}");
        assert_eq!(shown.1, charge.tokens.completion + charge.tokens.reasoning);
        assert_eq!(gw.used(key.user).await, (charge.tokens.total(), 1));
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_translated_and_end_as_their_surface_ends() {
    for (path, offered) in PAIRS {
        for fault in ["", "split", "drip", "crlf", "comments"] {
            let gw = gateway().upstreams(&upstream(offered)).start().await;
            let key = gw.key("wide").await;
            let body = call_body(path, "Hello there!", json!({"stream": true}));
            let mut call = Call::post(gw.addr(), path).key(&key.text).body(body);
            if !fault.is_empty() {
                call = call.header("x-sim-fault", fault);
            }
            let reply = call.send().await;
            let what = format!("{path} over {offered}, {fault}: {}", reply.text());
            assert!(reply.status == 200 && reply.whole, "{what}");
            let events = events(&reply);
            let last = events.last().unwrap();
            match path {
                "/v1/messages" => assert_eq!(last["type"], "message_stop", "{what}"),
                "/v1/responses" => assert_eq!(last["type"], "response.completed", "{what}"),
                _ => assert!(reply.is_done() && !reply.text().contains("\"usage\""), "{what}"),
            }
            let charge = gw.charge(reply.header("x-request-id")).await;
            assert_eq!((charge.status, charge.source), (Status::Complete, Source::Reported));
            if path == "/v1/responses" {
                let shown = told(path, &last["response"]["usage"]);
                assert_eq!(shown.0, charge.tokens.prompt, "{what}");
                assert!(!text_of(path, &last["response"]).is_empty());
            }
            gw.finish().await;
        }
    }
}

/// Agents decide by it when to compact a conversation.
#[tokio::test(flavor = "multi_thread")]
async fn a_translated_reply_whose_upstream_reports_no_usage_has_what_is_charged() {
    for (path, offered, stream) in [
        ("/v1/messages", "chat/completions", true),
        ("/v1/messages", "chat/completions", false),
        ("/v1/messages", "responses", true),
        ("/v1/messages", "responses", false),
        ("/v1/responses", "chat/completions", true),
    ] {
        let gw = gateway().upstreams(&upstream(offered)).start().await;
        let key = gw.key("wide").await;
        let body = call_body(path, "count me", json!({"stream": stream}));
        let call = Call::post(gw.addr(), path).key(&key.text).body(body);
        let reply = call.header("x-sim-fault", "no-usage").send().await;
        let events = if stream { events(&reply) } else { vec![reply.json()] };
        let usage = events.iter().rev().find_map(|event| {
            let usage = [&event["usage"], &event["response"]["usage"]];
            usage.into_iter().find(|usage| usage.is_object()).cloned()
        });
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!(charge.source, Source::Estimated);
        let output = charge.tokens.completion + charge.tokens.reasoning;
        assert_eq!(told(path, &usage.unwrap()), (charge.tokens.prompt, output), "{offered}");
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_translated_stream_that_is_cut_ends_with_an_error_and_looks_cut() {
    for (path, offered) in PAIRS {
        let gw = gateway().upstreams(&upstream(offered)).start().await;
        let key = gw.key("wide").await;
        let body = call_body(path, "Hello there!", json!({"stream": true}));
        let call = Call::post(gw.addr(), path).key(&key.text).body(body);
        let reply = call.header("x-sim-fault", "cut=3").send().await;
        let what = format!("{path} over {offered}: {}", reply.text());
        assert!(reply.status == 200 && !reply.whole, "{what}");
        let last = events(&reply).pop().unwrap();
        let error = match path {
            "/v1/responses" if last["type"] == "response.failed" => &last["response"]["error"],
            "/v1/responses" => &last,
            _ => &last["error"],
        };
        let message = error["message"].as_str().unwrap_or_else(|| panic!("{what}"));
        assert!(message.contains("incomplete"), "{what}");
        soon("it is charged", || async { gw.used(key.user).await.1 == 1 }).await;
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_translated_stream_without_quota_ends_as_one_at_its_limit() {
    for (path, offered) in PAIRS {
        let small = Plan { id: "small", tokens: 400, ..WIDE };
        let gw = gateway().upstreams(&upstream(offered)).plan(small).start().await;
        let key = gw.key("small").await;
        let body = call_body(path, "Hello there!", json!({"stream": true}));
        let call = Call::post(gw.addr(), path).key(&key.text).body(body);
        let reply = call.header("x-sim-tokens", "2000").send().await;
        let what = format!("{path} over {offered}: {}", reply.text());
        assert_eq!(reply.status, 200, "{what}");
        let events = events(&reply);
        let reason = match path {
            "/v1/messages" => {
                let delta = events.iter().rfind(|event| event["type"] == "message_delta");
                delta.map(|event| event["delta"]["stop_reason"].clone())
            }
            "/v1/responses" => {
                let last = events.last().unwrap();
                Some(last["response"]["incomplete_details"]["reason"].clone())
            }
            _ => {
                let mut choices = events.iter().rev().map(|event| &event["choices"][0]);
                choices.find_map(|choice| choice.get("finish_reason")).cloned()
            }
        };
        let expected = match path {
            "/v1/messages" => "max_tokens",
            "/v1/responses" => "max_output_tokens",
            _ => "length",
        };
        assert_eq!(reason.unwrap(), expected, "{what}");
        assert!(gw.used(key.user).await.0 <= 400, "{what}");
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_translated_is_refused_and_costs_nothing() {
    let gw = gateway().upstreams(&upstream("chat/completions")).start().await;
    let key = gw.key("wide").await;
    let body = json!({"model": "grok-4.3", "input": "hi", "previous_response_id": "resp_1"});
    let reply = ask(&gw, &key, "/v1/responses", body.to_string()).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.json()["error"]["param"], "previous_response_id");
    let failed = Call::post(gw.addr(), "/v1/messages").key(&key.text);
    let failed = failed.body(call_body("/v1/messages", "hi", json!({})));
    let failed = failed.header("x-sim-fault", "429=5").send().await;
    assert_eq!(
        (failed.status, &failed.json()["type"]),
        (429, &json!("error")),
        "{}",
        failed.text()
    );
    assert_eq!(gw.used(key.user).await, (0, 0));
    gw.finish().await;

    let only = "[[models]]\nid = \"m\"\ntranslate = false\nupstreams = [{ name = \"simulator\" }]\n\
         context_tokens = 9000\nprices = { input = 3, cached_input = 1, output = 15 }\n";
    let gw = gateway().upstreams(&upstream("chat/completions")).models(only).start().await;
    let key = gw.key("wide").await;
    let body = json!({"model": "m", "input": "hi"}).to_string();
    let reply = ask(&gw, &key, "/v1/responses", body).await;
    assert_eq!((reply.status, reply.code().as_str()), (404, "model_not_found"));
    gw.finish().await;
}

/// Role and reasoning of the messages that an upstream with these settings receives.
async fn at_upstream(settings: &str, path: &str, body: &Value) -> Vec<(String, Option<String>)> {
    let completion = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    });
    let upstream = ScriptedUpstream::start(move |_| json_reply(200, &completion.to_string())).await;
    let table = format!(
        "[[upstreams]]\nname = \"local\"\nbase_url = \"http://{}/v1\"\napi_key = \"k\"\n\
         surfaces = [\"chat/completions\"]\n{settings}\n",
        upstream.addr
    );
    let gw = gateway().upstreams(&table).start().await;
    let key = gw.key("wide").await;
    let reply = ask(&gw, &key, path, body.to_string()).await;
    assert_eq!(reply.status, 200, "{settings}: {}", reply.text());
    gw.finish().await;
    let sent: Value = serde_json::from_str(&upstream.asked()[0].body).unwrap();
    let text = |message: &Value, name: &str| message[name].as_str().map(str::to_owned);
    let messages = sent["messages"].as_array().unwrap().iter();
    messages.map(|m| (text(m, "role").unwrap(), text(m, "reasoning_content"))).collect()
}

/// A conversation as Codex sends it after a compaction: instructions in its middle, and earlier reasoning.
fn with_instructions_inside() -> Value {
    json!({
        "model": "grok-4.3", "instructions": "You are Codex.", "store": false, "input": [
            {"type": "message", "role": "developer", "content": "Ask before writing."},
            {"type": "message", "role": "user", "content": "What is 6 times 7?"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "6 times 7."}], "encrypted_content": "x"},
            {"type": "message", "role": "assistant", "content": "42."},
            {"type": "message", "role": "developer", "content": "The sandbox is read-only now."},
            {"type": "message", "role": "user", "content": "And 6 times 8?"},
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn later_instructions_and_earlier_reasoning_are_sent_as_the_upstream_takes_them() {
    let body = with_instructions_inside();
    for (settings, later, reasoning) in [
        ("", "system", None),
        ("dialect = \"chat_only\"", "user", None),
        ("system_first_only = true\nreplays_reasoning = true", "user", Some("6 times 7.")),
        ("dialect = \"chat_only\"\nsystem_first_only = false", "system", None),
        ("dialect = \"chat_only\"\nreplays_reasoning = true", "user", Some("6 times 7.")),
    ] {
        let message =
            |role: &str, reasoning: Option<&str>| (role.to_owned(), reasoning.map(str::to_owned));
        let expected = [
            message("system", None),
            message("user", None),
            message("assistant", reasoning),
            message(later, None),
            message("user", None),
        ];
        assert_eq!(at_upstream(settings, "/v1/responses", &body).await, expected, "{settings}");
    }
    let turn = |role: &str| json!({"role": role, "content": "x"});
    let body = json!({"model": "grok-4.3", "max_tokens": 9, "system": "Be brief.",
        "messages": [turn("user"), turn("assistant"), turn("system"), turn("user")]});
    let messages = at_upstream("dialect = \"chat_only\"", "/v1/messages", &body).await;
    let roles: Vec<_> = messages.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_path_of_the_field() {
    let gw = gateway().upstreams(&upstream("chat/completions")).start().await;
    let key = gw.key("wide").await;
    let text = json!({"type": "text", "text": "hi"});
    let audio = json!({"type": "audio", "source": {}});
    let body = json!({"model": "grok-4.3", "max_tokens": 9, "messages": [
        {"role": "user", "content": "hi"}, {"role": "user", "content": [text, audio]},
    ]});
    let reply = ask(&gw, &key, "/v1/messages", body.to_string()).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["type"]),
        (400, &json!("invalid_request_error"))
    );
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("messages[1].content[1].type: The type 'audio'"), "{message}");
    gw.finish().await;
}
