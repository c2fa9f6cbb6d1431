use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const TAKES_EFFORT: DialectOptions = DialectOptions { takes_effort: true };

fn xai(body: &Value) -> (Value, DialectReply) {
    let text = body.to_string();
    let request = Dialect::Xai.of_request(Surface::Responses, text.as_bytes(), TAKES_EFFORT);
    (serde_json::from_slice(&request.body).unwrap(), request.reply)
}

fn with_namespace() -> Value {
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {}});
    json!({
        "model": "grok", "client_metadata": {"workspace": "/home/ada"},
        "tools": [function("f"), {"type": "namespace", "name": "agents",
            "tools": [function("wait"), function("spawn")]}],
        "tool_choice": {"type": "function", "namespace": "agents", "name": "wait"},
        "input": [
            {"type": "reasoning", "content": null, "encrypted_content": "x"},
            {"type": "function_call", "namespace": "agents", "name": "spawn", "arguments": "{}"},
        ],
    })
}

#[test]
fn a_request_that_needs_no_change_keeps_its_bytes() {
    let body = br#" { "input" : [ {"type":"message","content":"agents__wait"} ], "tools":[{"type":"web_search"}],"reasoning":{"effort":"low"} } "#;
    for dialect in [Dialect::OpenAi, Dialect::Xai, Dialect::ChatOnly] {
        let request = dialect.of_request(Surface::Responses, body, TAKES_EFFORT);
        assert!(matches!(request.body, Cow::Borrowed(same) if same == body));
        assert!(request.reply.is_identity());
    }
}

#[test]
fn namespaces_are_flattened_and_restored() {
    let (body, reply) = xai(&with_namespace());
    let names: Vec<_> =
        body["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["f", "agents__wait", "agents__spawn"]);
    assert_eq!(body["tool_choice"], json!({"type": "function", "name": "agents__wait"}));
    let calls = json!([
        {"type": "reasoning", "encrypted_content": "x"},
        {"type": "function_call", "name": "agents__spawn", "arguments": "{}"},
    ]);
    assert_eq!(body["input"], calls);
    assert_eq!(body.get("client_metadata"), None);

    let answer = json!({"output": [
        {"type": "message", "content": [{"type": "output_text", "text": "agents__wait"}]},
        {"type": "function_call", "name": "agents__wait", "call_id": "c", "arguments": "{}"},
    ]});
    let restored: Value =
        serde_json::from_slice(&reply.reply(answer.to_string().as_bytes())).unwrap();
    let call = json!({"type": "function_call", "name": "wait", "namespace": "agents",
        "call_id": "c", "arguments": "{}"});
    assert_eq!(restored["output"][1], call);
    assert_eq!(restored["output"][0], answer["output"][0]);
}

fn stream_events() -> String {
    let call = json!({"type": "function_call", "name": "agents__wait", "call_id": "c"});
    let events = [
        json!({"type": "response.output_item.added", "item": call}),
        json!({"type": "response.output_text.delta", "delta": "agents__wait"}),
        json!({"type": "response.function_call_arguments.done", "name": "agents__wait"}),
        json!({"type": "response.completed", "response": {"output": [call]}}),
    ];
    let event = |event: &Value| format!("event: {}\r\ndata: {event}\r\n\r\n", event["type"]);
    events.iter().map(event).collect()
}

fn restored_stream(piece: usize) -> String {
    let (_, reply) = xai(&with_namespace());
    let (mut stream, mut out) = (reply.into_stream(), Vec::new());
    for bytes in stream_events().as_bytes().chunks(piece) {
        stream.push(bytes, &mut out);
    }
    stream.finish(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn names_are_restored_in_streams() {
    let stream = restored_stream(usize::MAX);
    assert_eq!(stream.matches(r#""name":"wait","namespace":"agents""#).count(), 2);
    assert_eq!(stream.matches("agents__wait").count(), 1);
}

proptest! {
    #[test]
    fn chunking_changes_nothing(piece in 1_usize..120) {
        prop_assert_eq!(restored_stream(piece), restored_stream(usize::MAX));
    }

    #[test]
    fn what_was_json_is_json_afterwards(
        values in prop::collection::vec(prop::sample::select(ODD_VALUES), 0..6),
        member in prop::sample::select(vec!["tools", "input", "tool_choice", "reasoning", "metadata"]),
    ) {
        let list = format!("[{}]", values.join(","));
        for value in values.into_iter().chain([&*list]) {
            let nested = format!("[{{\"type\":\"namespace\",\"name\":\"n\",\"tools\":{value}}}]");
            let schema = format!("[{{\"type\":\"function\",\"parameters\":{{\"oneOf\":{value}}}}}]");
            for value in [value, &nested, &schema] {
                let body = format!("{{\"{member}\":{value},\"client_metadata\":{value}}}");
                prop_assert!(serde_json::from_str::<Value>(&body).is_ok(), "{body}");
                let options = DialectOptions { takes_effort: false };
                let request = Dialect::Xai.of_request(Surface::Responses, body.as_bytes(), options);
                let sent: Value = serde_json::from_slice(&request.body).unwrap();
                prop_assert!(sent.get("client_metadata").is_none(), "{body}");
            }
        }
    }
}

const ODD_VALUES: &[&str] = &[
    "null",
    "true",
    "-1e9",
    "\"\"",
    "\"auto\"",
    "[]",
    "{}",
    "[[{}]]",
    "{\"type\":3}",
    "{\"type\":\"namespace\"}",
    "{\"type\":\"function\",\"name\":\"f\",\"parameters\":[]}",
    "{\"type\":\"web_search\",\"external_web_access\":false}",
    "{\"type\":\"reasoning\",\"content\":null}",
    "{\"type\":\"function_call\",\"name\":\"a__b\"}",
    "{\"type\":\"custom\",\"name\":\"c\",\"format\":{\"type\":\"grammar\",\"syntax\":3}}",
    "{\"type\":\"custom_tool_call\",\"name\":\"c\",\"input\":\"x\"}",
    "{\"type\":\"local_shell_call\",\"action\":{}}",
    "{\"$ref\":\"#\",\"anyOf\":[{\"$ref\":\"#\"}]}",
    "{\"effort\":\"high\"}",
];

#[test]
fn a_search_of_cached_pages_never_becomes_a_live_one() {
    let search = |access: bool| json!({"type": "web_search", "external_web_access": access});
    let (body, _) = xai(&json!({"tools": [search(true)], "tool_choice": {"type": "web_search"}}));
    assert_eq!(body["tools"], json!([{"type": "web_search"}]));
    assert_eq!(body["tool_choice"], json!({"type": "web_search"}));
    let (body, _) = xai(&json!({"tools": [search(false)], "tool_choice": {"type": "web_search"}}));
    assert_eq!(body, json!({"tools": []}));
}

#[test]
fn a_union_becomes_an_object_that_takes_all_branches() {
    let parameters = json!({"oneOf": [
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a", "b"]},
        {"type": "object", "properties": {"a": {"type": "integer"}, "c": {}}, "required": ["a"]},
    ], "$defs": {"d": {}}});
    let tool = json!({"type": "function", "name": "f", "parameters": parameters});
    let (body, _) = xai(&json!({"tools": [tool]}));
    let expected = json!({
        "type": "object", "required": ["a"], "$defs": {"d": {}},
        "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "b": {}, "c": {}},
    });
    assert_eq!(body["tools"][0]["parameters"], expected);
}

mod chat;
mod tools;

#[test]
fn effort_and_personal_metadata_are_left_out() {
    let body = json!({"reasoning": {"effort": "low", "summary": "auto"}, "reasoning_effort": "low",
        "metadata": {"user_id": "device", "topic": "x"}});
    let text = body.to_string();
    let options = DialectOptions { takes_effort: false };
    let request = Dialect::OpenAi.of_request(Surface::Responses, text.as_bytes(), options);
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"reasoning": {"summary": "auto"}, "metadata": {"topic": "x"}}));
}
