//! `tool_choice` of the type `allowed_tools`, which xAI does not have: the other tools are left out, and the choice
//! becomes its mode.

use super::xai::{is_search, text};
use crate::json::{self, each_element};
use serde_json::value::RawValue;

/// Each tool of a request is compared with each that is allowed. A longer choice stays as it is: the upstream will
/// refuse it.
const MAX_ALLOWED: usize = 256;

/// The tools that a request allows.
#[derive(Debug)]
pub(super) struct Allowed {
    tools: Vec<AllowedTool>,
    /// JSON of the choice among them.
    pub mode: &'static str,
}

/// One tool that is allowed; empty texts match any.
#[derive(Debug)]
struct AllowedTool {
    kind: String,
    namespace: String,
    name: String,
}

impl Allowed {
    /// Reads a choice of responses, or of chat completions, which nest its members; `None` for any other choice.
    pub fn of(choice: &RawValue) -> Option<Self> {
        if text(choice, "type") != "allowed_tools" {
            return None;
        }
        let [nested] = json::members(choice.get().as_bytes(), ["allowed_tools"])?;
        let choice = nested.unwrap_or(choice);
        let [tools] = json::members(choice.get().as_bytes(), ["tools"])?;
        let mut allowed = Vec::new();
        let _ = each_element(tools.map_or("[]", RawValue::get), |tool| {
            if allowed.len() <= MAX_ALLOWED {
                allowed.push(AllowedTool::of(tool));
            }
        });
        if allowed.len() > MAX_ALLOWED {
            return None;
        }
        let mode = if text(choice, "mode") == "required" { r#""required""# } else { r#""auto""# };
        Some(Self { tools: allowed, mode })
    }

    /// True if the tool may be called; `namespace` is empty outside of namespaces.
    pub fn allows(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let matches = |pattern: &str, text: &str| pattern.is_empty() || pattern == text;
        self.tools.iter().any(|tool| match &*tool.kind {
            "namespace" => !namespace.is_empty() && tool.name == namespace,
            "function" | "custom" => {
                tool.kind == kind && tool.name == name && matches(&tool.namespace, namespace)
            }
            search if is_search(search) => is_search(kind),
            other => other == kind && matches(&tool.name, name),
        })
    }
}

impl AllowedTool {
    fn of(tool: &RawValue) -> Self {
        let kind = text(tool, "type");
        let nested =
            json::members(tool.get().as_bytes(), [kind.as_str()]).and_then(|[nested]| nested);
        let name = name_of(nested.unwrap_or(tool), &kind);
        Self { kind, namespace: text(tool, "namespace"), name }
    }
}

/// The name of a tool; of an MCP server its label.
pub(super) fn name_of(tool: &RawValue, kind: &str) -> String {
    text(tool, if kind == "mcp" { "server_label" } else { "name" })
}
