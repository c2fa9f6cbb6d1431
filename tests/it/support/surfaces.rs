//! The surfaces whose replies are text, and how each is called.

use super::http_client::Call;
use super::{Gateway, Key};
use serde_json::{Value, json};

/// A surface whose replies are text.
#[derive(Clone, Copy)]
pub struct Surface {
    pub path: &'static str,
    /// The members of a body that hold this prompt.
    pub prompt: fn(&str) -> Value,
    /// Names of the numbers of input and output tokens in a reply's usage.
    pub usage: [&'static str; 2],
    /// Name of the limit on output tokens.
    pub limit: &'static str,
    /// The end of a stream that is complete.
    pub last: &'static str,
    /// What only a complete stream contains.
    pub end: &'static str,
}

pub const TEXT_SURFACES: [Surface; 4] = [
    Surface {
        path: "/v1/chat/completions",
        prompt: |text| json!({"messages": [{"role": "user", "content": text}]}),
        usage: ["prompt_tokens", "completion_tokens"],
        limit: "max_completion_tokens",
        last: "data: [DONE]\n\n",
        end: "[DONE]",
    },
    Surface {
        path: "/v1/responses",
        prompt: |text| json!({"input": text}),
        usage: ["input_tokens", "output_tokens"],
        limit: "max_output_tokens",
        last: "\"type\":\"response.completed\"",
        end: "response.completed",
    },
    Surface {
        path: "/v1/completions",
        prompt: |text| json!({"prompt": text}),
        usage: ["prompt_tokens", "completion_tokens"],
        limit: "max_tokens",
        last: "data: [DONE]\n\n",
        end: "[DONE]",
    },
    Surface {
        path: "/v1/messages",
        prompt: |text| json!({"max_tokens": 500, "messages": [{"role": "user", "content": text}]}),
        usage: ["input_tokens", "output_tokens"],
        limit: "max_tokens",
        last: "\"type\":\"message_stop\"}\n\n",
        end: "message_stop",
    },
];

impl Surface {
    /// A body that asks `grok-4.3` for `text`; `members` are added or replaced.
    pub fn body(&self, text: &str, members: Value) -> String {
        let mut body = (self.prompt)(text);
        body["model"] = "grok-4.3".into();
        merge(&mut body, members);
        body.to_string()
    }

    /// A call with this body, not yet sent.
    pub fn call(&self, gw: &Gateway, key: &Key, body: &str) -> Call {
        Call::post(gw.addr(), self.path).key(&key.text).body(body.to_owned())
    }
}

/// Adds or replaces members of an object.
pub fn merge(object: &mut Value, members: Value) {
    for (name, value) in members.as_object().unwrap() {
        object[name] = value.clone();
    }
}
