//! The body of `/v1/responses`.

use super::output_format::structured_text;
use super::tools::Tools;
use super::{Content, InvalidBody, Message, ModelRequest, PromptReader};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Deserialize)]
struct ResponsesBody<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    input: ModelInput<'a>,
    instructions: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    max_output_tokens: Option<u64>,
    tools: Option<&'a RawValue>,
    tool_choice: Option<&'a RawValue>,
    text: Option<TextOptions<'a>>,
    reasoning: Option<ReasoningOptions<'a>>,
    previous_response_id: Option<Cow<'a, str>>,
    store: Option<bool>,
    include: Option<Vec<String>>,
}

/// Named as at xAI, whose errors show the name.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum ModelInput<'a> {
    #[default]
    None,
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Items(Vec<Message<'a>>),
}

#[derive(Deserialize)]
struct TextOptions<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ReasoningOptions<'a> {
    #[serde(borrow)]
    effort: Option<Cow<'a, str>>,
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<ModelRequest, InvalidBody> {
    let members = body;
    let body: ResponsesBody<'_> = serde_json::from_slice(body)?;
    let mut prompt = PromptReader::default();
    if let Some(text) = &body.instructions {
        prompt.add_message(&text_message("system", text.clone()));
    }
    match body.input {
        ModelInput::Text(text) => prompt.add_message(&text_message("user", text)),
        ModelInput::None => {}
        ModelInput::Items(items) => items.iter().for_each(|item| prompt.add_message(item)),
    }
    prompt.add_tools(body.tools);
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(members)?;
    Ok(ModelRequest {
        model: body.model.into_owned(),
        stream: body.stream.unwrap_or(false),
        include_usage: true,
        max_tokens: body.max_output_tokens,
        choices: 1,
        tools: Tools::read(body.tools, body.tool_choice)?,
        structured: structured_text(body.text.and_then(|text| text.format))?,
        show_reasoning: body.reasoning.is_some(),
        effort: body.reasoning.and_then(|reasoning| reasoning.effort).map(Cow::into_owned),
        previous_response: body.previous_response_id.map(Cow::into_owned),
        store: body.store.unwrap_or(true),
        wants_seal: body.include.iter().flatten().any(|name| name == "reasoning.encrypted_content"),
        echo: Arc::new(echo(&members)?),
        input: input_items(members.get("input").copied())?,
        ..prompt.into_request()
    })
}

fn text_message<'a>(role: &'static str, text: Cow<'a, str>) -> Message<'a> {
    Message { role: role.into(), content: Some(Content::Text(text)), ..Message::default() }
}

/// Members that a response repeats, with xAI's defaults.
fn echo(sent: &HashMap<Cow<'_, str>, &RawValue>) -> Result<Map<String, Value>, InvalidBody> {
    let defaults = json!({
        "background": false, "frequency_penalty": 0.0, "instructions": null, "max_output_tokens": null,
        "max_tool_calls": null, "metadata": {}, "parallel_tool_calls": true, "presence_penalty": 0.0,
        "previous_response_id": null, "prompt_cache_key": null, "reasoning": {}, "safety_identifier": null,
        "service_tier": "default", "store": true, "temperature": 0.699_999_988_079_071, "text": {},
        "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 0.949_999_988_079_071,
        "truncation": "disabled", "user": null,
    });
    let Value::Object(mut echo) = defaults else { return Ok(Map::new()) };
    for (name, value) in &mut echo {
        if let Some(sent) = sent.get(name.as_str()).filter(|sent| sent.get() != "null") {
            *value = serde_json::from_str(sent.get())?;
        }
    }
    if echo["service_tier"] == "auto" {
        echo["service_tier"] = "default".into();
    }
    if echo["text"].get("format").is_none() {
        echo["text"] = json!({"format": {"type": "text"}});
    }
    let effort = echo["reasoning"].get("effort").cloned();
    echo["reasoning"] = json!({"effort": effort, "summary": "detailed"});
    Ok(echo)
}

/// The input as items; a text is a message of the user.
fn input_items(input: Option<&RawValue>) -> Result<Arc<[Value]>, InvalidBody> {
    let input = input.map(|input| serde_json::from_str(input.get())).transpose()?;
    Ok(match input {
        Some(Value::Array(items)) => items.into(),
        Some(Value::String(text)) => {
            let content = json!([{"type": "input_text", "text": text}]);
            Arc::new([json!({"type": "message", "role": "user", "content": content})])
        }
        _ => Arc::new([]),
    })
}
