//! The gateway's dialect of xAI, and the simulator's idea of it: what the one writes, the other accepts, and a call
//! of any tool comes back as its caller's.

use crate::answer::Answer;
use crate::fault::Faults;
use crate::pacing::EventSource;
use crate::reply::chat::Envelope;
use crate::reply::responses::{self, ResponsesEvents};
use crate::request::ModelRequest;
use crate::settings::{ForcedCall, Overrides, Settings};
use crate::surfaces::Surface;
use crate::{model, request, strictness};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use wire::dialect::{Dialect, DialectOptions, DialectReply};

/// Names that collide once they are joined, and one that is too long for a function.
const NAMES: [&str; 6] = [
    "a",
    "b",
    "a__b",
    "b__a",
    "spawn",
    "a_name_of_more_than_sixty_four_characters_when_it_is_joined_to_a_space",
];

fn schema() -> impl Strategy<Value = Value> {
    let defs =
        json!({"x": {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]}});
    select(vec![
        json!({"type": "object"}),
        json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}),
        json!({"oneOf": [{"properties": {"a": {"const": 1}}}, {"required": ["b"]}], "required": ["c"]}),
        json!({"anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}], "$defs": defs}),
    ])
}

fn function(name: &'static str) -> impl Strategy<Value = Value> {
    schema().prop_map(move |schema| json!({"type": "function", "name": name, "parameters": schema, "defer_loading": true}))
}

/// Functions of their own, with names that xAI accepts.
fn functions() -> impl Strategy<Value = Vec<Value>> {
    let short: Vec<_> = NAMES.into_iter().filter(|name| name.len() <= 64).collect();
    subsequence(short, 0..4)
        .prop_flat_map(|names| names.into_iter().map(function).collect::<Vec<_>>())
}

fn namespace() -> impl Strategy<Value = Value> {
    let tools = proptest::collection::vec(select(&NAMES[..]).prop_flat_map(function), 0..4);
    (select(&NAMES[..]), tools)
        .prop_map(|(name, tools)| json!({"type": "namespace", "name": name, "tools": tools}))
}

fn other_tool() -> impl Strategy<Value = Value> {
    let short = select(&NAMES[..5]);
    prop_oneof![
        namespace(),
        namespace(),
        short.prop_map(|name| json!({"type": "custom", "name": name, "format": {"type": "grammar", "syntax": "regex", "definition": ".*"}})),
        select(vec![
            json!({"type": "web_search", "external_web_access": true, "search_context_size": "low"}),
            json!({"type": "web_search", "external_web_access": false}),
            json!({"type": "web_search_preview", "user_location": null}),
            json!({"type": "local_shell"}),
            json!({"type": "tool_search", "execution": "client"}),
        ]),
    ]
}

fn item() -> impl Strategy<Value = Value> {
    let name = select(&NAMES[..]);
    prop_oneof![
        (name.clone(), name.clone()).prop_map(|(space, name)| json!({"type": "function_call", "namespace": space, "name": name, "call_id": "1", "arguments": "{}"})),
        name.prop_map(|name| json!({"type": "custom_tool_call", "name": name, "call_id": "2", "input": "x\"y"})),
        select(vec![
            json!({"type": "message", "role": "user", "content": "use a tool"}),
            json!({"type": "custom_tool_call_output", "call_id": "2", "output": "z"}),
            json!({"type": "reasoning", "summary": [], "content": null, "encrypted_content": "e"}),
            json!({"type": "custom_tool_call", "name": "x_keyword_search", "call_id": "3", "input": "{}"}),
            json!({"type": "local_shell_call", "call_id": "4", "action": {"type": "exec"}}),
            json!({"type": "local_shell_call_output", "id": "4", "output": "o"}),
            json!({"type": "tool_search_call", "call_id": "5", "arguments": {}}),
            json!({"type": "tool_search_output", "call_id": "5", "tools": []}),
        ]),
    ]
}

/// A request of a client that knows OpenAI's responses.
fn body() -> impl Strategy<Value = Value> {
    let tools = (functions(), proptest::collection::vec(other_tool(), 0..5));
    let choice = select(vec![
        json!(null),
        json!("auto"),
        json!("none"),
        json!("required"),
        json!({"type": "local_shell"}),
        json!({"type": "web_search_preview"}),
    ]);
    let items = proptest::collection::vec(item(), 0..6);
    (tools, choice, items, any::<bool>()).prop_map(
        |((mut tools, others), choice, items, has_custom)| {
            // A choice of the client's own refers to a tool of the request.
            let custom = others.iter().find(|tool| tool["type"] == "custom").filter(|_| has_custom);
            let choice =
                custom.map_or(choice, |tool| json!({"type": "custom", "name": tool["name"]}));
            tools.extend(others);
            // A custom call that has no output and no tool is one of the server's, for all that a gateway knows.
            let items: Vec<_> = items
                .into_iter()
                .chain([json!({"type": "custom_tool_call_output", "call_id": "2", "output": ""})])
                .collect();
            json!({"model": "grok-4.3", "input": items, "tools": tools, "tool_choice": choice})
        },
    )
}

/// What the client calls a tool: its kind, namespace and name.
type Identity = (bool, String, String);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The tools of the client that are functions for the upstream.
fn identities(body: &Value) -> Vec<Identity> {
    let mut identities = Vec::new();
    for tool in body["tools"].as_array().into_iter().flatten() {
        match tool["type"].as_str() {
            Some("namespace") => identities.extend(
                tool["tools"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|child| (false, text(&tool["name"]), text(&child["name"]))),
            ),
            Some(kind @ ("function" | "custom")) => {
                identities.push((kind == "custom", String::new(), text(&tool["name"])));
            }
            _ => {}
        }
    }
    identities.sort();
    identities.dedup();
    identities
}

/// Calls the tool that the upstream knows as `name`; gives it as the client sees it, whole and streamed.
fn called(request: &ModelRequest, reply: &DialectReply, name: &str) -> [Identity; 2] {
    let settings = Settings::default();
    let overrides = Overrides::new(&settings, Faults::default(), &http::HeaderMap::new(), "");
    let call =
        Some(ForcedCall { name: name.to_owned(), arguments: Some(r#"{"input":"x"}"#.to_owned()) });
    let overrides = Overrides { call, ..overrides.expect("no options") };
    let models = model::all(&[]);
    let model = model::find(&models, "grok-4.3").expect("a model");
    let answer = Answer::new(request, model, &overrides, 0, 0);
    let envelope = Envelope { id: "1".to_owned(), created: 1, completed: 1 };
    let whole = responses::response(&answer, &envelope);
    let whole: Value = serde_json::from_slice(&reply.reply(whole.as_bytes())).expect("json");
    let (mut events, mut bytes) = (ResponsesEvents::new(&answer, &envelope), Vec::new());
    while !events.is_over() {
        events.next(&mut bytes);
    }
    let (mut stream, mut out) = (reply.clone().into_stream(), Vec::new());
    stream.push(&bytes, &mut out);
    stream.finish(&mut out);
    let out = String::from_utf8(out).expect("text");
    let last = out.rsplit("data: ").next().expect("an event");
    let last: Value = serde_json::from_str(last).expect("json");
    [&whole, &last["response"]].map(|response| {
        let item = response["output"].as_array().and_then(|items| items.last()).expect("an item");
        (item["type"] == "custom_tool_call", text(&item["namespace"]), text(&item["name"]))
    })
}

proptest! {
    #[test]
    fn what_the_dialect_writes_is_accepted_and_comes_back(body in body()) {
        let text = body.to_string();
        let options = DialectOptions { takes_effort: true };
        let written = Dialect::Xai.of_request(wire::surface::Surface::Responses, text.as_bytes(), options);
        let request = request::responses::read(&written.body).expect("a valid body");
        let models = model::all(&[]);
        let model = model::find(&models, "grok-4.3").expect("a model");
        let sent = String::from_utf8_lossy(&written.body).into_owned();
        prop_assert_eq!(strictness::check(Surface::Responses, &request, model), Ok(()), "{}", sent);
        let request = ModelRequest { after_tool: false, tools: crate::request::tools::Tools { choice: None, ..request.tools.clone() }, ..request };
        let mut seen = Vec::new();
        for function in request.tools.functions() {
            let [whole, streamed] = called(&request, &written.reply, function["name"].as_str().unwrap_or_default());
            prop_assert_eq!(&whole, &streamed, "{}", sent);
            seen.push(whole);
        }
        seen.sort();
        prop_assert_eq!(seen, identities(&body), "{}", sent);
    }
}
