//! Reads a request for a chat completion.

use crate::json;
use crate::translation::error::{TranslationError, quoted};
use crate::translation::object::{Object, each, elements, is_text};
use crate::translation::request::{
    AllowedTools, Call, CallKind, CallOutput, CustomFormat, Format, Function, Item, Part,
    Reasoning, ReasoningOptions, Request, Role, Sampling, Tool, ToolChoice,
};
use serde_json::value::RawValue;

type Result<T> = std::result::Result<T, TranslationError>;

/// Fields that change the answer in ways that no other surface knows.
const UNSUPPORTED: [&str; 8] = [
    "functions",
    "function_call",
    "audio",
    "logit_bias",
    "prediction",
    "deferred",
    "search_parameters",
    "web_search_options",
];

/// Reads the body of a request.
pub(in crate::translation) fn read<'a>(body: &Object<'a>) -> Result<Request<'a>> {
    refuse_unsupported(body)?;
    let options = body.object("stream_options")?.unwrap_or_default();
    let mut request = Request {
        model: body.required_text("model")?,
        parallel_tool_calls: body.flag("parallel_tool_calls")?,
        sampling: read_sampling(body)?,
        max_output: body.count("max_completion_tokens")?.or(body.count("max_tokens")?),
        reasoning: ReasoningOptions {
            effort: body.text("reasoning_effort")?,
            ..Default::default()
        },
        format: read_format(body).map_err(|error| error.within("response_format"))?,
        verbosity: body.text("verbosity")?,
        cache_key: body.text("prompt_cache_key")?,
        service_tier: body.text("service_tier")?,
        stream: body.flag("stream")?.unwrap_or(false),
        include_usage: options.flag("include_usage")?.unwrap_or(false),
        ..Request::default()
    };
    if !body.has("messages") {
        return Err(TranslationError::missing("messages"));
    }
    each(&body.list("messages")?, |message| read_message(message, &mut request))
        .map_err(|error| error.within("messages"))?;
    each(&body.list("tools")?, |tool| read_tool(tool, &mut request))
        .map_err(|error| error.within("tools"))?;
    read_tool_choice(body, &mut request).map_err(|error| error.within("tool_choice"))?;
    Ok(request)
}

fn refuse_unsupported(body: &Object<'_>) -> Result<()> {
    let is_set = |name: &&&str| {
        body.get(name).is_some_and(|raw| !matches!(raw.get(), "{}" | "[]" | "false"))
    };
    if let Some(name) = UNSUPPORTED.iter().find(is_set) {
        return Err(TranslationError::unsupported(name));
    }
    if body.count("n")?.is_some_and(|n| n > 1) {
        return Err(TranslationError::unsupported("n"));
    }
    if body.flag("logprobs")? == Some(true) {
        return Err(TranslationError::unsupported("logprobs"));
    }
    let modalities = body.list("modalities")?;
    if modalities.iter().any(|modality| modality.get() != "\"text\"") {
        return Err(TranslationError::unsupported("modalities"));
    }
    Ok(())
}

fn read_sampling<'a>(body: &Object<'a>) -> Result<Sampling<'a>> {
    let stop = match body.get("stop") {
        None => Vec::new(),
        Some(raw) if is_text(raw) => vec![json::text(raw)],
        Some(_) => body.list("stop")?.into_iter().map(json::text).collect(),
    };
    Ok(Sampling {
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        stop,
        seed: body.number("seed")?,
        frequency_penalty: body.number("frequency_penalty")?,
        presence_penalty: body.number("presence_penalty")?,
    })
}

fn read_format<'a>(body: &Object<'a>) -> Result<Option<Format<'a>>> {
    let Some(format) = body.object("response_format")? else { return Ok(None) };
    Ok(Some(match &*format.kind() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema" => {
            let schema = format.required_object("json_schema")?;
            read_schema(&schema).map_err(|error| error.within("json_schema"))?
        }
        _ => return Err(TranslationError::wrong_type("type", "a known format")),
    }))
}

/// Reads a named schema, which responses write in the same way.
pub(in crate::translation) fn read_schema<'a>(schema: &Object<'a>) -> Result<Format<'a>> {
    Ok(Format::JsonSchema {
        name: schema.text("name")?.unwrap_or("output".into()),
        description: schema.text("description")?,
        schema: schema.raw_object("schema")?.ok_or_else(|| TranslationError::missing("schema"))?,
        strict: schema.flag("strict")?,
    })
}

fn read_message<'a>(raw: &'a RawValue, request: &mut Request<'a>) -> Result<()> {
    let message = Object::of(raw)?;
    let role = message.required_text("role")?;
    if role == "tool" {
        let call_id = message.required_text("tool_call_id")?;
        let parts = read_content(&message)?;
        let kind = kind_of_call(request, &call_id);
        request.items.push(Item::CallOutput(CallOutput { kind, call_id, parts }));
        return Ok(());
    }
    let Some(role) = Role::of(&role) else {
        return Err(TranslationError::new("role", format!("Unknown role: '{}'.", quoted(&role))));
    };
    let mut parts = Vec::new();
    if role == Role::Assistant {
        message.refuse(&["function_call", "audio"])?;
        if let Some(text) = message.text_leniently("reasoning_content") {
            request.items.push(Item::Reasoning(Reasoning { text, encrypted: None }));
        }
    }
    parts.extend(read_content(&message)?);
    parts.extend(message.text("refusal")?.map(Part::Refusal));
    request.push_message(role, parts);
    each(&message.list("tool_calls")?, |call| read_call(call, request))
        .map_err(|error| error.within("tool_calls"))
}

/// Items between a call and its output that are looked at: more than any turn has calls, and few enough for hostile
/// conversations of a million outputs.
const OUTPUT_DISTANCE: usize = 512;

/// The kind of the call that an output answers.
fn kind_of_call(request: &Request<'_>, id: &str) -> CallKind {
    let kind = request.items.iter().rev().take(OUTPUT_DISTANCE).find_map(|item| match item {
        Item::Call(call) if call.call_id == id => Some(call.kind),
        _ => None,
    });
    kind.unwrap_or(CallKind::Function)
}

fn read_content<'a>(message: &Object<'a>) -> Result<Vec<Part<'a>>> {
    let Some(content) = message.get("content") else { return Ok(Vec::new()) };
    if is_text(content) {
        return Ok(Part::text(json::text(content)));
    }
    let Some(list) = elements(content) else {
        return Err(TranslationError::wrong_type("content", "a string or an array"));
    };
    let mut parts = Vec::with_capacity(list.len());
    each(&list, |part| read_part(part).map(|part| parts.push(part)))
        .map_err(|error| error.within("content"))?;
    Ok(parts)
}

fn read_part(raw: &RawValue) -> Result<Part<'_>> {
    let part = Object::of(raw)?;
    match &*part.kind() {
        "text" => Ok(Part::Text(part.required_text("text")?)),
        "refusal" => Ok(Part::Refusal(part.required_text("refusal")?)),
        "image_url" => {
            if let Some(url) = part.text_leniently("image_url") {
                return Ok(Part::Image { url, detail: None });
            }
            let image = part.required_object("image_url")?;
            let in_image = |error: TranslationError| error.within("image_url");
            let url = image.required_text("url").map_err(in_image)?;
            Ok(Part::Image { url, detail: image.text("detail").map_err(in_image)? })
        }
        "file" => {
            let file = part.required_object("file")?;
            let in_file = |error: TranslationError| error.within("file");
            let data = file.text("file_data").map_err(in_file)?;
            let data = data.ok_or_else(|| TranslationError::unsupported("file_id"));
            let data = data.map_err(in_file)?;
            Ok(Part::File { name: file.text("filename").map_err(in_file)?, data })
        }
        kind => Err(unknown_kind(kind)),
    }
}

/// A type that has no counterpart.
pub(in crate::translation) fn unknown_kind(kind: &str) -> TranslationError {
    let message = format!(
        "The type '{}' is not supported for this model: its upstream offers another API, which has no such type.",
        quoted(kind)
    );
    TranslationError::new("type", message)
}

fn read_call<'a>(raw: &'a RawValue, request: &mut Request<'a>) -> Result<()> {
    let object = Object::of(raw)?;
    let call_id = object.required_text("id")?;
    let (kind, member, input) = if object.kind() == "custom" {
        (CallKind::Custom, "custom", "input")
    } else {
        (CallKind::Function, "function", "arguments")
    };
    let called = object.required_object(member)?;
    let within = |error: TranslationError| error.within(member);
    request.items.push(Item::Call(Call {
        kind,
        call_id,
        namespace: None,
        name: called.required_text("name").map_err(within)?,
        input: called.text(input).map_err(within)?.unwrap_or_default(),
    }));
    Ok(())
}

fn read_tool<'a>(raw: &'a RawValue, request: &mut Request<'a>) -> Result<()> {
    let tool = Object::of(raw)?;
    match &*tool.kind() {
        "function" => {
            let function = tool.required_object("function")?;
            let function = read_function(&function).map_err(|error| error.within("function"))?;
            request.tools.push(Tool::Function(function));
        }
        "custom" => {
            let custom = tool.required_object("custom")?;
            let custom = read_custom(&custom).map_err(|error| error.within("custom"))?;
            request.tools.push(custom);
        }
        kind => return Err(unknown_kind(kind)),
    }
    Ok(())
}

/// Reads a function, which responses write in the same way.
pub(in crate::translation) fn read_function<'a>(function: &Object<'a>) -> Result<Function<'a>> {
    Ok(Function {
        namespace: None,
        name: function.tool_name()?,
        description: function.text("description")?,
        parameters: function.raw_object("parameters")?,
        strict: function.flag("strict")?,
    })
}

fn read_custom<'a>(custom: &Object<'a>) -> Result<Tool<'a>> {
    let format = custom.object_leniently("format");
    let grammar = format.object_leniently("grammar");
    let format = match (grammar.text("syntax")?, grammar.text("definition")?) {
        (Some(syntax), Some(definition)) => Some(CustomFormat { syntax, definition }),
        _ => None,
    };
    let (name, description) = (custom.tool_name()?, custom.text("description")?);
    Ok(Tool::Custom { namespace: None, name, description, format })
}

fn read_tool_choice<'a>(body: &Object<'a>, request: &mut Request<'a>) -> Result<()> {
    let Some(raw) = body.get("tool_choice") else { return Ok(()) };
    if is_text(raw) {
        request.tool_choice = Some(mode_of(raw)?);
        return Ok(());
    }
    let choice = Object::of(raw)?;
    let kind = choice.kind();
    request.tool_choice = Some(match &*kind {
        "function" | "custom" => {
            let named = choice.required_object(&kind)?;
            let name = named.required_text("name").map_err(|error| error.within(&kind))?;
            let kind = if kind == "custom" { CallKind::Custom } else { CallKind::Function };
            ToolChoice::Named { kind, namespace: None, name }
        }
        "allowed_tools" => {
            let allowed = choice.required_object("allowed_tools")?;
            return read_allowed(&allowed, request).map_err(|error| error.within("allowed_tools"));
        }
        kind => return Err(unknown_kind(kind)),
    });
    Ok(())
}

/// Reads `auto`, `none` or `required`.
pub(in crate::translation) fn mode_of(raw: &RawValue) -> Result<ToolChoice<'static>> {
    match &*json::text(raw) {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(TranslationError::wrong_type("", "'auto', 'none' or 'required'")),
    }
}

/// Reads a choice among some of the tools: the others are left out.
pub(in crate::translation) fn read_allowed<'a>(
    allowed: &Object<'a>,
    request: &mut Request<'a>,
) -> Result<()> {
    let mut tools = AllowedTools::default();
    each(&allowed.list("tools")?, |tool| {
        let tool = Object::of(tool)?;
        let kind = tool.kind();
        let nested = tool.object_leniently(&kind).text_leniently("name");
        match (&*kind, nested.or(tool.text_leniently("name"))) {
            ("namespace", Some(name)) => {
                tools.namespaces.insert(name);
            }
            ("function" | "custom", Some(name)) => {
                tools.tools.insert((tool.text_leniently("namespace"), name));
            }
            ("function" | "custom" | "namespace", None) => {
                return Err(TranslationError::missing("name"));
            }
            (kind, _) => tools.web_search |= kind.starts_with("web_search"),
        }
        Ok(())
    })
    .map_err(|error| error.within("tools"))?;
    let mode = allowed.get("mode").map_or(Ok(ToolChoice::Auto), mode_of);
    request.tool_choice = Some(mode.map_err(|error| error.within("mode"))?);
    request.keep_tools(&tools);
    Ok(())
}
