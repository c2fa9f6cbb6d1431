//! The body of `/v1/responses`.

use super::{Content, InvalidBody, Message, ModelRequest, PromptReader};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct ResponsesBody<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    input: Input<'a>,
    instructions: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    max_output_tokens: Option<u64>,
    tools: Option<&'a RawValue>,
    reasoning: Option<&'a RawValue>,
    previous_response_id: Option<Cow<'a, str>>,
    store: Option<bool>,
    include: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Input<'a> {
    #[default]
    None,
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Items(Vec<Message<'a>>),
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<ModelRequest, InvalidBody> {
    let body: ResponsesBody<'_> = serde_json::from_slice(body)?;
    let mut prompt = PromptReader::default();
    if let Some(text) = &body.instructions {
        prompt.add_message(&Message {
            role: "system".into(),
            content: Some(Content::Text(text.clone())),
            ..Message::default()
        });
    }
    match body.input {
        Input::Text(text) => {
            prompt.add_message(&Message {
                role: "user".into(),
                content: Some(Content::Text(text)),
                ..Message::default()
            });
        }
        Input::None => {}
        Input::Items(items) => items.iter().for_each(|item| prompt.add_message(item)),
    }
    Ok(ModelRequest {
        model: body.model.into_owned(),
        stream: body.stream.unwrap_or(false),
        include_usage: true,
        max_tokens: body.max_output_tokens,
        choices: 1,
        function: prompt.add_tools(body.tools),
        show_reasoning: body.reasoning.is_some(),
        previous_response: body.previous_response_id.map(Cow::into_owned),
        store: body.store.unwrap_or(true),
        wants_seal: body.include.iter().flatten().any(|name| name == "reasoning.encrypted_content"),
        ..prompt.into_request()
    })
}
