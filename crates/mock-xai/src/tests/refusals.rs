//! Requests that xAI refuses, and surfaces that an upstream does not offer.

use super::{RawReply, chat, send, start};
use crate::RunningSimulator;
use crate::settings::Settings;
use serde_json::{Value, json};

async fn respond(running: &RunningSimulator, members: Value) -> RawReply {
    let mut body = json!({"model": "grok-4.3", "input": "hello"});
    for (name, value) in members.as_object().expect("members") {
        body[name] = value.clone();
    }
    send(running, "POST", "/v1/responses", "", &body.to_string()).await
}

fn status(reply: &RawReply) -> u16 {
    let status = reply.head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.expect("a status")
}

#[tokio::test]
async fn requests_of_other_dialects_are_refused_in_xais_words() {
    let running = start(Settings::default()).await;
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {}});
    let union = json!({"type": "function", "name": "f", "parameters": {"oneOf": []}});
    let long = function(&"n".repeat(65));
    let plain = "grok-4.20-0309-non-reasoning";
    let variant = "unknown variant `";
    let input = "did not match any variant of untagged enum ModelInput";
    let cases = [
        (
            json!({"tools": [function("f"), {"type": "namespace", "name": "n", "tools": []}]}),
            422,
            "tools[1].type: unknown variant `namespace`, expected one of `function`, `web_search`",
        ),
        (json!({"tools": [{"type": "custom", "name": "c"}]}), 422, variant),
        (json!({"tools": [{"type": "local_shell"}]}), 422, variant),
        (json!({"tools": [{"type": "web_search_preview"}]}), 422, variant),
        (json!({"tools": [{"type": "tool_search"}]}), 422, variant),
        (json!({"tools": [{}]}), 422, variant),
        (
            json!({"tools": [{"type": "web_search", "external_web_access": true}]}),
            400,
            "Argument not supported: external_web_access",
        ),
        (
            json!({"input": [{"type": "reasoning", "summary": [], "content": null}]}),
            400,
            "Could not decode the compaction blob",
        ),
        (
            json!({"input": [{"type": "custom_tool_call", "name": "c", "call_id": "1", "input": "x"}]}),
            422,
            input,
        ),
        (json!({"input": [{"type": "tool_search_output", "tools": []}]}), 422, input),
        (json!({"input": 7}), 422, input),
        (json!({"tools": [union]}), 400, "Invalid parameters of the function 'f'"),
        (json!({"tools": [function("f"), function("f")]}), 400, "The name of a function"),
        (json!({"tools": [long]}), 400, "The name of a function"),
        (
            json!({"model": plain, "reasoning": {"effort": "none"}}),
            400,
            "Model grok-4.20-0309-non-reasoning does not support parameter reasoningEffort.",
        ),
        (
            json!({"tool_choice": "none"}),
            400,
            "A tool_choice was set on the request but no tools were specified.",
        ),
        (json!({"tool_choice": "auto", "tools": []}), 400, "no tools were specified"),
        (
            json!({"tools": [function("f")], "tool_choice": {"type": "function", "name": "g"}}),
            400,
            "'g'",
        ),
        (
            json!({"tools": [function("f")], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}),
            422,
            "did not match any variant of untagged enum ModelToolChoice",
        ),
        (json!({"model": "grok-9"}), 404, "The model grok-9 does not exist"),
    ];
    for (members, expected, words) in cases {
        let reply = respond(&running, members.clone()).await;
        assert_eq!(status(&reply), expected, "{members}: {}", reply.text());
        assert!(reply.json()["error"].as_str().expect("text").contains(words), "{}", reply.text());
    }
    assert!(running.log.entries().is_empty(), "nothing is billed");
}

#[tokio::test]
async fn custom_tools_of_chat_are_refused() {
    let running = start(Settings::default()).await;
    let function = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
    for members in [
        r#","tools":[{"type":"custom","custom":{"name":"c"}}]"#.to_owned(),
        format!(r#",{function},"tool_choice":{{"type":"custom","custom":{{"name":"f"}}}}"#),
        format!(r#",{function},"tool_choice":{{"type":"allowed_tools","allowed_tools":{{}}}}"#),
    ] {
        assert_eq!(status(&chat(&running, "hello", &members).await), 422, "{members}");
    }
    let call = json!({"id": "c", "type": "custom", "custom": {"name": "c", "input": "x"}});
    let body = json!({"model": "grok-4.3", "messages": [
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]});
    let refused = send(&running, "POST", "/v1/chat/completions", "", &body.to_string()).await;
    assert_eq!(status(&refused), 422);
    assert!(refused.text().contains("unknown variant `custom`, expected `function`"));
}

#[tokio::test]
async fn a_marker_turns_refusals_off() {
    let running = start(Settings::default()).await;
    let lenient = "hello [sim lenient]";
    for members in [
        json!({"input": lenient, "tools": [{"type": "namespace", "name": "n", "tools": []}]}),
        json!({"input": lenient, "tool_choice": "required"}),
        json!({"input": [{"type": "reasoning", "content": null}, {"role": "user", "content": lenient}]}),
    ] {
        assert_eq!(status(&respond(&running, members).await), 200);
    }
    assert_eq!(status(&chat(&running, lenient, r#","tool_choice":"auto""#).await), 200);
    assert_eq!(status(&chat(&running, "hello", r#","tool_choice":"auto""#).await), 400);
}

#[tokio::test]
async fn surfaces_that_are_not_offered_are_unknown_paths() {
    let surfaces = "chat".parse().expect("a surface");
    let running = start(Settings { surfaces, ..Settings::default() }).await;
    assert_eq!(status(&chat(&running, "hello", "").await), 200);
    let reply = respond(&running, json!({})).await;
    assert_eq!((status(&reply), reply.json()), (404, json!({"detail": "Not Found"})));
    let stored = send(&running, "GET", "/v1/responses/x", "", "").await;
    assert_eq!((status(&stored), stored.json()), (404, json!({"detail": "Not Found"})));
    assert_eq!(status(&send(&running, "GET", "/v1/models", "", "").await), 200);
}

#[tokio::test]
async fn hostile_bodies_are_refused_or_answered() {
    let running = start(Settings::default()).await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for members in [
        r#","n":4294967295"#.to_owned(),
        r#","max_tokens":18446744073709551615"#.to_owned(),
        format!(r#","tools":{deep}"#),
        format!(r#","tool_choice":{deep}"#),
        format!(r#","response_format":{deep}"#),
        r#","tools":[null,1,"x",{"function":7},{"type":"function","function":{"name":{}}}]"#
            .to_owned(),
        r#","tools":{"0":1}"#.to_owned(),
        r##","response_format":{"type":"json_schema","json_schema":{"schema":{"$ref":"#"}}}"##
            .to_owned(),
        r#","reasoning_effort":["low"]"#.to_owned(),
    ] {
        let reply = chat(&running, "hello", &members).await;
        assert!(matches!(status(&reply), 200 | 400 | 422), "{}", reply.head);
    }
    for text in ["tokens=100000000", "token-ms=99999999999", "fault=overrun=18446744073709551615"] {
        let marker = format!("[sim {text}]");
        let reply = chat(&running, &marker, r#","n":2000,"max_tokens":18446744073709551615"#).await;
        assert_eq!(status(&reply), 400, "{text}");
    }
    for members in [
        json!({"text": {"format": {"type": "json_schema"}}, "tools": [], "metadata": [1]}),
        json!({"input": [[], null], "reasoning": {}}),
        json!({"reasoning": "low"}),
    ] {
        assert!(matches!(status(&respond(&running, members).await), 200 | 400 | 422));
    }
}
