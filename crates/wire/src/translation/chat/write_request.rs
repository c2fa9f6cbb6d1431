//! Writes a request for a chat completion, in the words that servers of open models understand.

use crate::translation::TranslationOptions;
use crate::translation::error::TranslationError;
use crate::translation::json_writer::JsonWriter;
use crate::translation::request::{
    Call, CallKind, CallOutput, CustomFormat, Format, Function, Item, Part, Request, Role, Tool,
    ToolChoice, joined,
};
use crate::translation::tool_names::ToolNames;
use std::borrow::Cow;
use std::collections::HashSet;

type Result<T> = std::result::Result<T, TranslationError>;

/// The argument under which a custom tool that is offered as a function takes its text.
pub(crate) const INPUT: &str = "input";

/// The schema of that argument.
pub(crate) const CUSTOM_PARAMETERS: &str = r#"{"type":"object","properties":{"input":{"type":"string","description":"The whole input of the tool, as plain text."}},"required":["input"],"additionalProperties":false}"#;

/// Writes the body of a request.
pub(in crate::translation) fn write(
    request: &Request<'_>,
    (names, options): (&ToolNames, &TranslationOptions<'_>),
    out: &mut Vec<u8>,
) -> Result<()> {
    let tools: Vec<_> = request.tools.iter().filter(|tool| is_client_tool(tool)).collect();
    if request.tool_choice == Some(ToolChoice::WebSearch) {
        let message =
            "'tool_choice' requires a web search, which this model's upstream does not offer.";
        return Err(TranslationError::new("tool_choice", message));
    }
    JsonWriter::object(out, |body| {
        body.text("model", &request.model);
        body.list("messages", |messages| {
            write_messages(request, (names, options), messages);
        });
        if !tools.is_empty() {
            body.list("tools", |list| write_tools(&tools, names, list));
            write_tool_choice(request, names, body);
        }
        write_options(request, body);
        if request.stream {
            body.flag("stream", true);
            body.child("stream_options", |options| {
                options.flag("include_usage", true);
            });
        }
    });
    Ok(())
}

/// True for tools that the client runs. A search that only some upstreams offer is left out.
fn is_client_tool(tool: &Tool<'_>) -> bool {
    !matches!(tool, Tool::WebSearch(_))
}

fn write_options(request: &Request<'_>, body: &mut JsonWriter<'_>) {
    let sampling = &request.sampling;
    body.raw_if("temperature", sampling.temperature).raw_if("top_p", sampling.top_p);
    body.raw_if("seed", sampling.seed);
    body.raw_if("frequency_penalty", sampling.frequency_penalty);
    body.raw_if("presence_penalty", sampling.presence_penalty);
    if !sampling.stop.is_empty() {
        body.list("stop", |list| sampling.stop.iter().for_each(|stop| list_text(list, stop)));
    }
    if let Some(limit) = request.max_output {
        // The name that all servers read; the gateway adds another if the upstream reads that one.
        body.number("max_tokens", limit);
    }
    body.text_if("reasoning_effort", request.reasoning.effort.as_deref());
    match &request.format {
        None | Some(Format::Text) => {}
        Some(Format::JsonObject) => {
            body.child("response_format", |format| {
                format.text("type", "json_object");
            });
        }
        Some(schema) => {
            body.child("response_format", |format| {
                format.text("type", "json_schema");
                format.child("json_schema", |object| write_schema(schema, object));
            });
        }
    }
}

/// Writes a named schema, as responses have it too.
pub(in crate::translation) fn write_schema(format: &Format<'_>, object: &mut JsonWriter<'_>) {
    if let Format::JsonSchema { name, description, schema, strict } = format {
        object.text("name", name).text_if("description", description.as_deref());
        object.raw("schema", schema);
        if let Some(strict) = strict {
            object.flag("strict", *strict);
        }
    }
}

fn list_text(list: &mut JsonWriter<'_>, text: &str) {
    list.json_element(&serde_json::Value::from(text).to_string());
}

fn write_messages(
    request: &Request<'_>,
    (names, options): (&ToolNames, &TranslationOptions<'_>),
    messages: &mut JsonWriter<'_>,
) {
    let (first, rest) = leading_instructions(request);
    if !first.is_empty() {
        messages.element(|message| {
            message.text("role", "system").text("content", &first);
        });
    }
    let mut writer = MessageWriter { names, options, images: Vec::new() };
    let mut items = rest;
    while let Some((item, behind)) = items.split_first() {
        items = match item {
            Item::CallOutput(output) => {
                writer.call_output(output, messages);
                behind
            }
            Item::Message { role, parts } if *role != Role::Assistant => {
                writer.flush_images(messages);
                writer.message(*role, parts, messages);
                behind
            }
            _ => {
                writer.flush_images(messages);
                writer.assistant(items, messages)
            }
        };
    }
    writer.flush_images(messages);
}

/// The instructions before the conversation as one text, since many servers take one system message only, and the
/// items behind them.
fn leading_instructions<'r, 'a>(request: &'r Request<'a>) -> (Cow<'r, str>, &'r [Item<'a>]) {
    let is_leading =
        |item: &&Item<'_>| matches!(item, Item::Message { role, .. } if role.instructs());
    let count = request.items.iter().take_while(is_leading).count();
    let (leading, rest) = request.items.split_at(count);
    let mut texts: Vec<Cow<'r, str>> = Vec::new();
    texts.extend(request.instructions.as_deref().map(Cow::Borrowed));
    for item in leading {
        if let Item::Message { parts, .. } = item {
            texts.push(joined(parts, "\n\n"));
        }
    }
    texts.retain(|text| !text.is_empty());
    let text = match texts.len() {
        1 => texts.pop().unwrap_or_default(),
        _ => Cow::Owned(texts.join("\n\n")),
    };
    (text, rest)
}

/// Writes messages one after another.
struct MessageWriter<'w> {
    names: &'w ToolNames,
    options: &'w TranslationOptions<'w>,
    /// Images in the outputs of tools, which tool messages cannot have: they follow in a message of the user.
    images: Vec<Part<'w>>,
}

impl MessageWriter<'_> {
    fn message(&self, role: Role, parts: &[Part<'_>], messages: &mut JsonWriter<'_>) {
        let role = match role {
            Role::System | Role::Developer if self.options.system_first_only => Role::User,
            // Servers of open models do not know the developer.
            Role::Developer => Role::System,
            role => role,
        };
        messages.element(|message| {
            message.text("role", role.as_str());
            write_content(parts, message);
        });
    }

    /// Writes one message of the assistant from the items at the beginning of `items`; returns the others. What the
    /// assistant says behind a call belongs to the same message: the outputs of the calls must follow it at once.
    fn assistant<'i, 'a>(
        &self,
        items: &'i [Item<'a>],
        messages: &mut JsonWriter<'_>,
    ) -> &'i [Item<'a>] {
        let (mut reasoning, mut content, mut calls) = (None, None::<Cow<'_, str>>, Vec::new());
        let mut rest = items;
        while let Some((item, behind)) = rest.split_first() {
            match item {
                Item::Reasoning(item) if content.is_none() || !calls.is_empty() => {
                    reasoning = Some(&*item.text).filter(|text| !text.is_empty()).or(reasoning);
                }
                Item::Message { role: Role::Assistant, parts }
                    if content.is_none() || !calls.is_empty() =>
                {
                    let text = joined(parts, "");
                    content = Some(match content {
                        Some(before) => Cow::Owned(format!("{before}\n\n{text}")),
                        None => text,
                    });
                }
                Item::Call(call) => calls.push(call),
                _ => break,
            }
            rest = behind;
        }
        let reasoning = reasoning.filter(|_| self.options.replays_reasoning);
        // Reasoning that is not sent leaves nothing.
        if content.is_some() || !calls.is_empty() {
            messages.element(|message| {
                message.text("role", "assistant");
                message.text_or_null("content", content.as_deref());
                message.text_if("reasoning_content", reasoning);
                if !calls.is_empty() {
                    message.list("tool_calls", |list| {
                        for call in calls {
                            write_call(call, &self.names.of_call(call), list);
                        }
                    });
                }
            });
        }
        rest
    }

    fn call_output(&mut self, output: &CallOutput<'_>, messages: &mut JsonWriter<'_>) {
        let text = joined(&output.parts, "\n\n");
        let images: Vec<_> = output.parts.iter().filter(|part| part.as_text().is_none()).collect();
        let text = if text.is_empty() && !images.is_empty() {
            Cow::Borrowed("The output is in the next message.")
        } else {
            text
        };
        messages.element(|message| {
            message.text("role", "tool").text("tool_call_id", &output.call_id);
            message.text("content", &text);
        });
        if !images.is_empty() {
            let label = format!("Output of the tool call {}:", output.call_id);
            self.images.push(Part::Text(label.into()));
            self.images.extend(images.into_iter().map(owned_part));
        }
    }

    fn flush_images(&mut self, messages: &mut JsonWriter<'_>) {
        let images = std::mem::take(&mut self.images);
        if !images.is_empty() {
            self.message(Role::User, &images, messages);
        }
    }
}

/// A copy that borrows nothing of its item.
fn owned_part<'w>(part: &Part<'_>) -> Part<'w> {
    let owned = |text: &Cow<'_, str>| Cow::Owned(text.to_string());
    match part {
        Part::Text(text) => Part::Text(owned(text)),
        Part::Refusal(text) => Part::Refusal(owned(text)),
        Part::Image { url, detail } => {
            Part::Image { url: owned(url), detail: detail.as_ref().map(owned) }
        }
        Part::File { name, data } => {
            Part::File { name: name.as_ref().map(owned), data: owned(data) }
        }
    }
}

/// Writes text alone as a string, which every chat template takes.
fn write_content(parts: &[Part<'_>], message: &mut JsonWriter<'_>) {
    if parts.iter().all(|part| part.as_text().is_some()) {
        message.text("content", &joined(parts, "\n\n"));
        return;
    }
    message.list("content", |list| {
        for part in parts {
            list.element(|object| write_part(part, object));
        }
    });
}

fn write_part(part: &Part<'_>, object: &mut JsonWriter<'_>) {
    match part {
        Part::Text(text) | Part::Refusal(text) => {
            object.text("type", "text").text("text", text);
        }
        Part::Image { url, detail } => {
            object.text("type", "image_url").child("image_url", |image| {
                image.text("url", url).text_if("detail", detail.as_deref());
            });
        }
        Part::File { name, data } => {
            object.text("type", "file").child("file", |file| {
                file.text_if("filename", name.as_deref()).text("file_data", data);
            });
        }
    }
}

fn write_call(call: &Call<'_>, name: &str, list: &mut JsonWriter<'_>) {
    let arguments = match call.kind {
        CallKind::Function if call.input.trim().is_empty() => Cow::Borrowed("{}"),
        CallKind::Function => Cow::Borrowed(&*call.input),
        CallKind::Custom => Cow::Owned(JsonWriter::object_text(|object| {
            object.text(INPUT, &call.input);
        })),
    };
    list.element(|object| {
        object.text("id", &call.call_id).text("type", "function");
        object.child("function", |function| {
            function.text("name", name).text("arguments", &arguments);
        });
    });
}

/// Writes the tools; one of a new name that is there twice is written once.
fn write_tools(tools: &[&Tool<'_>], names: &ToolNames, list: &mut JsonWriter<'_>) {
    let mut written = HashSet::new();
    for tool in tools {
        match tool {
            Tool::Function(function) => {
                let namespace = function.namespace.as_deref();
                let name = names.flat(CallKind::Function, namespace, &function.name);
                if namespace.is_none() || written.insert(name.to_string()) {
                    write_function(function, &name, list);
                }
            }
            Tool::Custom { namespace, name, description, format } => {
                let name = names.flat(CallKind::Custom, namespace.as_deref(), name);
                let description = describe_custom(description.as_deref(), format.as_ref());
                if written.insert(name.to_string()) {
                    write_custom(&name, &description, list);
                }
            }
            Tool::WebSearch(_) => {}
        }
    }
}

fn write_custom(name: &str, description: &str, list: &mut JsonWriter<'_>) {
    list.element(|object| {
        object.text("type", "function").child("function", |function| {
            function.text("name", name).text("description", description);
            function.json("parameters", CUSTOM_PARAMETERS);
        });
    });
}

fn write_function(function: &Function<'_>, name: &str, list: &mut JsonWriter<'_>) {
    list.element(|object| {
        object.text("type", "function").child("function", |object| {
            object.text("name", name).text_if("description", function.description.as_deref());
            match function.parameters {
                Some(parameters) => object.raw("parameters", parameters),
                None => object.json("parameters", r#"{"type":"object","properties":{}}"#),
            };
            // Servers without strict mode may refuse the field, and false is the default.
            if function.strict == Some(true) {
                object.flag("strict", true);
            }
        });
    });
}

/// The description of a custom tool with its grammar, which a function cannot have.
pub(crate) fn describe_custom(
    description: Option<&str>,
    format: Option<&CustomFormat<'_>>,
) -> String {
    let mut text = description.unwrap_or_default().to_owned();
    if let Some(CustomFormat { syntax, definition }) = format {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str("The input must follow this grammar (");
        text.push_str(syntax);
        text.push_str("):\n");
        text.push_str(definition);
    }
    text
}

fn write_tool_choice(request: &Request<'_>, names: &ToolNames, body: &mut JsonWriter<'_>) {
    match &request.tool_choice {
        None | Some(ToolChoice::WebSearch) => {}
        Some(ToolChoice::Auto) => {
            body.text("tool_choice", "auto");
        }
        Some(ToolChoice::None) => {
            body.text("tool_choice", "none");
        }
        Some(ToolChoice::Required) => {
            body.text("tool_choice", "required");
        }
        Some(ToolChoice::Named { kind, namespace, name }) => {
            let name = names.flat(*kind, namespace.as_deref(), name);
            body.child("tool_choice", |choice| {
                choice.text("type", "function").child("function", |function| {
                    function.text("name", &name);
                });
            });
        }
    }
    if let Some(parallel) = request.parallel_tool_calls {
        body.flag("parallel_tool_calls", parallel);
    }
}
