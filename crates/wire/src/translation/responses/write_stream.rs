//! Writes the stream of a response: numbered events for each item, its parts and their text.

use super::write_reply::{
    ResponseFrame, Status, item_id, item_status, write_item, write_part, write_response,
};
use crate::translation::event::Failure;
use crate::translation::json_writer::JsonWriter;
use crate::translation::reply::{ItemKind, OutputItem, Reply, StreamWriter};
use crate::translation::sse_writer;

/// Writes the events of one response.
pub(in crate::translation) struct ResponseStream {
    frame: ResponseFrame,
    next_number: u64,
    has_started: bool,
    /// The reasoning item with a summary part that is open.
    summary: Option<usize>,
    /// The item that grew last, and its id.
    id: (usize, String),
}

impl ResponseStream {
    pub fn new(frame: ResponseFrame) -> Self {
        let id = (usize::MAX, String::new());
        Self { frame, next_number: 0, has_started: false, summary: None, id }
    }

    fn event(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        members: impl FnOnce(&ResponseFrame, &mut JsonWriter<'_>),
    ) {
        let number = self.next_number;
        self.next_number += 1;
        let frame = &self.frame;
        sse_writer::event(out, name, |event| {
            event.number("sequence_number", number);
            members(frame, event);
        });
    }

    /// Writes an event about an item.
    fn of_item(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        (index, item): (usize, &OutputItem),
        members: impl FnOnce(&mut JsonWriter<'_>),
    ) {
        if self.id.0 != index {
            self.id = (index, item_id(index, item, &self.frame));
        }
        let id = std::mem::take(&mut self.id.1);
        self.event(out, name, |_, event| {
            event.text("item_id", &id).number("output_index", number(index));
            members(event);
        });
        self.id.1 = id;
    }

    /// Writes an event about the only part of an item.
    fn of_part(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        (index, item): (usize, &OutputItem),
        members: impl FnOnce(&mut JsonWriter<'_>),
    ) {
        let part_index = part_index(item);
        self.of_item(out, name, (index, item), |event| {
            if let Some(part_index) = part_index {
                event.number(part_index, 0);
            }
            members(event);
        });
    }

    fn item_event(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        (index, item): (usize, &OutputItem),
        status: Status,
    ) {
        self.event(out, name, |frame, event| {
            event.number("output_index", number(index)).child("item", |object| {
                write_item(index, item, frame, status, object);
            });
        });
    }

    fn part_event(&mut self, out: &mut Vec<u8>, name: &str, of: (usize, &OutputItem), text: &str) {
        self.of_part(out, name, of, |event| {
            event.child("part", |part| write_part(of.1, text, part));
        });
    }

    fn response_event(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        reply: &Reply,
        (status, failure): (Status, Option<&Failure>),
    ) {
        self.event(out, name, |frame, event| {
            event.child("response", |body| write_response(reply, frame, status, failure, body));
        });
    }

    /// Writes the events at the end of the text of an item.
    fn end_text(&mut self, out: &mut Vec<u8>, of: (usize, &OutputItem)) {
        let text = of.1.text.as_str();
        let names = event_names(&of.1.kind);
        self.of_part(out, names.done, of, |event| {
            event.text(names.member, text);
            if of.1.kind == ItemKind::Text {
                event.json("logprobs", "[]");
            }
            if let ItemKind::Function { name, .. } = &of.1.kind {
                event.text("name", name);
            }
        });
        if let Some((_, part_done)) = names.part {
            self.part_event(out, part_done, of, text);
        }
    }
}

/// The names of the events about a kind of item.
struct EventNames {
    /// Those at the beginning and the end of its part.
    part: Option<(&'static str, &'static str)>,
    delta: &'static str,
    done: &'static str,
    /// The member of the last one that has the whole text.
    member: &'static str,
}

fn event_names(kind: &ItemKind) -> EventNames {
    const CONTENT: (&str, &str) = ("response.content_part.added", "response.content_part.done");
    const SUMMARY: (&str, &str) =
        ("response.reasoning_summary_part.added", "response.reasoning_summary_part.done");
    let (part, delta, done, member) = match kind {
        ItemKind::Refusal => {
            (Some(CONTENT), "response.refusal.delta", "response.refusal.done", "refusal")
        }
        ItemKind::Reasoning => (
            Some(SUMMARY),
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "text",
        ),
        ItemKind::Function { .. } => (
            None,
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "arguments",
        ),
        ItemKind::Custom { .. } => (
            None,
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            "input",
        ),
        ItemKind::Text | ItemKind::Search { .. } => {
            (Some(CONTENT), "response.output_text.delta", "response.output_text.done", "text")
        }
    };
    EventNames { part, delta, done, member }
}

/// The name of the index that parts of the item have.
fn part_index(item: &OutputItem) -> Option<&'static str> {
    match item.kind {
        ItemKind::Text | ItemKind::Refusal => Some("content_index"),
        ItemKind::Reasoning => Some("summary_index"),
        _ => None,
    }
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}

impl StreamWriter for ResponseStream {
    fn started(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        self.has_started = true;
        for name in ["response.created", "response.in_progress"] {
            self.response_event(out, name, reply, (Status::InProgress, None));
        }
    }

    fn opened(&mut self, index: usize, item: &OutputItem, out: &mut Vec<u8>) {
        self.item_event(out, "response.output_item.added", (index, item), Status::InProgress);
        if matches!(item.kind, ItemKind::Text | ItemKind::Refusal) {
            self.part_event(out, "response.content_part.added", (index, item), "");
        }
    }

    fn grew(&mut self, index: usize, item: &OutputItem, text: &str, out: &mut Vec<u8>) {
        let names = event_names(&item.kind);
        // Reasoning that is only sealed has no summary.
        if item.kind == ItemKind::Reasoning && self.summary != Some(index) {
            self.summary = Some(index);
            if let Some((added, _)) = names.part {
                self.part_event(out, added, (index, item), "");
            }
        }
        self.of_part(out, names.delta, (index, item), |event| {
            event.text("delta", text);
            if item.kind == ItemKind::Text {
                event.json("logprobs", "[]");
            }
        });
    }

    fn closed(&mut self, index: usize, item: &OutputItem, out: &mut Vec<u8>) {
        let has_text = match item.kind {
            ItemKind::Reasoning => self.summary == Some(index),
            ItemKind::Search { .. } => false,
            _ => true,
        };
        if has_text {
            self.end_text(out, (index, item));
        }
        self.item_event(out, "response.output_item.done", (index, item), item_status(item));
    }

    fn ended(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        let status = Status::of(reply);
        let name = match status {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.response_event(out, name, reply, (status, None));
    }

    fn failed(&mut self, reply: &Reply, failure: &Failure, out: &mut Vec<u8>) {
        // Clients expect `response.created` before any other event.
        if !self.has_started {
            self.started(reply, out);
        }
        self.response_event(out, "response.failed", reply, (Status::Failed, Some(failure)));
    }
}
