//! Names of tools in requests for upstreams without namespaces and custom tools.

use super::{PAIRS, translate};
use crate::surface::Surface;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Kind, namespace and name.
type Tool = (&'static str, String, String);

/// Names of which many look alike once they are joined, and some are too long then.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["(a|b|__|_){1,4}", "[a-c]{40,64}", "(äö){1,20}"]
}

fn tools() -> impl Strategy<Value = BTreeSet<Tool>> {
    let space = prop_oneof![Just(String::new()), name()];
    let tool = (prop::sample::select(vec!["function", "custom"]), space, name());
    prop::collection::btree_set(tool, 1..24)
}

fn request(tools: &BTreeSet<Tool>) -> Value {
    let write = |(kind, space, name): &Tool| {
        let tool = json!({"type": kind, "name": name});
        if space.is_empty() {
            return tool;
        }
        json!({"type": "namespace", "name": space, "tools": [tool]})
    };
    let of = |space: &String| Some(space.clone()).filter(|space| !space.is_empty());
    let call = |(kind, space, name): &Tool| match *kind {
        "custom" => {
            json!({"type": "custom_tool_call", "call_id": "c", "namespace": of(space), "name": name, "input": "x"})
        }
        _ => {
            let space = of(space);
            json!({"type": "function_call", "call_id": "c", "namespace": space, "name": name, "arguments": "{}"})
        }
    };
    let listed: Vec<_> = tools.iter().map(write).collect();
    let input: Vec<_> = tools.iter().map(call).collect();
    json!({"model": "m", "input": input, "tools": listed})
}

/// A completion that calls each of these functions once.
fn calling(names: &[String]) -> Value {
    let call = |name: &String| {
        let function = json!({"name": name, "arguments": "{\"input\":\"x\"}"});
        json!({"id": name, "type": "function", "function": function})
    };
    let calls: Vec<_> = names.iter().map(call).collect();
    let message = json!({"role": "assistant", "content": null, "tool_calls": calls});
    json!({"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
}

fn called(reply: &[u8]) -> BTreeSet<Tool> {
    let reply: Value = serde_json::from_slice(reply).unwrap();
    let tool = |item: &Value| {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let is_custom = item["type"] == "custom_tool_call";
        assert_eq!(text("input"), if is_custom { "x" } else { "" });
        (if is_custom { "custom" } else { "function" }, text("namespace"), text("name"))
    };
    reply["output"].as_array().unwrap().iter().map(tool).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn names_are_unique_and_fit_and_come_back(tools in tools()) {
        let translated = translate(Surface::Responses, Surface::ChatCompletions, &request(&tools)).unwrap();
        let body: Value = serde_json::from_slice(&translated.body).unwrap();
        let name = |tool: &Value| tool["function"]["name"].as_str().unwrap().to_owned();
        let names: Vec<String> = body["tools"].as_array().unwrap().iter().map(name).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        prop_assert_eq!((names.len(), unique.len()), (tools.len(), tools.len()));
        // A name outside of namespaces is the caller's.
        let is_short = |name: &String| name.len() <= 64 || tools.iter().any(|(_, space, own)| space.is_empty() && own == name);
        prop_assert!(names.iter().all(is_short), "{:?}", names);
        let history = body["messages"][0]["tool_calls"].as_array().unwrap();
        let history: BTreeSet<String> = history.iter().map(name).collect();
        prop_assert_eq!(history.iter().collect::<BTreeSet<_>>(), unique);
        let reply = translated.reply.reply(calling(&names).to_string().as_bytes(), None).unwrap();
        prop_assert_eq!(called(&reply), tools);
    }
}

#[test]
fn a_tool_that_is_there_twice_is_written_once() {
    let space =
        json!({"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]});
    let custom = json!({"type": "custom", "name": "c"});
    let body = json!({"model": "m", "input": "x", "tools": [space, custom, space, custom]});
    for (from, to) in PAIRS.into_iter().filter(|(from, _)| *from == Surface::Responses) {
        let body: Value =
            serde_json::from_slice(&translate(from, to, &body).unwrap().body).unwrap();
        let names: Vec<_> = body["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| &tool["function"]["name"])
            .collect();
        assert_eq!(names, ["n__f", "c"]);
    }
}

#[test]
fn a_choice_and_earlier_calls_name_the_tool_as_the_list_does() {
    let space = |name: &str, tool: &str| json!({"type": "namespace", "name": name, "tools": [{"type": "function", "name": tool}]});
    let body = json!({
        "model": "m", "tools": [space("a", "b__c"), space("a__b", "c")],
        "input": [{"type": "function_call", "call_id": "1", "namespace": "a__b", "name": "c", "arguments": "{}"}],
        "tool_choice": {"type": "function", "namespace": "a__b", "name": "c"},
    });
    let translated = translate(Surface::Responses, Surface::ChatCompletions, &body).unwrap();
    let body: Value = serde_json::from_slice(&translated.body).unwrap();
    assert_eq!(body["tools"][0]["function"]["name"], "a__b__c");
    let second = &body["tools"][1]["function"]["name"];
    assert_ne!(second, "a__b__c");
    assert_eq!(&body["tool_choice"]["function"]["name"], second);
    assert_eq!(&body["messages"][0]["tool_calls"][0]["function"]["name"], second);
}

#[test]
fn a_tool_or_a_namespace_without_a_name_is_refused() {
    let nameless = |kind: &str| json!({"type": kind, "name": "", "tools": []});
    for kind in ["function", "custom", "namespace"] {
        let body = json!({"model": "m", "input": "x", "tools": [nameless(kind)]});
        let refused = translate(Surface::Responses, Surface::ChatCompletions, &body).unwrap_err();
        assert_eq!(refused.param, "tools[0].name", "{kind}");
    }
    let body = json!({"model": "m", "max_tokens": 9, "messages": [], "tools": [{"name": "", "input_schema": {}}]});
    for to in [Surface::ChatCompletions, Surface::Responses] {
        let refused = translate(Surface::Messages, to, &body).unwrap_err();
        assert_eq!(refused.param, "tools[0].name");
    }
}

#[test]
fn a_choice_allows_tools_by_namespace() {
    let function = |name: &str| json!({"type": "function", "name": name});
    let space = |name: &str| json!({"type": "namespace", "name": name, "tools": [function("f"), {"type": "custom", "name": "c"}]});
    for (allowed, left) in [
        (json!({"type": "namespace", "name": "n"}), vec!["n__f", "n__c"]),
        (json!({"type": "function", "namespace": "m", "name": "f"}), vec!["m__f"]),
        (json!({"type": "custom", "namespace": "n", "name": "c"}), vec!["n__c"]),
        (function("h"), vec!["h"]),
        (function("absent"), vec![]),
    ] {
        let body = json!({
            "model": "m", "input": "x", "tools": [space("n"), space("m"), function("h")],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [allowed]},
        });
        let sent = translate(Surface::Responses, Surface::ChatCompletions, &body).unwrap().body;
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let tools = sent["tools"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> =
            tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, left, "{allowed}");
    }
}
