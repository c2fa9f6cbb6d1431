//! xAI's dialect on chat completions: custom tools are functions, and a choice among some of the tools leaves out the
//! others.

use super::allowed::{Allowed, name_of};
use super::custom;
use super::members::{Edit, edit_array, edit_object};
use super::reply::DialectReply;
use super::xai::text;
use crate::json::{self, each_element};
use crate::tool_names::{CallKind, OriginalTool, ToolNames};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;

/// How the tools of a request are written.
#[derive(Debug)]
pub(super) struct ChatPlan {
    names: ToolNames,
    allowed: Option<Allowed>,
    /// False if no tool is left.
    has_tools: bool,
    /// False if no message can have the call of a custom tool.
    may_have_calls: bool,
}

impl ChatPlan {
    /// Reads the tools of a request and the choice among them.
    pub fn of(body: &str) -> Self {
        let [tools, choice] =
            json::members(body.as_bytes(), ["tools", "tool_choice"]).unwrap_or_default();
        let mut plan = Self {
            names: tools.map(names_of).unwrap_or_default(),
            allowed: choice.and_then(Allowed::of),
            has_tools: false,
            may_have_calls: body.contains("\"custom\""),
        };
        let mut written = HashSet::new();
        let _ = each_element(tools.map_or("[]", RawValue::get), |tool| {
            let is_dropped = matches!(plan.tool(tool, &mut written), Edit::Drop);
            plan.has_tools |= !is_dropped;
        });
        plan
    }

    /// What becomes of a member of the request.
    pub fn edit(&self, member: &str, value: &RawValue) -> Edit {
        match member {
            "tools" => {
                let mut written = HashSet::new();
                Edit::of(edit_array(value.get(), |tool| self.tool(tool, &mut written)))
            }
            "tool_choice" => self.tool_choice(value),
            "messages" if self.may_have_calls => {
                Edit::of(edit_array(value.get(), |message| self.message(message)))
            }
            _ => Edit::Keep,
        }
    }

    /// How the reply is read.
    pub fn into_reply(self) -> DialectReply {
        DialectReply::of_names(self.names)
    }

    /// `written` are the new names so far: a tool that is there twice is written once.
    fn tool(&self, tool: &RawValue, written: &mut HashSet<String>) -> Edit {
        let kind = text(tool, "type");
        let inner = inner(tool, &kind);
        let name = name_of(inner, &kind);
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.allows(&kind, "", &name)) {
            return Edit::Drop;
        }
        if kind != "custom" {
            return Edit::Keep;
        }
        let flat = self.names.flat(&custom_tool(name));
        let function = custom::as_chat_function(inner, &flat);
        if written.insert(flat) { Edit::Replace(function) } else { Edit::Drop }
    }

    fn tool_choice(&self, choice: &RawValue) -> Edit {
        match &self.allowed {
            _ if !self.has_tools => Edit::Drop,
            Some(allowed) => Edit::Replace(allowed.mode.to_owned()),
            None if text(choice, "type") == "custom" => {
                let tool = custom_tool(text(inner(choice, "custom"), "name"));
                let name = Value::from(self.names.flat(&tool));
                Edit::Replace(format!(r#"{{"type":"function","function":{{"name":{name}}}}}"#))
            }
            None => Edit::Keep,
        }
    }

    /// Earlier calls of custom tools as calls of their functions.
    fn message(&self, message: &RawValue) -> Edit {
        Edit::of(edit_object(message.get(), |member, value| match member {
            "tool_calls" => Edit::of(edit_array(value.get(), |call| self.call(call))),
            _ => Edit::Keep,
        }))
    }

    fn call(&self, call: &RawValue) -> Edit {
        if text(call, "type") != "custom" {
            return Edit::Keep;
        }
        let custom = inner(call, "custom");
        let flat = self.names.flat(&custom_tool(text(custom, "name")));
        custom::chat_call_as_function(call, custom, &flat)
    }
}

/// Names the tools of a request.
fn names_of(tools: &RawValue) -> ToolNames {
    let (mut kept, mut changed) = (HashSet::new(), Vec::new());
    let _ = each_element(tools.get(), |tool| match &*text(tool, "type") {
        "function" => {
            kept.insert(text(inner(tool, "function"), "name"));
        }
        "custom" => changed.push(custom_tool(text(inner(tool, "custom"), "name"))),
        _ => {}
    });
    ToolNames::new(kept, changed)
}

fn custom_tool(name: String) -> OriginalTool {
    OriginalTool { kind: CallKind::Custom, namespace: String::new(), name }
}

/// Chat nests a tool under its type.
fn inner<'a>(tool: &'a RawValue, kind: &str) -> &'a RawValue {
    let [nested] = json::members(tool.get().as_bytes(), [kind]).unwrap_or_default();
    nested.filter(|nested| nested.get().starts_with('{')).unwrap_or(tool)
}
