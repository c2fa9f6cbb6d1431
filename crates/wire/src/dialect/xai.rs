//! xAI's dialect.

use super::allowed::{Allowed, name_of};
use super::custom;
use super::members::{Edit, edit_array, edit_object};
use super::names::{of_responses, tool_of};
use super::reply::DialectReply;
use super::tools::is_cached_search;
use super::union_schema;
use crate::json::{self, each_element};
use crate::tool_names::{CallKind, MAX_NAMESPACE, OriginalTool, ToolNames};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;

/// Members of a search that xAI refuses. The preview of the search is the same search under another name.
const FOREIGN_SEARCH_OPTIONS: [&str; 3] =
    ["external_web_access", "indexed_web_access", "search_context_size"];

/// How the tools of a request on responses are written.
#[derive(Debug)]
pub(super) struct Plan {
    names: ToolNames,
    allowed: Option<Allowed>,
    /// False if no tool is left.
    has_tools: bool,
    /// True if a search is left.
    has_search: bool,
    /// The calls of custom tools whose output is in the input: the client ran them.
    answered: HashSet<String>,
}

impl Plan {
    /// Reads the tools and the earlier calls of a request.
    pub fn of(body: &str) -> Self {
        let members = json::members(body.as_bytes(), ["tools", "input", "tool_choice"]);
        let [tools, input, choice] = members.unwrap_or_default();
        let names = tools.map(of_responses).unwrap_or_default();
        let mut plan = Self {
            names,
            allowed: choice.and_then(Allowed::of),
            has_tools: false,
            has_search: false,
            answered: HashSet::new(),
        };
        let mut written = HashSet::new();
        let _ = each_element(tools.map_or("[]", RawValue::get), |tool| {
            let is_dropped = match plan.tool(tool, &mut written) {
                Edit::Drop => true,
                Edit::Replace(json) => json.is_empty(),
                _ => false,
            };
            plan.has_tools |= !is_dropped;
            plan.has_search |= !is_dropped && is_search(&text(tool, "type"));
        });
        let _ = each_element(input.map_or("[]", RawValue::get), |item| {
            if text(item, "type") == "custom_tool_call_output" {
                plan.answered.insert(text(item, "call_id"));
            }
        });
        plan
    }

    /// What becomes of a member of the request.
    pub fn edit(&self, member: &str, value: &RawValue) -> Edit {
        match member {
            "tools" => self.tools(value),
            "input" => self.input(value),
            "tool_choice" => self.tool_choice(value),
            _ => Edit::Keep,
        }
    }

    /// How the reply is read; `body` is the request as its caller sent it.
    pub fn into_reply(self, body: &str) -> DialectReply {
        DialectReply::new(self.names, body, self.allowed.is_some())
    }

    fn is_left_out(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.allowed.as_ref().is_some_and(|allowed| !allowed.allows(kind, namespace, name))
    }

    /// The tools: namespaces and custom tools become functions, what xAI does not have is left out.
    fn tools(&self, tools: &RawValue) -> Edit {
        let mut written = HashSet::new();
        Edit::of(edit_array(tools.get(), |tool| self.tool(tool, &mut written)))
    }

    /// `written` are the new names so far: a tool that is there twice is written once.
    fn tool(&self, tool: &RawValue, written: &mut HashSet<String>) -> Edit {
        match &*text(tool, "type") {
            // The upstream refuses it.
            "namespace" if text(tool, "name").len() > MAX_NAMESPACE => Edit::Keep,
            "namespace" => Edit::Replace(self.flatten(tool, written)),
            kind if self.is_left_out(kind, "", &name_of(tool, kind)) => Edit::Drop,
            "custom" => {
                let flat = self.names.flat(&tool_of(tool, String::new()));
                let function = custom::as_function(tool, &flat);
                if written.insert(flat) { Edit::Replace(function) } else { Edit::Drop }
            }
            "local_shell" | "tool_search" => Edit::Drop,
            "function" => Edit::of(edit_object(tool.get(), edit_function)),
            kind if is_search(kind) => edit_search(tool),
            _ => Edit::Keep,
        }
    }

    /// The tools of a namespace, separated by commas.
    fn flatten(&self, namespace: &RawValue, written: &mut HashSet<String>) -> String {
        let space = text(namespace, "name");
        let [tools] = json::members(namespace.get().as_bytes(), ["tools"]).unwrap_or_default();
        let mut flat = Vec::new();
        let _ = each_element(tools.map_or("[]", RawValue::get), |tool| {
            let kind = text(tool, "type");
            let original = tool_of(tool, space.clone());
            let name = self.names.flat(&original);
            match &*kind {
                _ if original.name.is_empty() => {}
                kind if self.is_left_out(function_kind(kind), &space, &original.name) => {}
                "" | "function" | "custom" if !written.insert(name.clone()) => {}
                "custom" => flat.push(custom::as_function(tool, &name)),
                "" | "function" => flat.push(renamed_function(tool, &name, kind.is_empty())),
                _ => {}
            }
        });
        flat.join(",")
    }

    /// Earlier calls as xAI knows their tools; reasoning loses an empty content.
    fn input(&self, input: &RawValue) -> Edit {
        Edit::of(edit_array(input.get(), |item| match &*text(item, "type") {
            "reasoning" => Edit::of(edit_object(item.get(), |name, value| {
                if name == "content" && json::is_null(value) { Edit::Drop } else { Edit::Keep }
            })),
            "function_call" => self.flat_name(item),
            "custom_tool_call" => self.custom_call(item),
            "custom_tool_call_output" | "local_shell_call_output" => {
                custom::output_as_function(item)
            }
            "local_shell_call" => custom::shell_as_function(item),
            "tool_search_call" | "tool_search_output" => Edit::Drop,
            _ => Edit::Keep,
        }))
    }

    /// A call that the client did not run is one of xAI's own, and stays.
    fn custom_call(&self, item: &RawValue) -> Edit {
        let tool = OriginalTool {
            kind: CallKind::Custom,
            namespace: text(item, "namespace"),
            name: text(item, "name"),
        };
        if !self.names.has(&tool) && !self.answered.contains(&text(item, "call_id")) {
            return Edit::Keep;
        }
        custom::call_as_function(item, &self.names.flat(&tool))
    }

    /// The choice as far as its tools are left.
    fn tool_choice(&self, choice: &RawValue) -> Edit {
        let kind = text(choice, "type");
        match &*kind {
            _ if !self.has_tools => Edit::Drop,
            "allowed_tools" => self
                .allowed
                .as_ref()
                .map_or(Edit::Keep, |allowed| Edit::Replace(allowed.mode.to_owned())),
            "local_shell" | "tool_search" | "namespace" => Edit::Drop,
            kind if is_search(kind) && !self.has_search => Edit::Drop,
            kind if is_search(kind) => search_type(choice, kind),
            "custom" => {
                let tool = tool_of(choice, text(choice, "namespace"));
                let name = Value::from(self.names.flat(&tool));
                Edit::Replace(format!(r#"{{"type":"function","name":{name}}}"#))
            }
            _ => self.flat_name(choice),
        }
    }

    /// Joins the name and the namespace of an object.
    fn flat_name(&self, object: &RawValue) -> Edit {
        let namespace = text(object, "namespace");
        let name = text(object, "name");
        if namespace.is_empty() {
            return Edit::Keep;
        }
        let tool = OriginalTool { kind: CallKind::Function, namespace, name };
        Edit::of(edit_object(object.get(), |member, _| match member {
            "namespace" => Edit::Drop,
            "name" => Edit::Replace(Value::from(self.names.flat(&tool)).to_string()),
            _ => Edit::Keep,
        }))
    }
}

/// A tool choice on a surface whose tools do not change: xAI refuses one without tools.
pub(super) fn choice_without_tools(body: &str) -> bool {
    let [tools] = json::members(body.as_bytes(), ["tools"]).unwrap_or_default();
    let mut is_empty = true;
    let _ = each_element(tools.map_or("[]", RawValue::get), |_| is_empty = false);
    is_empty
}

/// A tool of a namespace without a type is a function.
fn function_kind(kind: &str) -> &str {
    if kind.is_empty() { "function" } else { kind }
}

pub(super) fn is_search(kind: &str) -> bool {
    kind.starts_with("web_search")
}

fn edit_search(search: &RawValue) -> Edit {
    if is_cached_search(search) {
        return Edit::Drop;
    }
    let kind = text(search, "type");
    Edit::of(edit_object(search.get(), |name, _| match name {
        "type" if kind != "web_search" => Edit::Replace(r#""web_search""#.to_owned()),
        _ if FOREIGN_SEARCH_OPTIONS.contains(&name) => Edit::Drop,
        _ => Edit::Keep,
    }))
}

fn search_type(choice: &RawValue, kind: &str) -> Edit {
    if kind == "web_search" {
        return Edit::Keep;
    }
    Edit::of(edit_object(choice.get(), |name, _| match name {
        "type" => Edit::Replace(r#""web_search""#.to_owned()),
        _ => Edit::Keep,
    }))
}

/// A function of a namespace under its flat name.
fn renamed_function(function: &RawValue, name: &str, lacks_type: bool) -> String {
    let name = Value::from(name).to_string();
    let name = if lacks_type { format!(r#"{name},"type":"function""#) } else { name };
    let edited = edit_object(function.get(), |member, value| match member {
        "name" => Edit::Replace(name.clone()),
        _ => edit_function(member, value),
    });
    edited.unwrap_or_default()
}

/// A tool whose loading is deferred is found by a search of tools, which xAI does not have.
fn edit_function(member: &str, value: &RawValue) -> Edit {
    match member {
        "parameters" => Edit::of(union_schema::as_object(value)),
        "defer_loading" => Edit::Drop,
        _ => Edit::Keep,
    }
}

/// A member that is a string; empty where it is anything else.
pub(super) fn text(object: &RawValue, name: &str) -> String {
    let [value] = json::members(object.get().as_bytes(), [name]).unwrap_or_default();
    let value = value.filter(|value| value.get().starts_with('"'));
    value.map(json::text).unwrap_or_default().into_owned()
}
