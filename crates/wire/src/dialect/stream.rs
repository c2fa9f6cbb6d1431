//! Undoes a dialect in streams, whatever their chunking.

use super::chat_stream::ChatCalls;
use super::custom::{input, whole_input};
use super::members::{Edit, edit_object};
use super::reply::DialectReply;
use crate::json;
use crate::sse::{Event, Scanner};
use crate::tool_names::CallKind;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// The largest event that is read, in bytes.
const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;
/// The most calls of custom tools in one stream; more pass as calls of functions.
const MAX_CUSTOM_CALLS: usize = 1_024;
/// What every event about a call contains.
const CALL: &str = "function_call";

const ARGUMENTS_DELTA: &str = "response.function_call_arguments.delta";
const ARGUMENTS_DONE: &str = "response.function_call_arguments.done";
const INPUT_DELTA: &str = "response.custom_tool_call_input.delta";
const INPUT_DONE: &str = "response.custom_tool_call_input.done";

/// Restores tools in one stream.
pub struct DialectStream {
    reply: DialectReply,
    scanner: Scanner,
    is_broken: bool,
    /// Calls of custom tools by the ids of their items.
    custom: HashMap<String, CustomCall>,
    chat: ChatCalls,
}

/// A call of a custom tool whose input is on its way.
#[derive(Default)]
struct CustomCall {
    /// An event with a part of the arguments, from which the input cannot be read yet.
    withheld: Option<String>,
    /// True if the caller has the input.
    is_sent: bool,
}

impl DialectStream {
    pub(super) fn new(reply: DialectReply) -> Self {
        let scanner = Scanner::new(MAX_EVENT_BYTES);
        Self {
            reply,
            scanner,
            is_broken: false,
            custom: HashMap::new(),
            chat: ChatCalls::default(),
        }
    }

    /// Takes the next bytes of the stream; appends what follows for the caller to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.is_broken || self.reply.is_identity() {
            out.extend_from_slice(bytes);
            return;
        }
        self.scanner.push(bytes);
        loop {
            match self.scanner.next_event() {
                Ok(Some(event)) => self.write(&event, out),
                Ok(None) => return,
                Err(_) => {
                    // Too large to be read: it passes as it is, and so does the rest.
                    self.is_broken = true;
                    out.extend_from_slice(&self.scanner.rest());
                    return;
                }
            }
        }
    }

    /// Writes what is left at the end of the stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.scanner.rest());
    }

    fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        let data = event.data.as_deref().and_then(|data| std::str::from_utf8(data).ok());
        let Some(data) = data else {
            out.extend_from_slice(&event.raw);
            return;
        };
        if let Some(chunks) = self.chat.restore(&self.reply, data) {
            return write_chunks(event, data, &chunks, out);
        }
        if data.contains(CALL) && self.write_arguments(data, event, out) {
            return;
        }
        match self.reply.restore(data) {
            Some(restored) => write_data(event, data, &restored, out),
            None => out.extend_from_slice(&event.raw),
        }
    }

    /// Writes an event about the arguments of a call; false if it is another event.
    fn write_arguments(&mut self, data: &str, event: &Event, out: &mut Vec<u8>) -> bool {
        let names = ["type", "item_id", "item", "name"];
        let Some([kind, id, item, name]) = json::members(data.as_bytes(), names) else {
            return false;
        };
        let text = |raw: Option<&RawValue>| raw.map(json::text).unwrap_or_default().into_owned();
        let (kind, id) = (text(kind), text(id));
        match (&*kind, self.custom.get_mut(&id)) {
            (ARGUMENTS_DELTA, Some(call)) => call.write_delta(data, out),
            (ARGUMENTS_DONE, Some(call)) => {
                let tool = self.reply.original(&text(name)).map(|tool| tool.name.as_str());
                call.write_done(data, tool, out);
            }
            (ARGUMENTS_DONE, None) => {
                let Some(tool) = self.reply.original(&text(name)) else { return false };
                let name = Value::from(&*tool.name).to_string();
                let restored = replaced(data, &[("name", name)]);
                write_data(event, data, &restored, out);
            }
            ("response.output_item.added", _) => {
                self.remember(item);
                return false;
            }
            _ => return false,
        }
        true
    }

    /// Notes a call of a custom tool that has begun.
    fn remember(&mut self, item: Option<&RawValue>) {
        let members = item.and_then(|item| json::members(item.get().as_bytes(), ["id", "name"]));
        let Some([Some(id), Some(name)]) = members else { return };
        let tool = self.reply.original(&json::text(name));
        let is_custom = tool.is_some_and(|tool| tool.kind == CallKind::Custom);
        if is_custom && self.custom.len() < MAX_CUSTOM_CALLS {
            self.custom.insert(json::text(id).into_owned(), CustomCall::default());
        }
    }
}

impl CustomCall {
    /// A part of the arguments is JSON cut anywhere: it waits for the end, unless it is all of them.
    fn write_delta(&mut self, data: &str, out: &mut Vec<u8>) {
        let is_first = self.withheld.is_none() && !self.is_sent;
        match whole_input(&member(data, "delta")).filter(|_| is_first) {
            Some(input) => self.write_input(data, &input, out),
            None => self.withheld = Some(data.to_owned()),
        }
    }

    fn write_input(&mut self, delta: &str, input: &str, out: &mut Vec<u8>) {
        let members = [
            ("type", Value::from(INPUT_DELTA).to_string()),
            ("delta", Value::from(input).to_string()),
        ];
        write_event(INPUT_DELTA, &replaced(delta, &members), out);
        self.is_sent = true;
    }

    fn write_done(&mut self, data: &str, tool: Option<&str>, out: &mut Vec<u8>) {
        let input = input(&member(data, "arguments"));
        if let Some(delta) = self.withheld.take().filter(|_| !self.is_sent) {
            self.write_input(&delta, &input, out);
        }
        let done = edit_object(data, |name, _| match name {
            "type" => Edit::Replace(Value::from(INPUT_DONE).to_string()),
            "name" => Edit::of(tool.map(|tool| Value::from(tool).to_string())),
            "arguments" => Edit::Rename("input", Value::from(&*input).to_string()),
            _ => Edit::Keep,
        });
        write_event(INPUT_DONE, &done.unwrap_or_default(), out);
    }
}

/// The text of a member of an object.
fn member(object: &str, name: &str) -> String {
    let [value] = json::members(object.as_bytes(), [name]).unwrap_or_default();
    value.map(json::text).unwrap_or_default().into_owned()
}

fn replaced(object: &str, members: &[(&str, String)]) -> String {
    let edited = edit_object(object, |name, _| {
        let member = members.iter().find(|(member, _)| *member == name);
        Edit::of(member.map(|(_, json)| json.clone()))
    });
    edited.unwrap_or_else(|| object.to_owned())
}

/// Writes an event with other data; its other lines stay.
fn write_data(event: &Event, data: &str, restored: &str, out: &mut Vec<u8>) {
    let raw = &event.raw;
    match memchr::memmem::find(raw, data.as_bytes()) {
        Some(at) => {
            out.extend_from_slice(raw.get(..at).unwrap_or_default());
            out.extend_from_slice(restored.as_bytes());
            out.extend_from_slice(raw.get(at + data.len()..).unwrap_or_default());
        }
        // Data of several lines.
        None => out.extend_from_slice(format!("data: {}\n\n", one_line(restored)).as_bytes()),
    }
}

/// Writes chunks in place of one; the last has its other lines.
fn write_chunks(event: &Event, data: &str, chunks: &[String], out: &mut Vec<u8>) {
    let Some((last, before)) = chunks.split_last() else { return };
    for chunk in before {
        out.extend_from_slice(format!("data: {}\n\n", one_line(chunk)).as_bytes());
    }
    write_data(event, data, last, out);
}

fn write_event(kind: &str, data: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("event: {kind}\ndata: {}\n\n", one_line(data)).as_bytes());
}

/// Line ends between the members of JSON are blanks.
fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}
