//! Tools that take text, for an upstream that only has functions: a function with one argument, and its calls.

use super::members::{Edit, edit_object};
use super::xai::text;
use crate::json;
use crate::tool_names::OriginalTool;
use crate::translation::{CUSTOM_PARAMETERS, CustomFormat, INPUT, describe_custom};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The function that stands for a custom tool of responses.
pub(super) fn as_function(tool: &RawValue, flat: &str) -> String {
    let [format] = json::members(tool.get().as_bytes(), ["format"]).unwrap_or_default();
    format!(r#"{{"type":"function",{}}}"#, definition(tool, format, flat))
}

/// The function that stands for a custom tool of chat completions, which nest its grammar.
pub(super) fn as_chat_function(custom: &RawValue, flat: &str) -> String {
    let [format] = json::members(custom.get().as_bytes(), ["format"]).unwrap_or_default();
    let grammar = format.and_then(|format| json::members(format.get().as_bytes(), ["grammar"]));
    let [grammar] = grammar.unwrap_or_default();
    format!(r#"{{"type":"function","function":{{{}}}}}"#, definition(custom, grammar, flat))
}

/// The members of the function, without braces.
fn definition(tool: &RawValue, grammar: Option<&RawValue>, flat: &str) -> String {
    let part = |name| grammar.map(|grammar| text(grammar, name)).filter(|text| !text.is_empty());
    let format = part("syntax").zip(part("definition")).map(|(syntax, definition)| CustomFormat {
        syntax: syntax.into(),
        definition: definition.into(),
    });
    let description = describe_custom(Some(&text(tool, "description")), format.as_ref());
    let (name, description) = (Value::from(flat), Value::from(description));
    format!(r#""name":{name},"description":{description},"parameters":{CUSTOM_PARAMETERS}"#)
}

/// An earlier call of a custom tool in a message of the assistant, as a call of its function.
pub(super) fn chat_call_as_function(call: &RawValue, custom: &RawValue, flat: &str) -> Edit {
    let arguments = json!({ INPUT: text(custom, "input") }).to_string();
    let function = json!({"name": flat, "arguments": arguments});
    Edit::of(edit_object(call.get(), |member, _| match member {
        "type" => Edit::Replace(r#""function""#.to_owned()),
        "custom" => Edit::Rename("function", function.to_string()),
        _ => Edit::Keep,
    }))
}

/// A call of the function in a message, as a call of the custom tool that it stands for.
pub(super) fn restore_chat_call(call: &RawValue, function: &RawValue, name: &str) -> Edit {
    let custom = json!({"name": name, "input": input(&text(function, "arguments"))});
    Edit::of(edit_object(call.get(), |member, _| match member {
        "type" => Edit::Replace(r#""custom""#.to_owned()),
        "function" => Edit::Rename("custom", custom.to_string()),
        _ => Edit::Keep,
    }))
}

/// An earlier call of a custom tool as a call of its function.
pub(super) fn call_as_function(item: &RawValue, flat: &str) -> Edit {
    Edit::of(edit_object(item.get(), |name, value| match name {
        "type" => Edit::Replace(r#""function_call""#.to_owned()),
        "name" => Edit::Replace(Value::from(flat).to_string()),
        "namespace" => Edit::Drop,
        "input" => {
            let arguments = json!({ INPUT: json::text(value) }).to_string();
            Edit::Rename("arguments", Value::from(arguments).to_string())
        }
        _ => Edit::Keep,
    }))
}

/// The output of a custom tool, or of a shell, as that of a function.
pub(super) fn output_as_function(item: &RawValue) -> Edit {
    let has_call_id = !text(item, "call_id").is_empty();
    Edit::of(edit_object(item.get(), |name, value| match name {
        "type" => Edit::Replace(r#""function_call_output""#.to_owned()),
        "id" if !has_call_id => Edit::Rename("call_id", value.get().to_owned()),
        _ => Edit::Keep,
    }))
}

/// An earlier call of the shell that the client offered, which the upstream does not know, as a call of a function.
pub(super) fn shell_as_function(item: &RawValue) -> Edit {
    Edit::of(edit_object(item.get(), |name, value| match name {
        "type" => Edit::Replace(r#""function_call","name":"local_shell""#.to_owned()),
        "action" => Edit::Rename("arguments", Value::from(value.get()).to_string()),
        _ => Edit::Keep,
    }))
}

/// A call of the function as a call of the custom tool that it stands for.
pub(super) fn restore_call(item: &RawValue, tool: &OriginalTool) -> Edit {
    Edit::of(edit_object(item.get(), |member, value| match member {
        "type" => Edit::Replace(r#""custom_tool_call""#.to_owned()),
        "name" => Edit::Replace(named(tool)),
        "arguments" => Edit::Rename("input", Value::from(input(&json::text(value))).to_string()),
        _ => Edit::Keep,
    }))
}

/// The value of a member `name`, and the member that follows it if the tool has a namespace.
pub(super) fn named(tool: &OriginalTool) -> String {
    let name = Value::from(&*tool.name);
    if tool.namespace.is_empty() {
        return name.to_string();
    }
    format!("{name},\"namespace\":{}", Value::from(&*tool.namespace))
}

/// The text in the arguments of the function. What the model wrote in another form is the text as it is.
pub(super) fn input(arguments: &str) -> String {
    whole_input(arguments).unwrap_or_else(|| arguments.to_owned())
}

/// The text in arguments, if they are complete.
pub(super) fn whole_input(arguments: &str) -> Option<String> {
    let [input] = json::members(arguments.as_bytes(), [INPUT])?;
    input.filter(|input| input.get().starts_with('"')).map(|input| json::text(input).into_owned())
}
