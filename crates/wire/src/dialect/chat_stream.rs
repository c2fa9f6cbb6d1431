//! Calls of custom tools in a stream of chat completion chunks, which the upstream calls as functions.

use super::custom::input;
use super::members::{Edit, edit_array, edit_object};
use super::reply::DialectReply;
use super::xai::text;
use crate::json::{self, each_element, each_member};
use crate::tool_names::CallKind;
use crate::translation::JsonDepth;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most calls of custom tools in one stream; more pass as calls of functions.
const MAX_CUSTOM_CALLS: usize = 1_024;
/// The most bytes of arguments that wait for their end; more pass as they are.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;
/// What every chunk with a call, or with the end of a choice, contains.
const MARKS: [&str; 2] = ["\"tool_calls\"", "\"finish_reason\""];

/// The calls of custom tools in one stream, by choice and index.
#[derive(Default)]
pub(super) struct ChatCalls {
    calls: BTreeMap<(u64, u64), ChatCall>,
    held: usize,
}

/// A call whose arguments come in pieces of JSON, from which its input can be read at their end only.
#[derive(Default)]
struct ChatCall {
    arguments: String,
    depth: JsonDepth,
    /// True if the caller has the input.
    is_sent: bool,
    is_raw: bool,
}

/// The choice of a chunk.
#[derive(Clone, Copy)]
struct ChoicePosition {
    number: u64,
    /// It ends with this chunk.
    is_last: bool,
}

impl ChatCalls {
    /// The chunks that take the place of one, as data of events; `None` if it passes as it is.
    pub fn restore(&mut self, reply: &DialectReply, chunk: &str) -> Option<Vec<String>> {
        if !MARKS.iter().any(|mark| chunk.contains(mark)) {
            return None;
        }
        let edited = edit_object(chunk, |member, value| match member {
            "choices" => Edit::of(edit_array(value.get(), |choice| self.choice(reply, choice))),
            _ => Edit::Keep,
        });
        let mut chunks = self.finish(chunk);
        if edited.is_none() && chunks.is_empty() {
            return None;
        }
        chunks.push(edited.unwrap_or_else(|| chunk.to_owned()));
        Some(chunks)
    }

    fn choice(&mut self, reply: &DialectReply, choice: &RawValue) -> Edit {
        let at = ChoicePosition {
            number: count(choice, "index"),
            is_last: !text(choice, "finish_reason").is_empty(),
        };
        Edit::of(edit_object(choice.get(), |member, delta| match member {
            "delta" => Edit::of(edit_object(delta.get(), |member, calls| match member {
                "tool_calls" => self.tool_calls(reply, at, calls),
                _ => Edit::Keep,
            })),
            _ => Edit::Keep,
        }))
    }

    fn tool_calls(
        &mut self,
        reply: &DialectReply,
        choice: ChoicePosition,
        calls: &RawValue,
    ) -> Edit {
        let edited = edit_array(calls.get(), |call| self.call(reply, choice, call));
        match edited {
            Some(calls) if calls == "[]" => Edit::Drop,
            edited => Edit::of(edited),
        }
    }

    fn call(&mut self, reply: &DialectReply, choice: ChoicePosition, call: &RawValue) -> Edit {
        let at = (choice.number, count(call, "index"));
        let [function] = json::members(call.get().as_bytes(), ["function"]).unwrap_or_default();
        let Some(function) = function else { return Edit::Keep };
        let tool = reply.original(&text(function, "name"));
        let name = tool.filter(|tool| tool.kind == CallKind::Custom).map(|tool| &*tool.name);
        // Some servers repeat the name with every piece of the arguments.
        let name = name.filter(|_| !self.calls.contains_key(&at));
        if name.is_some() && self.calls.len() < MAX_CUSTOM_CALLS {
            self.calls.insert(at, ChatCall::default());
        }
        let Some(open) = self.calls.get_mut(&at) else { return Edit::Keep };
        let more = text(function, "arguments");
        let before = open.arguments.len();
        let is_overflow = self.held.saturating_add(more.len()) > MAX_HELD_BYTES;
        let input = open.push(&more, choice.is_last, is_overflow);
        self.held = self.held.saturating_sub(before).saturating_add(open.arguments.len());
        match (name, input) {
            (None, None) => Edit::Drop,
            (None, Some(input)) => as_custom(call, &json!({ "input": input })),
            (Some(name), input) => {
                as_custom(call, &json!({"name": name, "input": input.unwrap_or_default()}))
            }
        }
    }

    /// The input of calls whose choice ends with this chunk, although their arguments are not whole: in a chunk
    /// before it.
    fn finish(&mut self, chunk: &str) -> Vec<String> {
        let mut ended = Vec::new();
        let _ = each_member(chunk, |name, choices| {
            if name != "choices" {
                return;
            }
            let _ = each_element(choices.get(), |choice| {
                if !text(choice, "finish_reason").is_empty() {
                    ended.push(count(choice, "index"));
                }
            });
        });
        let mut chunks = Vec::new();
        for ((choice, index), call) in &mut self.calls {
            if !ended.contains(choice) || std::mem::replace(&mut call.is_sent, true) {
                continue;
            }
            let custom = json!({"input": input(&std::mem::take(&mut call.arguments))});
            let delta = json!({"tool_calls": [{"index": index, "custom": custom}]});
            let choices = json!([{"index": choice, "delta": delta, "finish_reason": null}]);
            chunks.extend(edit_object(chunk, |member, _| match member {
                "choices" => Edit::Replace(choices.to_string()),
                "usage" => Edit::Drop,
                _ => Edit::Keep,
            }));
        }
        chunks
    }
}

impl ChatCall {
    /// Takes the next piece of the arguments; returns the input once it can be read. From an overflow on, the pieces
    /// are the input as they are.
    fn push(&mut self, more: &str, is_last: bool, is_overflow: bool) -> Option<String> {
        if self.is_raw {
            return Some(more.to_owned()).filter(|more| !more.is_empty());
        }
        if self.is_sent {
            return None;
        }
        self.depth.push(more);
        self.arguments.push_str(more);
        if !is_last && !is_overflow && !self.depth.is_complete() {
            return None;
        }
        self.is_sent = true;
        self.is_raw = is_overflow;
        let arguments = std::mem::take(&mut self.arguments);
        Some(if is_overflow { arguments } else { input(&arguments) })
    }
}

/// The call of a function as one of a custom tool.
fn as_custom(call: &RawValue, custom: &Value) -> Edit {
    Edit::of(edit_object(call.get(), |member, _| match member {
        "type" => Edit::Replace(r#""custom""#.to_owned()),
        "function" => Edit::Rename("custom", custom.to_string()),
        _ => Edit::Keep,
    }))
}

fn count(object: &RawValue, name: &str) -> u64 {
    let [value] = json::members(object.get().as_bytes(), [name]).unwrap_or_default();
    value.and_then(|value| value.get().parse().ok()).unwrap_or(0)
}
