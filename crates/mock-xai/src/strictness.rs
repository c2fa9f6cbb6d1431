//! Requests that xAI refuses although other servers take them, with xAI's status and words where they are known.
//!
//! `[sim lenient]` in a prompt turns these refusals off.

use crate::model::Model;
use crate::request::ModelRequest;
use crate::request::tools::{ToolChoice, parameters};
use crate::surfaces::Surface;
use http::StatusCode;
use serde_json::Value;
use std::collections::HashSet;

/// The longest name of a function.
const MAX_NAME: usize = 64;
/// Characters of a caller's text that an error repeats.
const MAX_QUOTED: usize = 64;
const RESPONSES_TOOLS: &[&str] = &[
    "function",
    "web_search",
    "x_search",
    "image_generation",
    "collections_search",
    "file_search",
    "code_execution",
    "code_interpreter",
    "mcp",
    "shell",
];
const CHAT_TOOLS: &[&str] = &["function", "live_search"];
/// Members of searches that other servers know.
const FOREIGN_SEARCH_OPTIONS: [&str; 3] =
    ["external_web_access", "indexed_web_access", "search_context_size"];
/// Items of tools that xAI does not have.
const FOREIGN_ITEMS: [&str; 5] = [
    "custom_tool_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "tool_search_call",
    "tool_search_output",
];

/// Types of choices that other servers know.
const FOREIGN_CHOICES: [&str; 2] = ["allowed_tools", "custom"];

/// The part of a request that xAI refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSupported {
    #[error(
        "Failed to deserialize the JSON body into the target type: tools[{index}].type: unknown variant `{kind}`, expected {expected}"
    )]
    ToolType { index: usize, kind: String, expected: String },
    #[error(
        "Failed to deserialize the JSON body into the target type: messages.tool_calls.type: unknown variant `{0}`, expected `function`"
    )]
    CallType(String),
    #[error(
        "Failed to deserialize the JSON body into the target type: tool_choice: data did not match any variant of untagged enum ModelToolChoice"
    )]
    ChoiceType,
    #[error("Argument not supported: {0}")]
    Argument(&'static str),
    #[error(
        "Could not decode the compaction blob. Ensure it is unmodified from the compact response."
    )]
    NullContent,
    #[error(
        "Failed to deserialize the JSON body into the target type: input: data did not match any variant of untagged enum ModelInput"
    )]
    InputItem,
    #[error(
        "Invalid parameters of the function '{0}': the schema's root must be an object without oneOf and anyOf."
    )]
    UnionSchema(String),
    #[error("Model {0} does not support parameter reasoningEffort.")]
    Effort(String),
    #[error("A tool_choice was set on the request but no tools were specified.")]
    ChoiceWithoutTools,
    #[error("The function '{0}' of the tool_choice is not one of the tools.")]
    UnknownChoice(String),
    #[error("The name of a function must have 1 to 64 characters and be unique: '{0}'.")]
    FunctionName(String),
}

impl NotSupported {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ToolType { .. } | Self::InputItem | Self::CallType(_) | Self::ChoiceType => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            _ => StatusCode::BAD_REQUEST,
        }
    }

    pub fn code(&self) -> &'static str {
        if matches!(self, Self::Argument(_)) { "400" } else { "invalid-argument" }
    }
}

/// Refuses a request that xAI refuses.
///
/// # Errors
/// [`NotSupported`].
pub fn check(surface: Surface, request: &ModelRequest, model: &Model) -> Result<(), NotSupported> {
    match surface {
        Surface::Responses => {
            check_types(request, RESPONSES_TOOLS)?;
            check_searches(request)?;
            request.input.iter().try_for_each(check_item)?;
            check_schemas(request)?;
        }
        Surface::Chat => {
            check_types(request, CHAT_TOOLS)?;
            let foreign = request.call_types.iter().find(|kind| *kind != "function");
            if let Some(kind) = foreign {
                return Err(NotSupported::CallType(quoted(kind)));
            }
        }
        Surface::Messages => {}
        Surface::Completions | Surface::Embeddings | Surface::Images => return Ok(()),
    }
    if surface != Surface::Messages && request.effort.is_some() && !model.takes_effort {
        return Err(NotSupported::Effort(model.name.clone()));
    }
    check_names(request)?;
    check_choice(request)
}

fn check_types(request: &ModelRequest, known: &[&str]) -> Result<(), NotSupported> {
    for (index, tool) in request.tools.list.iter().enumerate() {
        let kind = tool["type"].as_str().unwrap_or_default();
        if !known.contains(&kind) {
            let expected: Vec<_> = known.iter().map(|kind| format!("`{kind}`")).collect();
            let expected = match &expected[..] {
                [one, other] => format!("{one} or {other}"),
                all => format!("one of {}", all.join(", ")),
            };
            return Err(NotSupported::ToolType { index, kind: quoted(kind), expected });
        }
    }
    Ok(())
}

fn check_searches(request: &ModelRequest) -> Result<(), NotSupported> {
    let searches = request.tools.list.iter().filter(|tool| tool["type"] == "web_search");
    for search in searches {
        let foreign = FOREIGN_SEARCH_OPTIONS.iter().find(|name| search.get(**name).is_some());
        if let Some(name) = foreign {
            return Err(NotSupported::Argument(name));
        }
    }
    Ok(())
}

fn check_item(item: &Value) -> Result<(), NotSupported> {
    let kind = item["type"].as_str().unwrap_or_default();
    match kind {
        "reasoning" if item.get("content").is_some_and(Value::is_null) => {
            Err(NotSupported::NullContent)
        }
        // Those of its own searches come back as custom calls.
        "custom_tool_call" if item["name"].as_str().is_some_and(|name| name.starts_with("x_")) => {
            Ok(())
        }
        "custom_tool_call" => Err(NotSupported::InputItem),
        _ if FOREIGN_ITEMS.contains(&kind) || !item.is_object() => Err(NotSupported::InputItem),
        _ => Ok(()),
    }
}

fn check_schemas(request: &ModelRequest) -> Result<(), NotSupported> {
    for function in request.tools.functions() {
        let schema = parameters(function);
        let is_union = |name| schema.is_some_and(|schema| schema.get(name).is_some());
        if is_union("oneOf") || is_union("anyOf") {
            return Err(NotSupported::UnionSchema(name(function)));
        }
    }
    Ok(())
}

fn check_names(request: &ModelRequest) -> Result<(), NotSupported> {
    let mut names = HashSet::new();
    for function in request.tools.functions() {
        let text = function["name"].as_str().unwrap_or_default();
        if text.is_empty() || text.chars().count() > MAX_NAME || !names.insert(text) {
            return Err(NotSupported::FunctionName(name(function)));
        }
    }
    Ok(())
}

fn check_choice(request: &ModelRequest) -> Result<(), NotSupported> {
    let tools = &request.tools;
    if tools.choice.is_some() && tools.list.is_empty() {
        return Err(NotSupported::ChoiceWithoutTools);
    }
    let kind = tools.choice.as_ref().and_then(|choice| choice["type"].as_str());
    if kind.is_some_and(|kind| FOREIGN_CHOICES.contains(&kind)) {
        return Err(NotSupported::ChoiceType);
    }
    match tools.choice() {
        ToolChoice::Named(name) if !tools.functions().any(|known| known["name"] == name) => {
            Err(NotSupported::UnknownChoice(quoted(name)))
        }
        _ => Ok(()),
    }
}

fn name(function: &Value) -> String {
    quoted(function["name"].as_str().unwrap_or_default())
}

fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}
