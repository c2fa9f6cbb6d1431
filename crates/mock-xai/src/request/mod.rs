//! Requests to a model: the parts of a body that decide the answer, whatever the surface.

pub mod chat;
pub mod responses;
pub mod completions;
pub mod messages;
pub mod embeddings;
pub mod images;
pub mod tokenize;
pub mod tools;
mod output_format;
mod texts;

use crate::settings::ForcedCall;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;
use tools::{Function, Tools};

/// A request, reduced to the parts that decide the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "bodies have that many switches")]
pub struct ModelRequest {
    pub model: String,
    pub stream: bool,
    pub include_usage: bool,
    /// The limit on visible tokens of each choice.
    pub max_tokens: Option<u64>,
    pub choices: u32,
    /// o200k tokens, with 3 a message, 1 a name and 3 for the reply.
    pub prompt_tokens: u64,
    /// A digest of all texts: the same words get the same answer.
    pub digest: u64,
    pub last_user_text: String,
    pub tools: Tools,
    /// Types of the earlier calls in the messages of a chat.
    pub call_types: Vec<String>,
    /// The last message is a tool's result, so the answer is text.
    pub after_tool: bool,
    /// The text of structured output.
    pub structured: Option<String>,
    /// The effort of reasoning that the request names.
    pub effort: Option<String>,
    /// True if the reply shows its reasoning.
    pub show_reasoning: bool,
    /// Members that a response repeats.
    pub echo: Arc<Map<String, Value>>,
    /// Items of the input of a response.
    pub input: Arc<[Value]>,
    pub previous_response: Option<String>,
    /// True if the reply is stored for a later `GET`.
    pub store: bool,
    /// True if the reply is fetched by a later request.
    pub deferred: bool,
    /// True if embeddings or images are encoded in base64.
    pub in_base64: bool,
    pub stream_options: bool,
    /// True if the reply includes sealed reasoning, for the next request to send back.
    pub wants_seal: bool,
    /// Sealed reasoning that the request sends back.
    pub seals: Vec<String>,
}

impl ModelRequest {
    /// The function that the answer calls, if it calls one.
    pub fn call(&self, forced: Option<&ForcedCall>) -> Option<Function> {
        self.tools.call(self.last_user_text.contains("tool"), self.after_tool, forced)
    }

    /// True if the request asks a model to reason that does not always do so.
    pub fn asks_reasoning(&self) -> bool {
        match &self.effort {
            Some(effort) => effort != "none",
            None => self.show_reasoning || self.wants_seal,
        }
    }
}

/// A body that is not a valid request. The message is serde's, as in xAI's own replies.
#[derive(Debug, thiserror::Error)]
#[error("Failed to deserialize the JSON body into the target type: {0}")]
pub struct InvalidBody(#[from] serde_json::Error);

/// The `stream_options` of a body.
#[derive(Deserialize)]
pub struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
}

/// A message of a chat, or an item of `input`.
#[derive(Default, Deserialize)]
pub struct Message<'a> {
    #[serde(borrow, default)]
    role: Cow<'a, str>,
    content: Option<Content<'a>>,
    name: Option<Cow<'a, str>>,
    encrypted_content: Option<Cow<'a, str>>,
    tool_calls: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Content<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

#[derive(Deserialize)]
pub struct Part<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// The prompt, read message by message.
pub struct PromptReader {
    pub tokens: u64,
    digest: u64,
    last_user_text: String,
    seals: Vec<String>,
    /// The last message is a tool's result, so the answer is text.
    after_tool: bool,
}

impl Default for PromptReader {
    fn default() -> Self {
        // 3 tokens prime the reply; the digest begins at FNV-1a's offset basis.
        Self {
            tokens: 3,
            digest: 0xcbf2_9ce4_8422_2325,
            last_user_text: String::new(),
            seals: Vec::new(),
            after_tool: false,
        }
    }
}

impl PromptReader {
    /// Reads prompts to which no chat template is applied.
    pub fn without_template() -> Self {
        Self { tokens: 0, ..Self::default() }
    }

    /// The request, as far as it follows from the prompt.
    pub fn into_request(self) -> ModelRequest {
        ModelRequest {
            prompt_tokens: self.tokens,
            digest: self.digest,
            last_user_text: self.last_user_text,
            seals: self.seals,
            after_tool: self.after_tool,
            ..ModelRequest::default()
        }
    }

    /// Adds a text that is a whole prompt.
    pub fn add_prompt(&mut self, text: &str) {
        self.add_text(text);
        self.last_user_text.push_str(text);
    }

    pub fn add_message(&mut self, message: &Message<'_>) {
        // As OpenAI's chat template: three tokens a message, and its role and name as text.
        self.tokens += 3;
        self.add_text(&message.role);
        self.seals.extend(message.encrypted_content.iter().map(ToString::to_string));
        if let Some(name) = &message.name {
            self.tokens += 1;
            self.add_text(name);
        }
        let from_user = message.role == "user";
        if from_user {
            self.last_user_text.clear();
        }
        self.after_tool = !from_user && message.role != "system" && message.role != "developer";
        let texts = match &message.content {
            None => &[],
            Some(Content::Text(text)) => std::slice::from_ref(text),
            Some(Content::Parts(parts)) => {
                &parts.iter().filter_map(|p| p.text.clone()).collect::<Vec<_>>()[..]
            }
        };
        for text in texts {
            self.add_text(text);
            if from_user {
                self.last_user_text.push_str(text);
            }
        }
    }

    pub fn add_text(&mut self, text: &str) {
        self.tokens += o200k::count(text) as u64;
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Counts the tools as text.
    pub fn add_tools(&mut self, tools: Option<&RawValue>) {
        let tools = tools.map(RawValue::get).filter(|tools| *tools != "null");
        self.tokens += tools.map_or(0, |tools| o200k::count(tools) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: &str = r#"[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}]"#;

    #[test]
    fn a_prompt_counts_messages_names_and_the_priming() {
        let request = chat::read(
            br#"{"model":"m","messages":[{"role":"user","content":"hello","name":"bob"}]}"#,
        )
        .expect("good");
        assert_eq!(request.prompt_tokens, 3 + 3 + 1 + 1 + 1 + 1);
        assert!(!request.stream && !request.include_usage && request.choices == 1);
    }

    #[test]
    fn parts_count_as_the_same_text() {
        let text =
            chat::read(br#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#)
                .expect("good");
        let parts = chat::read(
            br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hello there"},{"type":"image_url","image_url":{"url":"data:"}}]}]}"#,
        );
        assert_eq!(text, parts.expect("good"));
    }

    #[test]
    fn both_routes_read_the_same_prompt() {
        let chat = chat::read(br#"{"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"h\u00e9"}]}"#);
        let responses = responses::read(br#"{"model":"m","instructions":"be kind","input":[{"role":"user","content":[{"type":"input_text","text":"h\u00e9"}]}]}"#);
        let (chat, responses) = (chat.expect("good"), responses.expect("good"));
        assert_eq!((chat.prompt_tokens, chat.digest), (responses.prompt_tokens, responses.digest));
    }

    #[test]
    fn a_tool_is_called_when_spoken_of_and_not_answered_yet() {
        let request = |messages: &str| {
            chat::read(
                format!(r#"{{"model":"m","messages":{messages},"tools":{TOOLS}}}"#).as_bytes(),
            )
            .expect("good")
        };
        let called =
            request(r#"[{"role":"user","content":"use the tool"}]"#).call(None).expect("a call");
        assert_eq!(called.name, "weather");
        assert_eq!(called.arguments, r#"{"city":"Paris","days":1}"#);
        assert_eq!(request(r#"[{"role":"user","content":"hi"}]"#).call(None), None);
        let answered = r#"[{"role":"user","content":"use the tool"},{"role":"assistant","content":null},{"role":"tool","content":"ok"}]"#;
        assert_eq!(request(answered).call(None), None);
    }

    #[test]
    fn missing_messages_are_named() {
        let error = chat::read(br#"{"model":"m"}"#).expect_err("no messages");
        assert!(error.to_string().contains("missing field `messages`"), "{error}");
    }
}
