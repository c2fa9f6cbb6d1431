//! Hostile bodies: an error or a translation, never a panic.

use super::{OPTIONS, PAIRS, reply_translation, stream, translate};
use crate::surface::Surface;
use crate::translation::Translation;
use proptest::prelude::*;
use serde_json::{Value, json};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "user",
            "assistant",
            "tool",
            "text",
            "function",
            "message",
            "data:,"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let names = prop::sample::select(vec![
            "type",
            "role",
            "content",
            "text",
            "tools",
            "function",
            "name",
            "id",
            "call_id",
            "input",
            "output",
            "arguments",
            "choices",
            "delta",
            "tool_calls",
            "index",
            "item",
            "response",
            "usage",
            "source",
            "data",
            "media_type",
            "image_url",
            "error",
            "summary",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(names.prop_map(str::to_owned), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_member_may_have_any_value(
        which in prop::sample::select(vec![
            "messages", "input", "tools", "tool_choice", "system", "thinking", "stop", "stream",
            "response_format", "text", "reasoning", "max_tokens", "metadata", "output_config",
        ]),
        bad in value(),
    ) {
        for (from, to) in PAIRS {
            let mut body = json!({
                "model": "m", "max_tokens": 5, "input": "Hi",
                "messages": [{"role": "user", "content": "Hi"}],
            });
            body[which] = bad.clone();
            if let Ok(translated) = translate(from, to, &body) {
                prop_assert!(serde_json::from_slice::<Value>(&translated.body).is_ok());
            }
        }
    }

    #[test]
    fn any_event_may_come(
        kind in prop::sample::select(vec![
            "response.output_item.added", "response.output_item.done", "response.completed",
            "response.output_text.delta", "response.function_call_arguments.delta", "error",
        ]),
        event in value(),
    ) {
        let mut event = event;
        if let Some(members) = event.as_object_mut() {
            members.insert("type".to_owned(), kind.into());
        }
        for (from, to) in PAIRS {
            let upstream = format!("data: {event}\n\ndata: {event}\n\n");
            let stream = stream(reply_translation(from, to), &upstream, 50);
            prop_assert!(stream.is_empty() || stream.ends_with("\n\n"));
            let _ = reply_translation(from, to).reply(event.to_string().as_bytes(), None);
        }
    }
}

#[test]
fn deep_nesting_and_broken_bodies_are_refused() {
    let deep = format!("{{\"model\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [deep.as_str(), "", "[]", "{", "null", "{\"model\":\"\\ud800\"}", "\u{feff}"] {
        for (from, to) in PAIRS {
            assert!(Translation::of_request(from, to, body.as_bytes(), &OPTIONS).is_err());
        }
    }
    assert!(
        Translation::of_request(PAIRS[0].0, PAIRS[0].1, b"{\"model\":\"\xff\"}", &OPTIONS).is_err()
    );
}

#[test]
fn long_lists_are_translated() {
    let message = json!({"role": "user", "content": "x"});
    let body = json!({"model": "m", "max_tokens": 5, "input": vec![message.clone(); 5_000],
        "messages": vec![message; 5_000]});
    for (from, to) in PAIRS {
        assert!(translate(from, to, &body).unwrap().body.len() > 5_000);
    }
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    let refused = |from: Surface, to: Surface, member: &str, value: Value| {
        let mut body = json!({"model": "m", "max_tokens": 5, "input": "Hi",
            "messages": [{"role": "user", "content": "Hi"}]});
        body[member] = value;
        translate(from, to, &body).unwrap_err().param
    };
    let (chat, responses, messages) =
        (Surface::ChatCompletions, Surface::Responses, Surface::Messages);
    assert_eq!(
        refused(responses, chat, "previous_response_id", json!("r")),
        "previous_response_id"
    );
    assert_eq!(refused(responses, chat, "conversation", json!("c")), "conversation");
    assert_eq!(refused(responses, chat, "background", json!(true)), "background");
    assert_eq!(
        refused(responses, chat, "tools", json!([{"type": "file_search"}])),
        "tools[0].type"
    );
    // Written once for each of its tools, a long name would grow the request without bound.
    let space = |length| json!([{"type": "namespace", "name": "n".repeat(length), "tools": []}]);
    assert_eq!(refused(responses, chat, "tools", space(129)), "tools[0].name");
    assert!(
        translate(responses, chat, &json!({"model": "m", "input": "x", "tools": space(128)}))
            .is_ok()
    );
    assert_eq!(
        refused(responses, chat, "input", json!([{"role": "user", "content": [{"type": "x"}]}])),
        "input[0].content[0].type"
    );
    assert_eq!(
        refused(responses, chat, "tool_choice", json!({"type": "web_search"})),
        "tool_choice"
    );
    assert_eq!(refused(chat, responses, "n", json!(2)), "n");
    assert_eq!(refused(chat, responses, "presence_penalty", json!(0.5)), "presence_penalty");
    assert_eq!(refused(chat, responses, "logprobs", json!(true)), "logprobs");
    assert_eq!(refused(messages, responses, "mcp_servers", json!([])), "mcp_servers");
    assert_eq!(
        refused(
            messages,
            chat,
            "messages",
            json!([{"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "file"}}]},
            ]}])
        ),
        "messages[0].content[0].content[0].source.type"
    );
    assert_eq!(refused(messages, responses, "model", json!(7)), "model");
}

/// Clients of messages see the message alone.
#[test]
fn a_message_names_the_path_of_its_field() {
    let said = |from: Surface, to: Surface, body: Value| {
        let error = translate(from, to, &body).unwrap_err();
        assert!(error.message.contains(&error.param), "{error:?}");
        assert!(error.message.len() < 400, "{}", error.message.len());
        error.message
    };
    let (chat, responses, messages) =
        (Surface::ChatCompletions, Surface::Responses, Surface::Messages);
    let turn = |content: Value| json!({"role": "user", "content": content});
    let body =
        |last: Value| json!({"model": "m", "max_tokens": 5, "messages": [turn(json!("Hi")), last]});
    let text = json!({"type": "text", "text": "Hi"});
    assert_eq!(
        said(messages, chat, body(turn(json!([text, {"type": "text", "text": 7}])))),
        "Invalid type for 'messages[1].content[1].text': expected a string."
    );
    assert_eq!(
        said(messages, chat, body(turn(json!([text, 7])))),
        "messages[1].content[1]: Expected an object."
    );
    assert_eq!(
        said(chat, responses, body(turn(json!([{"type": "image_url", "image_url": {}}])))),
        "Missing required parameter: 'messages[1].content[0].image_url.url'."
    );
    assert!(
        said(chat, responses, body(json!({"role": "x".repeat(9000)})))
            .starts_with("messages[1].role: Unknown role: 'xxx")
    );
    let item = json!({"type": "y".repeat(9000)});
    assert!(
        said(responses, chat, json!({"model": "m", "input": [item]}))
            .starts_with("input[0].type: The type 'yyy")
    );
    assert!(
        said(chat, responses, json!({"model": "m", "messages": [], "n": 2}))
            .starts_with("'n' is not")
    );
}
