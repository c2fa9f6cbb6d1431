//! xAI's dialect of responses.

use super::members::{Edit, edit_array, edit_object};
use super::reply::FlatNames;
use super::tools::is_cached_search;
use super::union_schema;
use crate::json::{self, each_element};
use serde_json::Value;
use serde_json::value::RawValue;

/// Functions of namespaces become functions; searches lose what xAI does not know.
pub(super) fn tools(tools: &RawValue, names: &mut FlatNames) -> Edit {
    Edit::of(edit_array(tools.get(), |tool| edit_tool(tool, names)))
}

fn edit_tool(tool: &RawValue, names: &mut FlatNames) -> Edit {
    match &*text(tool, "type") {
        "namespace" => Edit::Replace(flatten(tool, names)),
        kind if kind.starts_with("web_search") => {
            if is_cached_search(tool) {
                return Edit::Drop;
            }
            Edit::of(edit_object(tool.get(), |name, _| {
                if name == "external_web_access" { Edit::Drop } else { Edit::Keep }
            }))
        }
        "function" => Edit::of(edit_object(tool.get(), edit_parameters)),
        _ => Edit::Keep,
    }
}

fn edit_parameters(name: &str, value: &RawValue) -> Edit {
    if name == "parameters" { Edit::of(union_schema::as_object(value)) } else { Edit::Keep }
}

/// The tools of a namespace, separated by commas.
fn flatten(namespace: &RawValue, names: &mut FlatNames) -> String {
    let space = text(namespace, "name");
    let [tools] = json::members(namespace.get().as_bytes(), ["tools"]).unwrap_or_default();
    let mut flat = Vec::new();
    let _ = each_element(tools.map_or("[]", RawValue::get), |tool| {
        let name = text(tool, "name");
        let flat_name = names.add(&space, &name);
        let edited = edit_object(tool.get(), |member, value| match member {
            "name" => Edit::Replace(Value::from(&*flat_name).to_string()),
            _ => edit_parameters(member, value),
        });
        flat.push(edited.unwrap_or_else(|| tool.get().to_owned()));
    });
    flat.join(",")
}

/// Earlier calls get the names of the flattened functions; reasoning loses an empty content.
pub(super) fn input(input: &RawValue) -> Edit {
    Edit::of(edit_array(input.get(), |item| match &*text(item, "type") {
        "reasoning" => Edit::of(edit_object(item.get(), |name, value| {
            if name == "content" && json::is_null(value) { Edit::Drop } else { Edit::Keep }
        })),
        "function_call" => flat_name(item),
        _ => Edit::Keep,
    }))
}

pub(super) fn tool_choice(choice: &RawValue, without_search: bool) -> Edit {
    if without_search && text(choice, "type").starts_with("web_search") {
        return Edit::Drop;
    }
    flat_name(choice)
}

/// Joins the name and the namespace of an object.
fn flat_name(object: &RawValue) -> Edit {
    let (namespace, name) = (text(object, "namespace"), text(object, "name"));
    if namespace.is_empty() {
        return Edit::Keep;
    }
    Edit::of(edit_object(object.get(), |member, _| match member {
        "namespace" => Edit::Drop,
        "name" => Edit::Replace(Value::from(FlatNames::flat(&namespace, &name)).to_string()),
        _ => Edit::Keep,
    }))
}

/// A member that is a string; empty where it is anything else.
pub(super) fn text(object: &RawValue, name: &str) -> String {
    let [value] = json::members(object.get().as_bytes(), [name]).unwrap_or_default();
    let value = value.filter(|value| value.get().starts_with('"'));
    value.map(json::text).unwrap_or_default().into_owned()
}
