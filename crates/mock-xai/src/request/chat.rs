//! The body of `/v1/chat/completions`.

use super::output_format::structured_text;
use super::tools::Tools;
use super::{InvalidBody, Message, ModelRequest, PromptReader, StreamOptions};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct ChatBody<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    messages: Vec<Message<'a>>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u32>,
    tools: Option<&'a RawValue>,
    tool_choice: Option<&'a RawValue>,
    response_format: Option<&'a RawValue>,
    reasoning_effort: Option<Cow<'a, str>>,
    deferred: Option<bool>,
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<ModelRequest, InvalidBody> {
    let body: ChatBody<'_> = serde_json::from_slice(body)?;
    let mut prompt = PromptReader::default();
    body.messages.iter().for_each(|message| prompt.add_message(message));
    prompt.add_tools(body.tools);
    Ok(ModelRequest {
        model: body.model.into_owned(),
        stream: body.stream.unwrap_or(false),
        stream_options: body.stream_options.is_some(),
        include_usage: body.stream_options.is_some_and(|options| options.include_usage),
        max_tokens: body.max_completion_tokens.or(body.max_tokens),
        choices: body.n.unwrap_or(1).max(1),
        tools: Tools::read(body.tools, body.tool_choice)?,
        call_types: call_types(&body.messages),
        structured: structured_text(body.response_format)?,
        show_reasoning: body.reasoning_effort.is_some(),
        effort: body.reasoning_effort.map(Cow::into_owned),
        deferred: body.deferred.unwrap_or(false),
        ..prompt.into_request()
    })
}

/// The types of all calls in the messages.
fn call_types(messages: &[Message<'_>]) -> Vec<String> {
    let calls = messages.iter().filter_map(|message| message.tool_calls.as_ref()?.as_array());
    calls.flatten().filter_map(|call| call["type"].as_str().map(str::to_owned)).collect()
}
