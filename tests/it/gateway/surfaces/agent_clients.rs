//! What agent clients send beside plain calls, and what they are told.

use crate::support::http_client::Call;
use crate::support::scripted_upstream::{Asked, ScriptedUpstream, events, json as json_reply};
use crate::support::{Plan, WIDE, body, gateway};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_handshake_is_rejected_at_once() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for path in ["/v1/responses", "/v1/realtime?model=grok-4.3", "/v1/unknown"] {
        let handshake = Call::get(gw.addr(), path)
            .key(&key.text)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let reply = handshake.send().await;
        assert_eq!((reply.status, reply.code().as_str()), (426, "upgrade_required"), "{path}");
    }
    for path in ["/v1/responses/compact", "/v1/v1/chat/completions"] {
        let reply = Call::post(gw.addr(), path).key(&key.text).body("{}").send().await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "unknown_url"), "{path}");
    }
    assert_eq!(gw.used(key.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_is_not_streamed_again() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let call = json!({"model": "grok-4.3", "input": "hi"}).to_string();
    let made = Call::post(gw.addr(), "/v1/responses").key(&key.text).body(call).send().await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let read = async |query: &str| {
        let path = format!("/v1/responses/{id}{query}");
        Call::get(gw.addr(), &path).key(&key.text).send().await
    };
    let refused = read("?stream=true").await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "unsupported_parameter"));
    assert_eq!(refused.json()["error"]["param"], "stream");
    for query in ["", "?stream=false", "?include=x"] {
        assert_eq!(read(query).await.json()["id"], id.as_str(), "{query}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_clients_list_models_in_their_format() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let ask = async |path: &str, text: &str| {
        let call = Call::get(gw.addr(), path).header("x-api-key", text);
        call.header("anthropic-version", "2023-06-01").send().await
    };
    let listed = ask("/v1/models?limit=1000", &key.text).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    let listed = listed.json();
    let ids: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"grok-latest") && ids.contains(&"grok-4.3"), "{ids:?}");
    assert_eq!(listed["has_more"], false);
    assert_eq!((&listed["first_id"], &listed["last_id"]), (&json!(ids[0]), &json!(ids.last())));
    let one = ask("/v1/models/grok-latest", &key.text).await.json();
    assert_eq!((&one["type"], &one["id"]), (&json!("model"), &json!("grok-latest")));
    assert!(one["created_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{one}");
    let refused = ask("/v1/models", "sk-kx-wrong").await;
    assert_eq!((refused.status, &refused.json()["type"]), (401, &json!("error")));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_with_limits_and_prices() {
    let aliased = "[[models]]\nid = \"m\"\naliases = [\"claude-m\"]\nlist_aliases = true\n\
         upstreams = [{ name = \"simulator\" }]\ncontext_tokens = 9000\noutput_tokens = 700\n\
         prices = { input = 3, cached_input = 0.0001, output = 15 }\n";
    let gw = gateway().models(aliased).start().await;
    let key = gw.key("wide").await;
    let list = Call::get(gw.addr(), "/v1/models").key(&key.text).send().await.json();
    let named = |id: &str| {
        let mut all = list["data"].as_array().unwrap().iter();
        all.find(|model| model["id"] == id).cloned().unwrap_or_default()
    };
    let pricing =
        json!({"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000000001"});
    for id in ["m", "claude-m"] {
        let model = named(id);
        assert_eq!(
            (&model["context_length"], &model["max_output_tokens"]),
            (&json!(9000), &json!(700))
        );
        assert_eq!(model["pricing"], pricing, "{id}");
    }
    assert_eq!(named("grok-4.3")["context_length"], 1_000_000);
    assert!(named("grok-latest").is_null(), "its aliases are not listed");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_counts_tokens_where_no_upstream_does() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\n\
         api_key = \"sim-test-key\"\nsurfaces = [\"messages\", \"responses\"]\n";
    let narrow = Plan { id: "narrow", window: 1, ..WIDE };
    let gw = gateway().upstreams(upstream).plan(narrow).start().await;
    let key = gw.key("narrow").await;
    let count = async |path: &str, body: Value| {
        Call::post(gw.addr(), path).key(&key.text).body(body.to_string()).send().await
    };
    let messages = |words: usize| json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "word ".repeat(words)}]});
    let input = |words: usize| json!({"model": "grok-4.3", "input": "word ".repeat(words)});
    let mut counted = Vec::new();
    for words in [10, 1_010, 60_010] {
        let of_messages = count("/v1/messages/count_tokens", messages(words)).await.json();
        let of_input = count("/v1/responses/input_tokens", input(words)).await.json();
        assert_eq!(of_input["object"], "response.input_tokens");
        let both = [&of_messages, &of_input]
            .map(|reply| reply["input_tokens"].as_u64().unwrap_or_else(|| panic!("{reply}")));
        assert!(both[0].abs_diff(both[1]) < 8, "{both:?}");
        counted.push(both[0]);
    }
    let words = [counted[1] - counted[0], counted[2] - counted[1]];
    assert_eq!(words, [1_000, 59_000], "a token each");
    let unknown = count("/v1/responses/input_tokens", json!({"model": "x", "input": "hi"})).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
    let broken = count("/v1/responses/input_tokens", json!({"model": "grok-4.3"})).await;
    assert_eq!(broken.status, 400);
    // Neither used the one request of the window.
    assert_eq!(gw.used(key.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daily_quota_error_contains_the_numbers() {
    let small = Plan { id: "small", tokens: 1_200, ..WIDE };
    let gw = gateway().plan(small).simulator(|s| s.tokens = 300).start().await;
    let key = gw.key("small").await;
    let message = |reply: &Value| reply["error"]["message"].as_str().unwrap().to_owned();
    let never = gw.ask(&key, &body(&"word ".repeat(3_000), "")).await.json();
    assert_eq!(never["error"]["details"]["can_ever_fit"], false);
    let never = message(&never);
    assert!(never.contains("than the limit of 1,200 per day"), "{never}");
    assert_eq!(gw.ask(&key, &body("hi", r#","max_tokens":300"#)).await.status, 200);
    let used = gw.used(key.user).await.0;
    let left = 1_200 - used;
    let prompt = "word ".repeat(usize::try_from(left).unwrap() + 50);
    let refused = gw.ask(&key, &body(&prompt, "")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "insufficient_quota"));
    let details = refused.json()["error"]["details"].clone();
    let tokens = json!({"limit": 1_200, "used": used, "reserved": 0, "remaining": left});
    assert_eq!((&details["tokens"], &details["can_ever_fit"]), (&tokens, &json!(true)));
    assert!(details["resets_in_seconds"].as_u64().unwrap() <= 86_400, "{details}");
    let told = message(&refused.json());
    let reset = "The quota resets at 2";
    assert!(told.contains(&format!("{left} of today's 1,200")) && told.contains(reset), "{told}");
    gw.finish().await;
}

/// Codex's default tools: functions in a namespace, and a search that must not leave the cache.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_of_xais_dialect_gets_what_it_takes() {
    let call = r#"{"type":"function_call","id":"fc_1","call_id":"c","name":"agents__spawn","arguments":"{}"}"#;
    let reply = format!(
        r#"{{"id":"r","object":"response","status":"completed","output":[{call}],"usage":{{"input_tokens":9,"output_tokens":5,"total_tokens":14}}}}"#
    );
    let answer = move |asked: &Asked| {
        if !asked.body.contains("\"stream\":true") {
            return json_reply(200, &reply);
        }
        let done =
            format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{call}}}"#);
        let completed = format!(r#"{{"type":"response.completed","response":{reply}}}"#);
        events(&[&done, &completed])
    };
    let upstream = ScriptedUpstream::start(answer).await;
    let gw = gateway().upstreams(&upstream.table("x", "k", "dialect = \"xai\"")).start().await;
    let key = gw.key("wide").await;
    let body = |is_stream: bool| {
        json!({
            "model": "grok-4.3", "stream": is_stream, "store": false,
            "client_metadata": {"workspace": "/home/ada/secret"},
            "input": [
                {"type": "message", "role": "user", "content": "hi"},
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": null},
            ],
            "tools": [
                {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "spawn", "parameters": {"type": "object"}}]},
                {"type": "web_search", "external_web_access": false},
            ],
        })
    };
    for is_stream in [false, true] {
        let call = Call::post(gw.addr(), "/v1/responses").key(&key.text);
        let reply = call.body(body(is_stream).to_string()).send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let restored = reply.text().matches(r#""name":"spawn","namespace":"agents""#).count();
        assert_eq!(restored, if is_stream { 2 } else { 1 }, "{}", reply.text());
        assert!(!reply.text().contains("agents__spawn"), "{}", reply.text());
    }
    for asked in upstream.asked() {
        let sent: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(sent["tools"].as_array().unwrap().len(), 1, "{sent}");
        assert_eq!(sent["tools"][0]["name"], "agents__spawn");
        assert!(sent.get("client_metadata").is_none() && !asked.body.contains("secret"));
        assert!(sent["input"][1].get("content").is_none(), "{sent}");
    }
    gw.finish().await;
}

/// What xAI refuses, and the simulator with it, reaches neither; calls come back as the client's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_accepts_what_the_dialect_writes() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\n\
         api_key = \"sim-test-key\"\ndialect = \"xai\"\n";
    let gw = gateway().upstreams(upstream).start().await;
    let key = gw.key("wide").await;
    let body = |text: &str| {
        json!({
            "model": "grok-4.3", "store": false, "tool_choice": "auto",
            "input": [
                {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "x"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
                {"type": "reasoning", "summary": [], "content": null},
                {"type": "message", "role": "user", "content": text},
            ],
            "tools": [
                {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "spawn", "parameters": {"oneOf": [{"properties": {"n": {"type": "integer"}}}]}}]},
                {"type": "custom", "name": "apply_patch", "format": {"type": "text"}},
                {"type": "local_shell"}, {"type": "tool_search"},
                {"type": "web_search_preview", "search_context_size": "low"},
            ],
        })
    };
    // {"input":"*** Begin"}
    let patch = "hi [sim call=apply_patch:eyJpbnB1dCI6IioqKiBCZWdpbiJ9]";
    let spawn = "hi [sim call=agents__spawn]";
    for is_stream in [false, true] {
        let send = async |text: &str| {
            let mut body = body(text);
            body["stream"] = is_stream.into();
            let call = Call::post(gw.addr(), "/v1/responses").key(&key.text);
            let reply = call.body(body.to_string()).send().await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let last = reply.events().pop().unwrap_or_else(|| reply.text().to_owned());
            let last: Value = serde_json::from_str(&last).unwrap();
            let response = if is_stream { last["response"].clone() } else { last };
            assert_eq!(response["tools"], body["tools"], "the client's own");
            (response["output"][0].clone(), reply)
        };
        let (item, reply) = send(patch).await;
        assert_eq!(
            (&item["type"], &item["name"]),
            (&json!("custom_tool_call"), &json!("apply_patch"))
        );
        assert_eq!(item["input"], "*** Begin");
        let streamed = reply.text().contains("event: response.custom_tool_call_input.delta");
        assert_eq!(streamed, is_stream, "{}", reply.text());
        let (item, _) = send(spawn).await;
        assert_eq!((&item["namespace"], &item["name"]), (&json!("agents"), &json!("spawn")));
        assert_eq!(item["arguments"], r#"{"n":1}"#);
    }
    let chat = json!({"model": "grok-4.3", "messages": [{"role": "user", "content": "hi"}], "tool_choice": "none"});
    assert_eq!(gw.ask(&key, &chat.to_string()).await.status, 200);
    gw.finish().await;
}

/// Custom tools and choices among some of the tools, which xAI has on neither of its APIs.
#[tokio::test(flavor = "multi_thread")]
async fn custom_tools_of_chat_come_back_as_custom_tools() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\n\
         api_key = \"sim-test-key\"\ndialect = \"xai\"\n";
    let gw = gateway().upstreams(upstream).start().await;
    let key = gw.key("wide").await;
    let custom = |members: Value| json!({"type": "custom", "custom": members});
    let mut call = custom(json!({"name": "apply_patch", "input": "x"}));
    call["id"] = json!("c");
    for is_stream in [false, true] {
        let body = json!({
            "model": "grok-4.3", "stream": is_stream,
            "tools": [{"type": "function", "function": {"name": "f"}}, custom(json!({"name": "apply_patch"}))],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {
                "mode": "required", "tools": [custom(json!({"name": "apply_patch"}))],
            }},
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": null, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "done"},
                // {"input":"*** Begin"}
                {"role": "user", "content": "hi [sim call=apply_patch:eyJpbnB1dCI6IioqKiBCZWdpbiJ9]"},
            ],
        });
        let reply = gw.ask(&key, &body.to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(!reply.text().contains("\"arguments\""), "{}", reply.text());
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let calls: Vec<Value> = if is_stream {
            let chunks = reply.events().into_iter().filter(|data| data != "[DONE]");
            chunks
                .map(|data| parsed(&data)["choices"][0]["delta"]["tool_calls"][0].clone())
                .collect()
        } else {
            vec![parsed(reply.text())["choices"][0]["message"]["tool_calls"][0].take()]
        };
        let text = |name: &str| {
            calls.iter().filter_map(|call| call["custom"][name].as_str()).collect::<String>()
        };
        assert_eq!(
            (text("name"), text("input")),
            ("apply_patch".to_owned(), "*** Begin".to_owned())
        );
        assert!(calls.iter().any(|call| call["type"] == "custom" && call["id"].is_string()));
    }
    gw.finish().await;
}
