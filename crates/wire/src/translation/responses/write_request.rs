//! Writes a request for a response that the upstream does not store.

use crate::translation::chat::write_request::write_schema;
use crate::translation::error::TranslationError;
use crate::translation::json_writer::JsonWriter;
use crate::translation::request::{
    Call, CallKind, CallOutput, CustomFormat, Format, Function, Item, Part, Reasoning, Request,
    Role, Tool, ToolChoice,
};
use serde_json::value::RawValue;

/// Writes the body of a request.
///
/// # Errors
/// For options of sampling that no response takes.
pub(in crate::translation) fn write(
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TranslationError> {
    refuse_sampling(request)?;
    JsonWriter::object(out, |body| {
        body.text("model", &request.model);
        body.text_if("instructions", request.instructions.as_deref());
        body.list("input", |list| {
            for item in &request.items {
                list.element(|object| write_item(item, object));
            }
        });
        if !request.tools.is_empty() {
            body.list("tools", |list| write_tools(&request.tools, list));
            write_tool_choice(request, body);
        }
        write_options(request, body);
        body.flag("store", false);
        if request.stream {
            body.flag("stream", true);
        }
    });
    Ok(())
}

fn refuse_sampling(request: &Request<'_>) -> Result<(), TranslationError> {
    let is_zero = |raw: &&RawValue| raw.get().parse().is_ok_and(|value: f64| value == 0.0);
    let sampling = &request.sampling;
    for (name, value) in [
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ] {
        if value.is_some_and(|raw| !is_zero(&raw)) {
            return Err(TranslationError::unsupported(name));
        }
    }
    Ok(())
}

fn write_options(request: &Request<'_>, body: &mut JsonWriter<'_>) {
    let sampling = &request.sampling;
    body.raw_if("temperature", sampling.temperature).raw_if("top_p", sampling.top_p);
    if let Some(limit) = request.max_output {
        body.number("max_output_tokens", limit);
    }
    let reasoning = &request.reasoning;
    if reasoning.effort.is_some() || reasoning.summary.is_some() {
        body.child("reasoning", |object| {
            object.text_if("effort", reasoning.effort.as_deref());
            object.text_if("summary", reasoning.summary.as_deref());
        });
    }
    if reasoning.encrypted {
        body.json("include", "[\"reasoning.encrypted_content\"]");
    }
    if request.format.is_some() || request.verbosity.is_some() {
        body.child("text", |text| {
            if let Some(format) = &request.format {
                text.child("format", |object| write_format(format, object));
            }
            text.text_if("verbosity", request.verbosity.as_deref());
        });
    }
    body.text_if("prompt_cache_key", request.cache_key.as_deref());
    body.text_if("service_tier", request.service_tier.as_deref());
}

fn write_format(format: &Format<'_>, object: &mut JsonWriter<'_>) {
    match format {
        Format::Text => object.text("type", "text"),
        Format::JsonObject => object.text("type", "json_object"),
        Format::JsonSchema { .. } => object.text("type", "json_schema"),
    };
    write_schema(format, object);
}

fn write_item(item: &Item<'_>, object: &mut JsonWriter<'_>) {
    match item {
        Item::Message { role, parts } => {
            object.text("type", "message").text("role", role.as_str());
            object.list("content", |list| write_parts(*role, parts, list));
        }
        Item::Reasoning(reasoning) => write_reasoning(reasoning, object),
        Item::Call(call) => write_call(call, object),
        Item::CallOutput(output) => write_call_output(output, object),
    }
}

fn write_parts(role: Role, parts: &[Part<'_>], list: &mut JsonWriter<'_>) {
    let text_kind = if role == Role::Assistant { "output_text" } else { "input_text" };
    for part in parts {
        list.element(|object| match part {
            Part::Text(text) => {
                object.text("type", text_kind).text("text", text);
            }
            Part::Refusal(text) => {
                object.text("type", "refusal").text("refusal", text);
            }
            Part::Image { url, detail } => {
                object.text("type", "input_image").text("image_url", url);
                object.text_if("detail", detail.as_deref());
            }
            Part::File { name, data } => {
                object.text("type", "input_file").text_if("filename", name.as_deref());
                object.text("file_data", data);
            }
        });
    }
}

fn write_reasoning(reasoning: &Reasoning<'_>, object: &mut JsonWriter<'_>) {
    object.text("type", "reasoning").list("summary", |list| {
        if !reasoning.text.is_empty() {
            list.element(|part| {
                part.text("type", "summary_text").text("text", &reasoning.text);
            });
        }
    });
    object.text_if("encrypted_content", reasoning.encrypted.as_deref());
}

fn write_call(call: &Call<'_>, object: &mut JsonWriter<'_>) {
    let (kind, input) = match call.kind {
        CallKind::Function => ("function_call", "arguments"),
        CallKind::Custom => ("custom_tool_call", "input"),
    };
    object.text("type", kind).text("call_id", &call.call_id);
    object.text_if("namespace", call.namespace.as_deref());
    object.text("name", &call.name).text(input, &call.input);
}

fn write_call_output(output: &CallOutput<'_>, object: &mut JsonWriter<'_>) {
    let kind = match output.kind {
        CallKind::Function => "function_call_output",
        CallKind::Custom => "custom_tool_call_output",
    };
    object.text("type", kind).text("call_id", &output.call_id);
    match &output.parts[..] {
        [] => object.text("output", ""),
        [Part::Text(text)] => object.text("output", text),
        parts => object.list("output", |list| write_parts(Role::User, parts, list)),
    };
}

/// Writes the tools; neighbours of one namespace together.
fn write_tools(tools: &[Tool<'_>], list: &mut JsonWriter<'_>) {
    for group in tools.chunk_by(|one, next| namespace_of(one) == namespace_of(next)) {
        match group.first().and_then(namespace_of) {
            Some(namespace) => {
                list.element(|object| {
                    object.text("type", "namespace").text("name", namespace);
                    object.list("tools", |list| write_each(group, list));
                });
            }
            None => write_each(group, list),
        }
    }
}

fn namespace_of<'t>(tool: &'t Tool<'_>) -> Option<&'t str> {
    match tool {
        Tool::Function(function) => function.namespace.as_deref(),
        Tool::Custom { .. } | Tool::WebSearch(_) => None,
    }
}

fn write_each(tools: &[Tool<'_>], list: &mut JsonWriter<'_>) {
    for tool in tools {
        list.element(|object| match tool {
            Tool::Function(function) => write_function(function, object),
            Tool::Custom { name, description, format, .. } => {
                object.text("type", "custom").text("name", name);
                object.text_if("description", description.as_deref());
                write_custom_format(format.as_ref(), object);
            }
            Tool::WebSearch(options) => {
                object.text("type", "web_search");
                for (name, value) in options {
                    object.json(name, value);
                }
            }
        });
    }
}

fn write_function(function: &Function<'_>, object: &mut JsonWriter<'_>) {
    object.text("type", "function").text("name", &function.name);
    object.text_if("description", function.description.as_deref());
    match function.parameters {
        Some(parameters) => object.raw("parameters", parameters),
        None => object.json("parameters", r#"{"type":"object","properties":{}}"#),
    };
    // On responses, schemas are strict by default; on the other surfaces they are not.
    object.flag("strict", function.strict.unwrap_or(false));
}

fn write_custom_format(format: Option<&CustomFormat<'_>>, object: &mut JsonWriter<'_>) {
    if let Some(CustomFormat { syntax, definition }) = format {
        object.child("format", |format| {
            format.text("type", "grammar").text("syntax", syntax).text("definition", definition);
        });
    }
}

fn write_tool_choice(request: &Request<'_>, body: &mut JsonWriter<'_>) {
    match &request.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => {
            body.text("tool_choice", "auto");
        }
        Some(ToolChoice::None) => {
            body.text("tool_choice", "none");
        }
        Some(ToolChoice::Required) => {
            body.text("tool_choice", "required");
        }
        Some(ToolChoice::WebSearch) => {
            body.json("tool_choice", r#"{"type":"web_search"}"#);
        }
        Some(ToolChoice::Named { kind, namespace, name }) => {
            let kind = match kind {
                CallKind::Function => "function",
                CallKind::Custom => "custom",
            };
            body.child("tool_choice", |choice| {
                choice.text("type", kind).text_if("namespace", namespace.as_deref());
                choice.text("name", name);
            });
        }
    }
    if let Some(parallel) = request.parallel_tool_calls {
        body.flag("parallel_tool_calls", parallel);
    }
}
