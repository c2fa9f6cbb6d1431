//! Names of tools that the upstream knows as functions under another name, or that are no functions for the caller.

use super::chat::write_request::flat_name;
use super::request::{CallKind, Tool};
use std::sync::Arc;

/// The tools that are restored in calls.
#[derive(Debug, Clone, Default)]
pub(super) struct ToolNames(Arc<[ToolName]>);

/// A tool as its caller knows it.
#[derive(Debug)]
pub(super) struct ToolName {
    /// The name at the upstream.
    flat: String,
    pub kind: CallKind,
    pub namespace: Option<String>,
    pub name: String,
}

impl ToolNames {
    /// The tools of a request for an upstream that knows neither namespaces nor custom tools.
    pub fn of(tools: &[Tool<'_>]) -> Self {
        let named = tools.iter().filter_map(|tool| match tool {
            Tool::Function(function) => {
                let namespace = function.namespace.as_deref()?;
                Some(ToolName {
                    flat: flat_name(Some(namespace), &function.name).into_owned(),
                    kind: CallKind::Function,
                    namespace: Some(namespace.to_owned()),
                    name: function.name.to_string(),
                })
            }
            Tool::Custom { name, .. } => Some(ToolName {
                flat: name.to_string(),
                kind: CallKind::Custom,
                namespace: None,
                name: name.to_string(),
            }),
            Tool::WebSearch(_) => None,
        });
        Self(named.collect())
    }

    /// The tool that the upstream calls `flat`; `None` for a function of that name.
    pub fn restore(&self, flat: &str) -> Option<&ToolName> {
        self.0.iter().find(|tool| tool.flat == flat)
    }
}
