//! Reads a request for a message.

use super::read_content::{each_block, read_message};
use crate::json;
use crate::translation::chat::read_request::unknown_kind;
use crate::translation::error::TranslationError;
use crate::translation::json_writer::JsonWriter;
use crate::translation::object::{Object, each, is_text};
use crate::translation::request::{
    CallKind, Format, Function, ReasoningOptions, Request, Sampling, Tool, ToolChoice,
};
use serde_json::value::RawValue;
use std::borrow::Cow;

type Result<T> = std::result::Result<T, TranslationError>;

/// The tool of a search by the upstream, by its name for the model.
const WEB_SEARCH: &str = "web_search";
/// A line that Claude Code puts before its instructions, for Anthropic's billing alone.
const BILLING_HEADER: &str = "x-anthropic-billing-header:";

/// Reads the body of a request.
pub(in crate::translation) fn read<'a>(body: &Object<'a>) -> Result<Request<'a>> {
    body.refuse(&["mcp_servers", "container"])?;
    let mut request = Request {
        model: body.required_text("model")?,
        instructions: read_system(body)?,
        sampling: Sampling {
            temperature: body.number("temperature")?,
            top_p: body.number("top_p")?,
            stop: body.list("stop_sequences")?.into_iter().map(json::text).collect(),
            ..Sampling::default()
        },
        max_output: body.count("max_tokens")?,
        reasoning: read_reasoning(body)?,
        format: read_format(body)?,
        cache_key: read_session(body),
        stream: body.flag("stream")?.unwrap_or(false),
        ..Request::default()
    };
    if !body.has("messages") {
        return Err(TranslationError::missing("messages"));
    }
    each(&body.list("messages")?, |message| read_message(message, &mut request.items))
        .map_err(|error| error.within("messages"))?;
    each(&body.list("tools")?, |tool| read_tool(tool, &mut request.tools))
        .map_err(|error| error.within("tools"))?;
    read_tool_choice(body, &mut request).map_err(|error| error.within("tool_choice"))?;
    Ok(request)
}

fn read_system<'a>(body: &Object<'a>) -> Result<Option<Cow<'a, str>>> {
    let Some(system) = body.get("system") else { return Ok(None) };
    if is_text(system) {
        return Ok(Some(json::text(system)));
    }
    let mut texts = Vec::new();
    each_block(system, "system", |block| {
        let text = block.required_text("text")?;
        if !text.starts_with(BILLING_HEADER) {
            texts.push(text);
        }
        Ok(())
    })?;
    Ok(match texts.len() {
        0 | 1 => texts.pop(),
        _ => Some(texts.join("\n\n").into()),
    })
}

/// Reads `thinking` and `output_config.effort`.
fn read_reasoning<'a>(body: &Object<'a>) -> Result<ReasoningOptions<'a>> {
    let effort = body.object("output_config")?.unwrap_or_default().text("effort");
    let effort = effort.map_err(|error| error.within("output_config"))?;
    let effort = effort.map(|effort| if effort == "max" { "xhigh".into() } else { effort });
    let Some(thinking) = body.object("thinking")? else {
        return Ok(ReasoningOptions { effort, ..ReasoningOptions::default() });
    };
    if thinking.kind() == "disabled" {
        return Ok(ReasoningOptions { effort, ..ReasoningOptions::default() });
    }
    let budget = thinking.count("budget_tokens").map_err(|error| error.within("thinking"))?;
    Ok(ReasoningOptions {
        effort: effort.or(budget.map(effort_of_budget)),
        summary: Some("auto".into()),
        encrypted: true,
    })
}

/// The effort that a budget of thinking tokens stands for.
fn effort_of_budget(tokens: u64) -> Cow<'static, str> {
    match tokens {
        0..4096 => "low",
        4096..16384 => "medium",
        _ => "high",
    }
    .into()
}

fn read_format<'a>(body: &Object<'a>) -> Result<Option<Format<'a>>> {
    let config = body.object("output_config")?.unwrap_or_default();
    let newer = config.object("format").map_err(|error| error.within("output_config"))?;
    let Some(format) = newer.or(body.object("output_format")?) else { return Ok(None) };
    let schema = format.raw_object("schema")?.filter(|_| format.kind() == "json_schema");
    let schema = schema.ok_or_else(|| TranslationError::missing("schema"));
    let schema = schema.map_err(|error| error.within("output_config.format"))?;
    let strict = Some(true);
    Ok(Some(Format::JsonSchema { name: "output".into(), description: None, schema, strict }))
}

/// The session in `metadata.user_id`, which groups requests that share a prompt prefix. The ids of the device and
/// the account beside it stay here.
fn read_session<'a>(body: &Object<'a>) -> Option<Cow<'a, str>> {
    let user = body.object_leniently("metadata").text_leniently("user_id")?;
    if let Some(ids) = Object::read(&user) {
        return ids.text_leniently("session_id").map(|session| session.into_owned().into());
    }
    let (_, session) = user.rsplit_once("_session_")?;
    Some(session.to_owned().into()).filter(|session: &Cow<'_, str>| !session.is_empty())
}

fn read_tool<'a>(raw: &'a RawValue, tools: &mut Vec<Tool<'a>>) -> Result<()> {
    let tool = Object::of(raw)?;
    match &*tool.kind() {
        "" | "custom" => tools.push(Tool::Function(Function {
            namespace: None,
            name: tool.tool_name()?,
            description: tool.text("description")?,
            parameters: tool.raw_object("input_schema")?,
            strict: tool.flag("strict")?,
        })),
        kind if kind.starts_with("web_search_") => tools.push(read_web_search(&tool)?),
        // All tools are loaded from the beginning.
        kind if kind.starts_with("tool_search_") => {}
        kind => return Err(unknown_kind(kind)),
    }
    Ok(())
}

fn read_web_search<'a>(tool: &Object<'a>) -> Result<Tool<'a>> {
    let mut options = Vec::new();
    let (allowed, blocked) = (tool.list("allowed_domains")?, tool.list("blocked_domains")?);
    if !(allowed.is_empty() && blocked.is_empty()) {
        let filters = JsonWriter::object_text(|filters| {
            for (name, domains) in [("allowed_domains", allowed), ("blocked_domains", blocked)] {
                if !domains.is_empty() {
                    filters.list(name, |list| {
                        for domain in domains {
                            list.json_element(domain.get());
                        }
                    });
                }
            }
        });
        options.push(("filters", filters.into()));
    }
    if let Some(location) = tool.raw_object("user_location")? {
        options.push(("user_location", Cow::Borrowed(location.get())));
    }
    Ok(Tool::WebSearch(options))
}

fn read_tool_choice<'a>(body: &Object<'a>, request: &mut Request<'a>) -> Result<()> {
    let Some(raw) = body.get("tool_choice") else { return Ok(()) };
    let choice = Object::of(raw)?;
    request.tool_choice = Some(match &*choice.kind() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => {
            let name = choice.required_text("name")?;
            let searches = request.tools.iter().any(|tool| matches!(tool, Tool::WebSearch(_)));
            if searches && name == WEB_SEARCH {
                ToolChoice::WebSearch
            } else {
                ToolChoice::Named { kind: CallKind::Function, namespace: None, name }
            }
        }
        kind => return Err(unknown_kind(kind)),
    });
    if choice.flag("disable_parallel_tool_use")? == Some(true) {
        request.parallel_tool_calls = Some(false);
    }
    Ok(())
}
