//! Reads a request for a response.

use super::read_tools::{read_tool, read_tool_choice};
use crate::json;
use crate::translation::chat::read_request::{read_schema, unknown_kind};
use crate::translation::error::{TranslationError, quoted};
use crate::translation::object::{Object, each, elements, is_text};
use crate::translation::request::{
    Call, CallKind, CallOutput, Format, Item, Part, Reasoning, ReasoningOptions, Request, Role,
    Sampling,
};
use serde_json::value::RawValue;
use std::borrow::Cow;

type Result<T> = std::result::Result<T, TranslationError>;

/// Reads the body of a request.
pub(in crate::translation) fn read<'a>(body: &Object<'a>) -> Result<Request<'a>> {
    refuse_stored(body)?;
    let in_text = |error: TranslationError| error.within("text");
    let text = body.object("text")?.unwrap_or_default();
    let mut request = Request {
        model: body.required_text("model")?,
        instructions: body.text("instructions")?,
        parallel_tool_calls: body.flag("parallel_tool_calls")?,
        sampling: Sampling {
            temperature: body.number("temperature")?,
            top_p: body.number("top_p")?,
            ..Sampling::default()
        },
        max_output: body.count("max_output_tokens")?,
        reasoning: read_reasoning(body)?,
        format: read_format(&text).map_err(|error| in_text(error.within("format")))?,
        verbosity: text.text("verbosity").map_err(in_text)?,
        cache_key: body.text("prompt_cache_key")?,
        service_tier: body.text("service_tier")?,
        stream: body.flag("stream")?.unwrap_or(false),
        ..Request::default()
    };
    match body.get("input") {
        None => return Err(TranslationError::missing("input")),
        Some(input) if is_text(input) => {
            request.push_message(Role::User, Part::text(json::text(input)));
        }
        Some(_) => each(&body.list("input")?, |item| read_item(item, &mut request))
            .map_err(|error| error.within("input"))?,
    }
    each(&body.list("tools")?, |tool| read_tool(tool, None, &mut request.tools))
        .map_err(|error| error.within("tools"))?;
    read_tool_choice(body, &mut request).map_err(|error| error.within("tool_choice"))?;
    Ok(request)
}

/// Refuses references to what an upstream stores: this one stores nothing.
fn refuse_stored(body: &Object<'_>) -> Result<()> {
    for name in ["previous_response_id", "conversation"] {
        if body.has(name) {
            let message = format!(
                "'{name}' is not supported for this model: its upstream stores no conversations. \
                 Send the whole conversation in 'input'."
            );
            return Err(TranslationError::new(name, message));
        }
    }
    body.refuse(&["prompt"])?;
    if body.flag("background")? == Some(true) {
        return Err(TranslationError::unsupported("background"));
    }
    if body.count("top_logprobs")?.is_some_and(|count| count > 0) {
        return Err(TranslationError::unsupported("top_logprobs"));
    }
    Ok(())
}

fn read_reasoning<'a>(body: &Object<'a>) -> Result<ReasoningOptions<'a>> {
    let include = body.list("include")?;
    let encrypted = include.iter().any(|name| name.get() == "\"reasoning.encrypted_content\"");
    let Some(reasoning) = body.object("reasoning")? else {
        return Ok(ReasoningOptions { encrypted, ..ReasoningOptions::default() });
    };
    let within = |error: TranslationError| error.within("reasoning");
    let summary = reasoning.text("summary").map_err(within)?;
    Ok(ReasoningOptions { effort: reasoning.text("effort").map_err(within)?, summary, encrypted })
}

fn read_format<'a>(text: &Object<'a>) -> Result<Option<Format<'a>>> {
    let Some(format) = text.object("format")? else { return Ok(None) };
    match &*format.kind() {
        "text" => Ok(Some(Format::Text)),
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => read_schema(&format).map(Some),
        kind => Err(unknown_kind(kind)),
    }
}

fn read_item<'a>(raw: &'a RawValue, request: &mut Request<'a>) -> Result<()> {
    let item = Object::of(raw)?;
    let kind = item.kind();
    let read = match &*kind {
        "" | "message" => return read_message(&item, request),
        "reasoning" => read_reasoning_item(&item)?,
        "function_call" => read_call(&item, CallKind::Function, "arguments")?,
        "custom_tool_call" => read_call(&item, CallKind::Custom, "input")?,
        "function_call_output" => read_call_output(&item, CallKind::Function)?,
        "custom_tool_call_output" => read_call_output(&item, CallKind::Custom)?,
        // Records of tools that an upstream ran. Its answers follow as messages.
        "web_search_call"
        | "image_generation_call"
        | "tool_search_call"
        | "tool_search_output"
        | "ghost_snapshot" => return Ok(()),
        kind => return Err(unknown_kind(kind)),
    };
    request.items.push(read);
    Ok(())
}

fn read_message<'a>(item: &Object<'a>, request: &mut Request<'a>) -> Result<()> {
    let role = item.required_text("role")?;
    let Some(role) = Role::of(&role) else {
        return Err(TranslationError::new("role", format!("Unknown role: '{}'.", quoted(&role))));
    };
    let content = item.get("content").ok_or_else(|| TranslationError::missing("content"))?;
    let parts = read_content(content).map_err(|error| error.within("content"))?;
    request.push_message(role, parts);
    Ok(())
}

fn read_content(content: &RawValue) -> Result<Vec<Part<'_>>> {
    if is_text(content) {
        return Ok(Part::text(json::text(content)));
    }
    let list = elements(content)
        .ok_or_else(|| TranslationError::new("", "Invalid type: expected a string or an array."))?;
    let mut parts = Vec::with_capacity(list.len());
    each(&list, |part| read_part(part).map(|part| parts.push(part)))?;
    Ok(parts)
}

fn read_part(raw: &RawValue) -> Result<Part<'_>> {
    let part = Object::of(raw)?;
    match &*part.kind() {
        "input_text" | "output_text" | "text" => Ok(Part::Text(part.required_text("text")?)),
        "refusal" => Ok(Part::Refusal(part.required_text("refusal")?)),
        "input_image" => {
            let url = part.text("image_url")?;
            let url = url.ok_or_else(|| TranslationError::unsupported("file_id"))?;
            Ok(Part::Image { url, detail: part.text("detail")? })
        }
        "input_file" => {
            part.refuse(&["file_id", "file_url"])?;
            let data = part.required_text("file_data")?;
            Ok(Part::File { name: part.text("filename")?, data })
        }
        kind => Err(unknown_kind(kind)),
    }
}

fn read_reasoning_item<'a>(item: &Object<'a>) -> Result<Item<'a>> {
    let mut text = Cow::Borrowed("");
    for list in ["summary", "content"] {
        // Some clients send a null or a string in place of the content.
        let parts = item.get(list).and_then(elements).unwrap_or_default();
        for part in parts {
            let part = Object::of(part).map_err(|error| error.within(list))?;
            let Some(more) = part.text_leniently("text") else { continue };
            append(&mut text, more);
        }
        if !text.is_empty() {
            break;
        }
    }
    Ok(Item::Reasoning(Reasoning { text, encrypted: item.text("encrypted_content")? }))
}

fn append<'a>(text: &mut Cow<'a, str>, more: Cow<'a, str>) {
    if text.is_empty() {
        *text = more;
    } else {
        let text = text.to_mut();
        text.push_str("\n\n");
        text.push_str(&more);
    }
}

fn read_call<'a>(item: &Object<'a>, kind: CallKind, input: &str) -> Result<Item<'a>> {
    Ok(Item::Call(Call {
        kind,
        call_id: item.required_text("call_id")?,
        namespace: item.text("namespace")?,
        name: item.required_text("name")?,
        input: item.text(input)?.unwrap_or_default(),
    }))
}

fn read_call_output<'a>(item: &Object<'a>, kind: CallKind) -> Result<Item<'a>> {
    let call_id = item.required_text("call_id")?;
    let output = item.get("output").ok_or_else(|| TranslationError::missing("output"))?;
    let parts = read_content(output).map_err(|error| error.within("output"))?;
    Ok(Item::CallOutput(CallOutput { kind, call_id, parts }))
}
