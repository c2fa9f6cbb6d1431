//! Tools that xAI does not have, and what becomes of their names, calls and schemas.

use super::*;

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {}})
}

fn names(body: &Value) -> Vec<&str> {
    body["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

fn restored(reply: &DialectReply, body: &Value) -> Value {
    serde_json::from_slice(&reply.reply(body.to_string().as_bytes())).unwrap()
}

#[test]
fn a_choice_without_tools_is_left_out() {
    let cached = json!({"type": "web_search", "external_web_access": false});
    let cases = [
        (json!({"tool_choice": "auto"}), json!({})),
        (json!({"tools": [], "tool_choice": "none"}), json!({"tools": []})),
        (json!({"tools": null, "tool_choice": "none"}), json!({"tools": null})),
        (
            json!({"tools": [cached, {"type": "tool_search"}], "tool_choice": "required"}),
            json!({"tools": []}),
        ),
        (
            json!({"tools": [{"type": "namespace", "name": "n", "tools": []}], "tool_choice": "auto"}),
            json!({"tools": []}),
        ),
        (
            json!({"tools": [function("f"), {"type": "local_shell"}], "tool_choice": {"type": "local_shell"}}),
            json!({"tools": [function("f")]}),
        ),
        (
            json!({"tools": [function("f"), cached], "tool_choice": "required"}),
            json!({"tools": [function("f")], "tool_choice": "required"}),
        ),
    ];
    for (sent, written) in cases {
        assert_eq!(xai(&sent).0, written, "{sent}");
    }
    for surface in [Surface::ChatCompletions, Surface::Messages] {
        let write = |body: &'static [u8]| Dialect::Xai.of_request(surface, body, TAKES_EFFORT).body;
        assert_eq!(&*write(br#"{"tool_choice":"none","n":1}"#), br#"{"n":1}"#);
        let with_tools = br#"{ "tools":[{}],"tool_choice":"none"}"#;
        assert!(matches!(write(with_tools), Cow::Borrowed(same) if same == with_tools));
    }
}

#[test]
fn searches_become_the_one_that_xai_has() {
    let preview = json!({"type": "web_search_preview", "search_context_size": "low", "user_location": {"city": "Bar"}});
    let (body, _) =
        xai(&json!({"tools": [preview], "tool_choice": {"type": "web_search_preview"}}));
    let search = json!({"type": "web_search", "user_location": {"city": "Bar"}});
    assert_eq!(body, json!({"tools": [search], "tool_choice": {"type": "web_search"}}));
}

/// Codex's `apply_patch`, before and after the dialect.
#[test]
fn custom_tools_are_functions_for_the_upstream() {
    let custom = json!({"type": "custom", "name": "apply_patch", "description": "Edits files.",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin"}});
    let call = |id: &str| json!({"type": "custom_tool_call", "id": "ctc_1", "call_id": id, "name": "apply_patch", "input": "*** \"Begin\""});
    let sent = json!({
        "tools": [custom], "tool_choice": {"type": "custom", "name": "apply_patch"},
        "input": [
            call("c1"), {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
            {"type": "custom_tool_call", "call_id": "x1", "name": "x_keyword_search", "input": "{}"},
        ],
    });
    let (body, reply) = xai(&sent);
    let tool = &body["tools"][0];
    assert_eq!((&tool["type"], &tool["name"]), (&json!("function"), &json!("apply_patch")));
    assert_eq!(tool["parameters"]["required"], json!(["input"]));
    assert!(tool["description"].as_str().unwrap().contains("start: begin"), "{tool}");
    assert_eq!(body["tool_choice"], json!({"type": "function", "name": "apply_patch"}));
    let arguments = r#"{"input":"*** \"Begin\""}"#;
    let function_call = json!({"type": "function_call", "id": "ctc_1", "call_id": "c1", "name": "apply_patch", "arguments": arguments});
    assert_eq!(body["input"][0], function_call);
    assert_eq!(
        body["input"][1],
        json!({"type": "function_call_output", "call_id": "c1", "output": "done"})
    );
    assert_eq!(body["input"][2], sent["input"][2], "a search of xAI's own");

    let answer = json!({"output": [function_call], "tools": body["tools"], "tool_choice": body["tool_choice"]});
    let whole = restored(&reply, &answer);
    assert_eq!(whole["output"][0], call("c1"));
    assert_eq!((&whole["tools"], &whole["tool_choice"]), (&sent["tools"], &sent["tool_choice"]));
    let plain = json!({"output": [{"type": "function_call", "name": "apply_patch", "arguments": "not json"}]});
    assert_eq!(restored(&reply, &plain)["output"][0]["input"], "not json");
}

/// The events of a call of a custom tool, with the arguments in these pieces.
fn custom_stream(pieces: &[&str], chunk: usize) -> Vec<Value> {
    let (_, reply) = xai(&json!({"tools": [{"type": "custom", "name": "patch"}]}));
    let arguments = pieces.concat();
    let item = |arguments: &str| json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "patch", "arguments": arguments});
    let mut events = vec![json!({"type": "response.output_item.added", "item": item("")})];
    for piece in pieces {
        events.push(json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": piece}));
    }
    events.push(json!({"type": "response.function_call_arguments.done", "item_id": "fc_1", "name": "patch", "arguments": arguments}));
    events.push(json!({"type": "response.output_item.done", "item": item(&arguments)}));
    events.push(json!({"type": "response.completed", "response": {"output": [item(&arguments)]}}));
    let event =
        |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    let text = events.iter().map(event).collect::<Vec<_>>().concat();
    let (mut stream, mut out) = (reply.into_stream(), Vec::new());
    text.as_bytes().chunks(chunk).for_each(|bytes| stream.push(bytes, &mut out));
    stream.finish(&mut out);
    let text = String::from_utf8(out).unwrap();
    let event = |event: &str| {
        let (kind, data) = event.split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(kind, format!("event: {}", data["type"].as_str().unwrap()));
        data
    };
    text.split_terminator("\n\n").map(event).collect()
}

#[test]
fn calls_of_custom_tools_stream_their_input() {
    let expected = json!({"type": "custom_tool_call", "id": "fc_1", "call_id": "c", "name": "patch", "input": "a\"b"});
    for pieces in [&[r#"{"input":"a\"b"}"#][..], &[r#"{"inp"#, r#"ut":"a\"#, r#""b"}"#]] {
        for chunk in [1, 7, usize::MAX] {
            let events = custom_stream(pieces, chunk);
            let kinds: Vec<_> =
                events.iter().map(|event| event["type"].as_str().unwrap()).collect();
            assert_eq!(
                kinds,
                [
                    "response.output_item.added",
                    "response.custom_tool_call_input.delta",
                    "response.custom_tool_call_input.done",
                    "response.output_item.done",
                    "response.completed",
                ]
            );
            assert_eq!(events[0]["item"]["input"], "");
            assert_eq!(
                (&events[1]["delta"], &events[2]["input"]),
                (&json!("a\"b"), &json!("a\"b"))
            );
            assert_eq!(events[3]["item"], expected);
            assert_eq!(events[4]["response"]["output"][0], expected);
        }
    }
    assert_eq!(custom_stream(&[], 5)[1]["input"], "", "without arguments");
}

#[test]
fn flat_names_are_unique_and_short() {
    let long = "l".repeat(70);
    let space = |name: &str, tools: &[&str]| json!({"type": "namespace", "name": name, "tools": tools.iter().map(|name| function(name)).collect::<Vec<_>>()});
    let sent = json!({"tools": [
        space("a", &["b__c", "b__c", &long]), space("a__b", &["c"]), function("x__y"), space("x", &["y"]),
        {"type": "custom", "name": "f"}, function("f"),
    ], "input": [
        {"type": "function_call", "namespace": "a__b", "name": "c"},
        {"type": "function_call", "namespace": "gone", "name": long},
    ], "tool_choice": {"type": "function", "namespace": "x", "name": "y"}});
    let (body, reply) = xai(&sent);
    let names = names(&body);
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), unique.len()), (7, 7), "{names:?}");
    assert!(names.iter().all(|name| name.len() <= 64), "{names:?}");
    assert_eq!((names[0], names[3], names[6]), ("a__b__c", "x__y", "f"));
    assert_eq!(body["input"][0]["name"], names[2]);
    assert!(body["input"][1]["name"].as_str().unwrap().len() <= 64);
    assert_eq!(body["tool_choice"]["name"], names[4]);
    assert_eq!(xai(&sent).0, body, "the same in each request");
    let original = |name: &str| {
        let call = json!({"output": [{"type": "function_call", "name": name, "arguments": "{}"}]});
        let call = restored(&reply, &call)["output"][0].clone();
        (call["namespace"].as_str().map(str::to_owned), call["name"].as_str().unwrap().to_owned())
    };
    let of = |space: &str, name: &str| (Some(space.to_owned()), name.to_owned());
    assert_eq!(original(names[0]), of("a", "b__c"));
    assert_eq!(original(names[1]), of("a", &long));
    assert_eq!(original(names[2]), of("a__b", "c"));
    assert_eq!(original(names[3]), (None, "x__y".to_owned()));
    assert_eq!(original(names[4]), of("x", "y"));
    assert_eq!(original(names[5]), (None, "f".to_owned()));
}

#[test]
fn calls_of_tools_that_xai_does_not_have_stay_in_the_history() {
    let action = json!({"type": "exec", "command": ["ls"]});
    let (body, _) = xai(&json!({"input": [
        {"type": "local_shell_call", "call_id": "c1", "action": action},
        {"type": "local_shell_call_output", "id": "c1", "output": "a.txt"},
        {"type": "tool_search_call", "call_id": "c2"}, {"type": "tool_search_output", "call_id": "c2"},
        {"type": "item_reference", "id": "msg_1"},
    ]}));
    assert_eq!(
        body["input"],
        json!([
            {"type": "function_call", "name": "local_shell", "call_id": "c1", "arguments": action.to_string()},
            {"type": "function_call_output", "call_id": "c1", "output": "a.txt"},
            {"type": "item_reference", "id": "msg_1"},
        ])
    );
}

fn parameters(schema: &Value) -> Value {
    let tool = json!({"type": "function", "name": "f", "parameters": schema});
    xai(&json!({"tools": [tool]})).0["tools"][0]["parameters"].clone()
}

#[test]
fn unions_keep_references_and_what_the_root_requires() {
    let schema = json!({
        "type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"],
        "additionalProperties": false,
        "oneOf": [
            {"$ref": "#/$defs/add"},
            {"allOf": [{"$ref": "#/definitions/base"}, {"properties": {"kind": {"const": "drop"}}, "required": ["kind"]}]},
        ],
        "$defs": {"add": {"type": "object", "properties": {"kind": {"const": "add"}, "n": {}}, "required": ["n", "kind"]}},
        "definitions": {"base": {"properties": {"m": {"$ref": "#/$defs/add"}}, "required": ["m"]}},
    });
    assert_eq!(
        parameters(&schema),
        json!({
            "type": "object", "required": ["id", "kind"], "additionalProperties": false,
            "properties": {
                "id": {"type": "string"}, "n": {}, "m": {"$ref": "#/$defs/add"},
                "kind": {"anyOf": [{"const": "add"}, {"const": "drop"}]},
            },
            "$defs": schema["$defs"], "definitions": schema["definitions"],
        })
    );
    let plain = json!({"type": "object", "allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {}}});
    assert_eq!(parameters(&plain), plain, "no union");
}

#[test]
fn unions_that_refer_to_themselves_come_to_an_end() {
    let twice = json!([{"$ref": "#"}, {"$ref": "#/$defs/0"}]);
    let defs: serde_json::Map<_, _> = (0..200)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/{}", n + 1)});
            (n.to_string(), json!({"anyOf": [next, next], "properties": {n.to_string(): {}}}))
        })
        .collect();
    let schema = json!({"oneOf": twice, "$defs": defs});
    assert_eq!(parameters(&schema)["type"], "object");
}

#[test]
fn a_namespace_with_a_very_long_name_is_left_to_the_upstream() {
    let tools: Vec<_> = (0..100).map(|number| function(&format!("f{number}"))).collect();
    let space = |length| json!({"tools": [{"type": "namespace", "name": "n".repeat(length), "tools": tools}]});
    assert_eq!(xai(&space(129)).0, space(129));
    assert_eq!(names(&xai(&space(128)).0).len(), 100);
}
