//! Reads the tools of a request for a response.

use crate::tool_names::MAX_NAMESPACE;
use crate::translation::chat::read_request::{mode_of, read_allowed, read_function, unknown_kind};
use crate::translation::error::TranslationError;
use crate::translation::object::{Object, each, is_text};
use crate::translation::request::{CallKind, CustomFormat, Function, Request, Tool, ToolChoice};
use serde_json::value::RawValue;
use std::borrow::Cow;

type Result<T> = std::result::Result<T, TranslationError>;

/// Reads a tool into `tools`; those of a namespace one by one.
pub(super) fn read_tool<'a>(
    raw: &'a RawValue,
    namespace: Option<&Cow<'a, str>>,
    tools: &mut Vec<Tool<'a>>,
) -> Result<()> {
    let tool = Object::of(raw)?;
    match &*tool.kind() {
        "function" => {
            let function = read_function(&tool)?;
            tools.push(Tool::Function(Function { namespace: namespace.cloned(), ..function }));
        }
        "namespace" if namespace.is_none() => {
            let name = tool.tool_name()?;
            // It is written once for each of its tools.
            if name.len() > MAX_NAMESPACE {
                let message = "The name of a namespace must have at most 128 bytes.";
                return Err(TranslationError::new("name", message));
            }
            return each(&tool.list("tools")?, |tool| read_tool(tool, Some(&name), tools))
                .map_err(|error| error.within("tools"));
        }
        "custom" => tools.push(Tool::Custom {
            namespace: namespace.cloned(),
            name: tool.tool_name()?,
            description: tool.text("description")?,
            format: read_format(&tool)?,
        }),
        kind if is_web_search(kind) => tools.extend(read_web_search(&tool)?),
        // Without them the model does its work by other means.
        "image_generation" | "tool_search" => {}
        kind => return Err(unknown_kind(kind)),
    }
    Ok(())
}

fn is_web_search(kind: &str) -> bool {
    kind.starts_with("web_search")
}

fn read_format<'a>(tool: &Object<'a>) -> Result<Option<CustomFormat<'a>>> {
    let format = tool.object_leniently("format");
    Ok(match (format.text("syntax")?, format.text("definition")?) {
        (Some(syntax), Some(definition)) => Some(CustomFormat { syntax, definition }),
        _ => None,
    })
}

/// A search of cached pages only must not become a search of the live web: it is left out.
fn read_web_search<'a>(tool: &Object<'a>) -> Result<Option<Tool<'a>>> {
    if tool.flag("external_web_access")? == Some(false) {
        return Ok(None);
    }
    let mut options = Vec::new();
    for name in ["filters", "user_location", "search_context_size"] {
        if let Some(value) = tool.get(name) {
            options.push((name, Cow::Borrowed(value.get())));
        }
    }
    Ok(Some(Tool::WebSearch(options)))
}

/// Reads `tool_choice`.
pub(super) fn read_tool_choice<'a>(body: &Object<'a>, request: &mut Request<'a>) -> Result<()> {
    let Some(raw) = body.get("tool_choice") else { return Ok(()) };
    if is_text(raw) {
        request.tool_choice = Some(mode_of(raw)?);
        return Ok(());
    }
    let choice = Object::of(raw)?;
    let kind = choice.kind();
    let named = |kind, name| -> Result<_> {
        Ok(ToolChoice::Named { kind, namespace: choice.text("namespace")?, name })
    };
    request.tool_choice = Some(match &*kind {
        "function" => named(CallKind::Function, choice.required_text("name")?)?,
        "custom" => named(CallKind::Custom, choice.required_text("name")?)?,
        "allowed_tools" => return read_allowed(&choice, request),
        kind if is_web_search(kind) => ToolChoice::WebSearch,
        kind => return Err(unknown_kind(kind)),
    });
    Ok(())
}
