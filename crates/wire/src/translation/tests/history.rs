//! Conversations whose items stand in an order that chat completions do not have.

use super::OPTIONS;
use crate::surface::Surface;
use crate::translation::Translation;
use serde_json::{Value, json};

/// The messages of the chat completion that these input items become.
fn messages(input: &Value) -> Value {
    let body = json!({"model": "m", "input": input}).to_string();
    let (from, to) = (Surface::Responses, Surface::ChatCompletions);
    let translated = Translation::of_request(from, to, body.as_bytes(), &OPTIONS).unwrap();
    serde_json::from_slice::<Value>(&translated.body).unwrap()["messages"].take()
}

#[test]
fn outputs_follow_the_message_with_their_calls() {
    let call =
        |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "ok"});
    let says = |text: &str| json!({"type": "message", "role": "assistant", "content": text});
    let reasons = json!({"type": "reasoning", "summary": [], "encrypted_content": "x"});
    for between in [vec![], vec![says("b")], vec![reasons.clone()], vec![reasons, says("b")]] {
        let behind = between.iter().any(|item| item["content"] == "b");
        let mut input = vec![says("a"), call("1")];
        input.extend(between);
        input.extend([call("2"), output("1"), output("2"), says("done")]);
        let messages = messages(&Value::from(input));
        let roles: Vec<_> = messages.as_array().unwrap().iter().map(|m| &m["role"]).collect();
        assert_eq!(roles, ["assistant", "tool", "tool", "assistant"], "{messages}");
        assert_eq!(messages[0]["content"], if behind { "a\n\nb" } else { "a" });
        assert_eq!(messages[0]["tool_calls"].as_array().unwrap().len(), 2);
        assert_eq!(messages[1]["tool_call_id"], "1");
    }
    let separate = messages(&json!([says("a"), says("b")]));
    assert_eq!(separate.as_array().unwrap().len(), 2, "nothing has to follow them");
}
