//! Custom tools and choices among some of the tools on chat completions, and such choices on responses.

use super::*;

fn chat(body: &Value) -> (Value, DialectReply) {
    let text = body.to_string();
    let request = Dialect::Xai.of_request(Surface::ChatCompletions, text.as_bytes(), TAKES_EFFORT);
    (serde_json::from_slice(&request.body).unwrap(), request.reply)
}

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {}}})
}

fn custom(name: &str) -> Value {
    let grammar = json!({"syntax": "lark", "definition": "start: begin"});
    json!({"type": "custom", "custom": {"name": name, "description": "Edits.",
        "format": {"type": "grammar", "grammar": grammar}}})
}

fn custom_call(input: &str) -> Value {
    json!({"id": "c1", "type": "custom", "custom": {"name": "patch", "input": input}})
}

fn function_call(name: &str, arguments: &str) -> Value {
    json!({"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}})
}

#[test]
fn custom_tools_of_chat_are_functions_for_the_upstream() {
    let sent = json!({
        "tools": [custom("patch"), function("f")],
        "tool_choice": {"type": "custom", "custom": {"name": "patch"}},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "tool_calls": [custom_call("a\"b")]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ],
    });
    let (body, reply) = chat(&sent);
    let tool = &body["tools"][0]["function"];
    assert_eq!((&body["tools"][0]["type"], &tool["name"]), (&json!("function"), &json!("patch")));
    assert!(tool["description"].as_str().unwrap().contains("start: begin"), "{tool}");
    assert_eq!(tool["parameters"]["required"], json!(["input"]));
    assert_eq!(body["tools"][1], sent["tools"][1]);
    assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "patch"}}));
    let call = function_call("patch", r#"{"input":"a\"b"}"#);
    assert_eq!(body["messages"][1]["tool_calls"], json!([call]));
    assert_eq!(body["messages"][2], sent["messages"][2]);

    let answer = |calls: Value| json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": null, "tool_calls": calls}}]});
    let plain = function_call("f", "{}");
    let whole = reply.reply(answer(json!([call, plain])).to_string().as_bytes()).into_owned();
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole, answer(json!([custom_call("a\"b"), plain])));
}

#[test]
fn a_custom_tool_with_the_name_of_a_function_has_another_one() {
    let (body, reply) =
        chat(&json!({"tools": [function("patch"), custom("patch"), custom("patch")]}));
    assert_eq!(body["tools"].as_array().unwrap().len(), 2);
    let name = body["tools"][1]["function"]["name"].as_str().unwrap();
    assert!(name != "patch" && name.len() <= 64, "{name}");
    let calls = [function_call("patch", "{}"), function_call(name, r#"{"input":"x"}"#)];
    let answer = json!({"choices": [{"message": {"tool_calls": calls}}]});
    let whole: Value = serde_json::from_slice(&reply.reply(answer.to_string().as_bytes())).unwrap();
    assert_eq!(whole["choices"][0]["message"]["tool_calls"], json!([calls[0], custom_call("x")]));
}

/// The chunks of a stream with these arguments of a call, in pieces of this many bytes.
fn stream(pieces: &[&str], chunk: usize) -> Vec<Value> {
    let (_, reply) = chat(&json!({"tools": [custom("patch")]}));
    let delta = |delta: Value, finish: Value| json!({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let mut chunks = vec![delta(json!({"content": "Now."}), Value::Null)];
    let mut begin = function_call("patch", pieces.first().copied().unwrap_or_default());
    begin["index"] = json!(0);
    chunks.push(delta(json!({"tool_calls": [begin]}), Value::Null));
    for piece in pieces.iter().skip(1) {
        let call = json!({"index": 0, "function": {"arguments": piece}});
        chunks.push(delta(json!({"tool_calls": [call]}), Value::Null));
    }
    chunks.push(delta(json!({}), json!("tool_calls")));
    let events: Vec<_> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    let text = events.concat() + "data: [DONE]\n\n";
    let (mut stream, mut out) = (reply.into_stream(), Vec::new());
    text.as_bytes().chunks(chunk).for_each(|bytes| stream.push(bytes, &mut out));
    stream.finish(&mut out);
    let out = String::from_utf8(out).unwrap();
    let data = out.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn calls_of_custom_tools_stream_in_chat() {
    for pieces in [
        &[r#"{"input":"a\"b"}"#][..],
        &["", r#"{"inp"#, r#"ut":"a\"#, r#""b"}"#],
        &["", r#"{"input":"a\"b"}"#, "\n"],
    ] {
        for chunk in [1, 7, usize::MAX] {
            let chunks = stream(pieces, chunk);
            let calls: Vec<_> = chunks
                .iter()
                .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0].as_object())
                .collect();
            assert_eq!((&calls[0]["type"], &calls[0]["id"]), (&json!("custom"), &json!("c1")));
            assert_eq!(calls[0]["custom"]["name"], "patch");
            let input: String =
                calls.iter().map(|call| call["custom"]["input"].as_str().unwrap()).collect();
            assert_eq!(input, "a\"b", "{pieces:?}");
            assert!(calls.iter().all(|call| call.get("function").is_none()));
            assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        }
    }
    for pieces in [&["", "not ", "json"][..], &["not json"]] {
        let chunks = stream(pieces, 9);
        let input: String = chunks
            .iter()
            .filter_map(|c| c["choices"][0]["delta"]["tool_calls"][0]["custom"]["input"].as_str())
            .collect();
        assert_eq!(input, "not json");
        let last = chunks.last().unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "tool_calls", "its input comes before");
    }
}

/// As some servers write them: with the name in every piece.
#[test]
fn a_call_whose_name_is_repeated_is_one_call() {
    let (_, reply) = chat(&json!({"tools": [custom("patch")]}));
    let mut stream = reply.into_stream();
    let mut out = Vec::new();
    for (arguments, finish) in [("{\"inp", None), ("ut\":\"a", None), ("b\"}", Some("tool_calls"))]
    {
        let mut call = function_call("patch", arguments);
        call["index"] = json!(0);
        let choice = json!({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": finish});
        stream.push(format!("data: {}\n\n", json!({"choices": [choice]})).as_bytes(), &mut out);
    }
    stream.finish(&mut out);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(
        (out.matches("\"name\":\"patch\"").count(), out.matches("\"ab\"").count()),
        (1, 1),
        "{out}"
    );
}

/// The bound is for arguments that wait, not for those that were passed on.
#[test]
fn many_long_calls_in_one_stream_are_calls_of_custom_tools() {
    let (_, reply) = chat(&json!({"tools": [custom("patch")]}));
    let (mut stream, long) = (reply.into_stream(), "x".repeat(1 << 20));
    for index in 0..20 {
        let mut out = Vec::new();
        let mut call = function_call("patch", &json!({"input": long}).to_string());
        call["index"] = json!(index);
        let choice = json!({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null});
        stream.push(format!("data: {}\n\n", json!({"choices": [choice]})).as_bytes(), &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains(&format!("\"input\":\"{long}\"")), "call {index}");
    }
}

#[test]
fn a_choice_among_some_tools_leaves_out_the_others() {
    let allowed = |mode: &str, tools: Value| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}});
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let (body, _) = chat(&json!({
        "tools": [function("f"), function("g"), custom("patch")],
        "tool_choice": allowed("required", json!([named("g"), {"type": "custom", "custom": {"name": "patch"}}])),
    }));
    let left: Vec<_> =
        body["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
    assert_eq!(left, ["g", "patch"]);
    assert_eq!(body["tool_choice"], "required");
    let (body, _) = chat(
        &json!({"tools": [function("f")], "tool_choice": allowed("auto", json!([named("x")]))}),
    );
    assert_eq!(body, json!({"tools": []}), "no tool is left");
}

#[test]
fn a_choice_among_some_tools_of_responses_is_repeated_as_it_was_sent() {
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {}});
    let space = json!({"type": "namespace", "name": "n", "tools": [function("f"), function("g")]});
    let choice = |tools: Value| json!({"type": "allowed_tools", "mode": "auto", "tools": tools});
    let left_by = |choice: Value| {
        let sent = json!({"tools": [function("f"), function("h"), space, {"type": "web_search"}], "tool_choice": choice});
        let (body, reply) = xai(&sent);
        let answer =
            json!({"output": [], "tools": body["tools"], "tool_choice": body["tool_choice"]});
        let whole: Value =
            serde_json::from_slice(&reply.reply(answer.to_string().as_bytes())).unwrap();
        assert_eq!(
            (&whole["tools"], &whole["tool_choice"]),
            (&sent["tools"], &sent["tool_choice"])
        );
        assert_eq!(body["tool_choice"], "auto");
        let name = |tool: &Value| tool["name"].as_str().unwrap_or("search").to_owned();
        body["tools"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    let named = |name: &str| json!({"type": "function", "name": name});
    assert_eq!(left_by(choice(json!([named("h")]))), ["h"]);
    let in_space = json!({"type": "function", "namespace": "n", "name": "g"});
    assert_eq!(left_by(choice(json!([in_space, {"type": "web_search"}]))), ["n__g", "search"]);
    assert_eq!(left_by(choice(json!([{"type": "namespace", "name": "n"}]))), ["n__f", "n__g"]);

    let server = |label: &str| json!({"type": "mcp", "server_label": label, "server_url": "https://tools.example"});
    let label = |tool: &Value| json!({"type": "mcp", "server_label": tool["server_label"]});
    let (body, _) = xai(&json!({
        "tools": [server("one"), server("two")],
        "tool_choice": choice(json!([label(&server("two"))])),
    }));
    assert_eq!(body["tools"], json!([server("two")]));

    let many = vec![named("h"); 257];
    let (body, _) =
        xai(&json!({"tools": [function("h"), function("f")], "tool_choice": choice(json!(many))}));
    assert_eq!(body["tool_choice"]["type"], "allowed_tools", "for the upstream to refuse");

    let kept = json!({"tools": [function("h")], "tool_choice": choice(json!([named("h")]))});
    let (body, reply) = xai(&kept);
    assert_eq!((&body["tools"], &body["tool_choice"]), (&kept["tools"], &json!("auto")));
    assert!(!reply.is_identity(), "the choice is repeated as it was sent");
}
