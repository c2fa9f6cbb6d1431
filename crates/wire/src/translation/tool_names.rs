//! Names of tools that the upstream knows as functions under another name, or that are no functions for the caller.

use super::request::{Call, CallKind, Tool};
use crate::tool_names::{self, OriginalTool};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// The tools of a request by the names that the upstream knows, and back.
#[derive(Debug, Clone, Default)]
pub(super) struct ToolNames(Arc<tool_names::ToolNames>);

impl ToolNames {
    /// The tools of a request for an upstream that knows neither namespaces nor custom tools.
    pub fn of(tools: &[Tool<'_>]) -> Self {
        let (mut kept, mut changed) = (HashSet::new(), Vec::new());
        for tool in tools {
            match tool {
                Tool::Function(function) => match function.namespace.as_deref() {
                    Some(namespace) => {
                        changed.push(original(CallKind::Function, Some(namespace), &function.name));
                    }
                    None => {
                        kept.insert(function.name.to_string());
                    }
                },
                Tool::Custom { namespace, name, .. } => {
                    changed.push(original(CallKind::Custom, namespace.as_deref(), name));
                }
                Tool::WebSearch(_) => {}
            }
        }
        Self(Arc::new(tool_names::ToolNames::new(kept, changed)))
    }

    /// The upstream's name for a tool, also for one that the request does not have.
    pub fn flat<'n>(&self, kind: CallKind, namespace: Option<&str>, name: &'n str) -> Cow<'n, str> {
        if kind == CallKind::Function && namespace.is_none() {
            return Cow::Borrowed(name);
        }
        Cow::Owned(self.0.flat(&original(kind, namespace, name)))
    }

    /// The upstream's name for the tool of a call.
    pub fn of_call<'n>(&self, call: &'n Call<'_>) -> Cow<'n, str> {
        self.flat(call.kind, call.namespace.as_deref(), &call.name)
    }

    /// The tool that the upstream calls `flat`; `None` for a function of that name.
    pub fn restore(&self, flat: &str) -> Option<&OriginalTool> {
        self.0.original(flat)
    }
}

fn original(kind: CallKind, namespace: Option<&str>, name: &str) -> OriginalTool {
    let namespace = namespace.unwrap_or_default().to_owned();
    OriginalTool { kind, namespace, name: name.to_owned() }
}
