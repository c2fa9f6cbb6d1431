//! Replies as xAI sends them: members, echoes, reasoning, calls, structured output and images.

use super::{chat_body, send, start};
use crate::RunningSimulator;
use crate::settings::Settings;
use base64::Engine;
use serde_json::{Value, json};

async fn post(running: &RunningSimulator, path: &str, body: &Value) -> Value {
    send(running, "POST", path, "", &body.to_string()).await.json()
}

async fn events(running: &RunningSimulator, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let text = send(running, "POST", path, "", &body.to_string()).await.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

#[tokio::test]
async fn a_response_repeats_its_request() {
    let running = start(Settings::default()).await;
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    let sent = json!({
        "instructions": "be kind", "tools": [tool], "tool_choice": "none", "temperature": 0.2,
        "metadata": {"a": "b"}, "store": false, "max_output_tokens": 9, "prompt_cache_key": "k",
        "parallel_tool_calls": false, "user": "ada",
    });
    let mut body = json!({"model": "grok-4.3", "input": "hello"});
    let plain = post(&running, "/v1/responses", &body).await;
    for (name, value) in sent.as_object().expect("members") {
        body[name] = value.clone();
    }
    let echoed = post(&running, "/v1/responses", &body).await;
    for (name, value) in sent.as_object().expect("members") {
        assert_eq!(&echoed[name], value, "{name}");
    }
    assert_eq!(echoed["top_p"], 0.949_999_988_079_071);
    for (name, value) in [
        ("service_tier", json!("default")),
        ("truncation", json!("disabled")),
        ("store", json!(true)),
        ("tools", json!([])),
        ("text", json!({"format": {"type": "text"}})),
        ("background", json!(false)),
        ("error", json!(null)),
    ] {
        assert_eq!(plain[name], value, "{name}");
    }
    assert!(plain["completed_at"].as_i64() >= plain["created_at"].as_i64());
    let id = plain["id"].as_str().expect("an id");
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
    assert_eq!(plain["output"][0]["id"], format!("msg_{id}"));
}

#[tokio::test]
async fn the_items_of_the_input_are_stored() {
    let running = start(Settings::default()).await;
    let input = json!([{"role": "user", "content": "one"}, {"id": "own", "role": "user", "content": "two"}]);
    let body = json!({"model": "grok-4.3", "input": input});
    let id = post(&running, "/v1/responses", &body).await["id"].as_str().expect("id").to_owned();
    let page = async |query: &str| {
        let path = format!("/v1/responses/{id}/input_items{query}");
        send(&running, "GET", &path, "", "").await.json()
    };
    let all = page("?order=asc").await;
    assert_eq!(all["data"][0]["content"], json!([{"type": "input_text", "text": "one"}]));
    assert_eq!((&all["data"][1]["id"], &all["has_more"]), (&json!("own"), &json!(false)));
    let newest = page("?limit=1").await;
    assert_eq!((&newest["first_id"], &newest["has_more"]), (&json!("own"), &json!(true)));
    assert_eq!(page("?after=own").await["data"], json!([all["data"][0]]));
}

#[tokio::test]
async fn reasoning_is_an_item_with_a_summary() {
    let running = start(Settings::default()).await;
    let body = json!({
        "model": "grok-4.3", "input": "hello [sim reasoning=5]", "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
    });
    let whole = post(&running, "/v1/responses", &body).await;
    let item = &whole["output"][0];
    assert_eq!((&item["type"], &item["status"]), (&json!("reasoning"), &json!("completed")));
    let summary = item["summary"][0]["text"].as_str().expect("a summary");
    assert!(item["encrypted_content"].is_string() && o200k::count(summary) == 5);
    assert_eq!(whole["reasoning"], json!({"effort": "low", "summary": "detailed"}));
    assert_eq!(whole["usage"]["output_tokens_details"]["reasoning_tokens"], 5);

    let events = events(&running, "/v1/responses", &body).await;
    let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let begin = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
    ];
    assert_eq!(kinds[..5], begin);
    let deltas = |kind: &str| {
        let own = events.iter().filter(|event| event["type"] == kind);
        own.filter_map(|event| event["delta"].as_str()).collect::<String>()
    };
    assert_eq!(deltas("response.reasoning_summary_text.delta"), summary);
    let text = whole["output"][1]["content"][0]["text"].as_str().expect("a text");
    assert_eq!(deltas("response.output_text.delta"), text);
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64()).collect();
    assert!(numbers.iter().enumerate().all(|(at, number)| *number == Some(at as u64)));
    let last = &events.last().expect("an end")["response"];
    assert_eq!(last["output"][0]["summary"], item["summary"]);
}

#[tokio::test]
async fn chat_and_messages_show_reasoning() {
    let running = start(Settings::default()).await;
    let mut body: Value =
        serde_json::from_str(&chat_body("hi [sim reasoning=4]", "")).expect("json");
    let whole = post(&running, "/v1/chat/completions", &body).await;
    assert_eq!(whole["service_tier"], "default");
    let shown = &whole["choices"][0]["message"]["reasoning_content"];
    assert_eq!(o200k::count(shown.as_str().expect("text")), 4);
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);
    body["thinking"] = json!({"type": "adaptive"});
    let whole = post(&running, "/v1/messages", &body).await;
    let events = events(&running, "/v1/messages", &body).await;
    let thought: String =
        events.iter().filter_map(|event| event["delta"]["thinking"].as_str()).collect();
    assert_eq!(whole["content"][0]["thinking"], thought.as_str());
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(whole["content"][1]["text"], text.as_str());
}

/// The function that a reply of any surface calls, with its arguments.
fn called(reply: &Value) -> Option<(String, Value)> {
    let chat = &reply["choices"][0]["message"]["tool_calls"][0]["function"];
    let items = [&reply["output"], &reply["content"]].into_iter().filter_map(Value::as_array);
    let item = items.flatten().find(|item| item.get("name").is_some());
    let call = chat.as_object().map_or(item, |_| Some(chat))?;
    let arguments =
        call["arguments"].as_str().map(|text| serde_json::from_str(text).expect("json"));
    Some((call["name"].as_str()?.to_owned(), arguments.unwrap_or_else(|| call["input"].clone())))
}

#[tokio::test]
async fn the_tool_choice_is_obeyed_on_every_surface() {
    let running = start(Settings::default()).await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]});
    let chat =
        |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
    let flat = |name: &str| json!({"type": "function", "name": name, "parameters": schema});
    let anthropic = |name: &str| json!({"name": name, "input_schema": schema});
    let tools = |tool: &dyn Fn(&str) -> Value| json!([tool("f"), tool("g")]);
    let surfaces = [
        (
            "/v1/chat/completions",
            tools(&chat),
            json!("required"),
            json!({"type": "function", "function": {"name": "g"}}),
            json!("none"),
        ),
        (
            "/v1/responses",
            tools(&flat),
            json!("required"),
            json!({"type": "function", "name": "g"}),
            json!("none"),
        ),
        (
            "/v1/messages",
            tools(&anthropic),
            json!({"type": "any"}),
            json!({"type": "tool", "name": "g"}),
            json!({"type": "none"}),
        ),
    ];
    for (path, tools, required, named, none) in surfaces {
        let ask = async |text: &str, choice: Option<&Value>| {
            let message = json!([{"role": "user", "content": text}]);
            let mut body =
                json!({"model": "grok-4.3", "messages": message, "input": message, "tools": tools});
            if let Some(choice) = choice {
                body["tool_choice"] = choice.clone();
            }
            called(&post(&running, path, &body).await)
        };
        let call = |name: &str, n: i64| Some((name.to_owned(), json!({"n": n})));
        assert_eq!(ask("hello", None).await, None, "{path}");
        assert_eq!(ask("use a tool", None).await, call("f", 3), "{path}");
        assert_eq!(ask("use a tool", Some(&none)).await, None, "{path}");
        assert_eq!(ask("hello", Some(&required)).await, call("f", 3), "{path}");
        assert_eq!(ask("hello", Some(&named)).await, call("g", 3), "{path}");
        assert_eq!(ask("[sim call=g]", None).await, call("g", 3), "{path}");
        assert_eq!(ask("[sim call=g:eyJuIjo5fQ==]", None).await, call("g", 9), "{path}");
        assert_eq!(ask("[sim call=g]", Some(&none)).await, None, "{path}");
        assert_eq!(ask("[sim call=other]", None).await, None, "{path}");
    }
}

#[tokio::test]
async fn structured_output_fits_its_schema() {
    let running = start(Settings::default()).await;
    let schema = json!({"type": "object", "properties": {"name": {"enum": ["J\u{fc}rgen \"x\""]}, "n": {"type": "integer"}}});
    let expected = json!({"name": "J\u{fc}rgen \"x\"", "n": 1});
    let chat = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    let flat = json!({"type": "json_schema", "name": "s", "schema": schema});
    let message = json!([{"role": "user", "content": "hello"}]);
    for (path, member, format) in [
        ("/v1/chat/completions", "response_format", chat),
        ("/v1/responses", "text", json!({"format": flat})),
        ("/v1/messages", "output_config", json!({"format": flat})),
    ] {
        let mut body = json!({"model": "grok-4.3", "messages": message, "input": message});
        body[member] = format;
        let whole = post(&running, path, &body).await;
        let places = ["/choices/0/message/content", "/output/0/content/0/text", "/content/0/text"];
        let text = places.iter().find_map(|place| whole.pointer(place)?.as_str()).expect("a text");
        assert_eq!(serde_json::from_str::<Value>(text).expect("json"), expected, "{path}");
        let streamed: String = events(&running, path, &body)
            .await
            .iter()
            .filter_map(|event| {
                let chat = event["choices"][0]["delta"]["content"].as_str();
                chat.or(event["delta"].as_str())
                    .or(event["delta"]["text"].as_str())
                    .map(str::to_owned)
            })
            .collect();
        assert_eq!(streamed, text, "{path}");
        let usage = &whole["usage"];
        let output = usage["completion_tokens"].as_u64().or(usage["output_tokens"].as_u64());
        assert_eq!(output, Some(o200k::count(text) as u64), "{path}");
    }
    let body = json!({"model": "grok-4.3", "messages": message, "response_format": {"type": "json_object"}});
    let whole = post(&running, "/v1/chat/completions", &body).await;
    let text = whole["choices"][0]["message"]["content"].as_str().expect("a text");
    assert!(serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()));
    let body = json!({"model": "grok-4.3", "messages": message, "response_format": {"type": "json_object"}, "max_tokens": 2});
    let cut = post(&running, "/v1/chat/completions", &body).await;
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn images_are_links_to_a_jpeg_or_the_jpeg_itself() {
    let running = start(Settings::default()).await;
    let mut body = json!({"model": "grok-imagine-image", "prompt": "a cat", "n": 2});
    let links = post(&running, "/v1/images/generations", &body).await;
    let url = links["data"][1]["url"].as_str().expect("a link");
    let path = url.strip_prefix("http://sim").expect("the host that was asked");
    let jpeg = send(&running, "GET", path, "", "").await;
    assert!(
        jpeg.head.contains("content-type: image/jpeg") && jpeg.body.starts_with(b"\xff\xd8\xff")
    );
    body["response_format"] = "b64_json".into();
    let encoded = post(&running, "/v1/images/generations", &body).await;
    let text = encoded["data"][0]["b64_json"].as_str().expect("base64");
    let decoded = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    assert_eq!(decoded, jpeg.body);
}
