//! The body of `/v1/messages` and `/v1/messages/count_tokens`.

use super::output_format::structured_text;
use super::tools::Tools;
use super::{InvalidBody, Message, ModelRequest, PromptReader};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct MessagesBody<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    messages: Vec<Message<'a>>,
    system: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    max_tokens: Option<u64>,
    tools: Option<&'a RawValue>,
    tool_choice: Option<&'a RawValue>,
    thinking: Option<Thinking<'a>>,
    output_config: Option<OutputConfig<'a>>,
    output_format: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Thinking<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct OutputConfig<'a> {
    #[serde(borrow)]
    effort: Option<Cow<'a, str>>,
    format: Option<&'a RawValue>,
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<ModelRequest, InvalidBody> {
    let body: MessagesBody<'_> = serde_json::from_slice(body)?;
    let mut prompt = PromptReader::default();
    if let Some(system) = body.system {
        prompt.add_text(system.get().trim_matches('"'));
    }
    body.messages.iter().for_each(|message| prompt.add_message(message));
    prompt.add_tools(body.tools);
    let output = body.output_config.unwrap_or_default();
    Ok(ModelRequest {
        model: body.model.into_owned(),
        stream: body.stream.unwrap_or(false),
        include_usage: true,
        max_tokens: body.max_tokens,
        choices: 1,
        tools: Tools::read(body.tools, body.tool_choice)?,
        structured: structured_text(output.format.or(body.output_format))?,
        show_reasoning: body.thinking.is_some_and(|thinking| thinking.kind != "disabled"),
        effort: output.effort.map(Cow::into_owned),
        ..prompt.into_request()
    })
}
