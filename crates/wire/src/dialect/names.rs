//! Reads the tools of a request whose names change.

use super::xai::text;
use crate::json::{self, each_element};
use crate::tool_names::{CallKind, MAX_NAMESPACE, OriginalTool, ToolNames};
use serde_json::value::RawValue;
use std::collections::HashSet;

/// Names the tools of a request for responses.
pub(super) fn of_responses(tools: &RawValue) -> ToolNames {
    let (mut kept, mut changed) = (HashSet::new(), Vec::new());
    let _ = each_element(tools.get(), |tool| match &*text(tool, "type") {
        "function" => {
            kept.insert(text(tool, "name"));
        }
        "custom" => changed.push(tool_of(tool, String::new())),
        "namespace" => {
            let space = text(tool, "name");
            if space.len() > MAX_NAMESPACE {
                return;
            }
            let [tools] = json::members(tool.get().as_bytes(), ["tools"]).unwrap_or_default();
            let _ = each_element(tools.map_or("[]", RawValue::get), |tool| {
                changed.push(tool_of(tool, space.clone()));
            });
        }
        _ => {}
    });
    ToolNames::new(kept, changed)
}

/// The tool that is written in `tool`.
pub(super) fn tool_of(tool: &RawValue, namespace: String) -> OriginalTool {
    let kind = if text(tool, "type") == "custom" { CallKind::Custom } else { CallKind::Function };
    OriginalTool { kind, namespace, name: text(tool, "name") }
}
