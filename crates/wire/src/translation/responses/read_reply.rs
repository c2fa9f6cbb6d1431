//! Reads responses: the events of a stream, and whole ones. Items of a whole one are read like the last event of an item.

use crate::translation::event::{Failure, ReplyEvent, StopReason};
use crate::translation::object::{Object, elements};
use crate::translation::request::CallKind;
use crate::usage::Usage;
use serde_json::value::RawValue;

/// The most items that are tracked; the output of further ones is ignored.
const MAX_ITEMS: usize = 4096;

/// Reads the events of one response.
#[derive(Debug, Default)]
pub(in crate::translation) struct ResponsesReader {
    has_begun: bool,
    items: Vec<ItemProgress>,
}

/// What was read of an item so far.
#[derive(Debug, Clone, Copy)]
struct ItemProgress {
    index: u64,
    /// Its text or input came in pieces.
    has_deltas: bool,
    /// It is a call that has begun.
    is_called: bool,
    /// The last part of a summary that was read.
    part: u64,
}

type Visit<'v> = &'v mut dyn FnMut(ReplyEvent<'_>);

impl ResponsesReader {
    /// Reads the data of one event.
    pub fn read_event(&mut self, data: &str, visit: Visit<'_>) {
        let Some(event) = Object::read(data) else { return };
        let kind = event.kind();
        let index = event.count("output_index").ok().flatten().unwrap_or(0);
        match &*kind {
            "error" => visit(ReplyEvent::Failed(Failure::read(&event))),
            "" if event.has("error") => visit(ReplyEvent::Failed(Failure::read(&event))),
            "response.output_item.added" => {
                self.read_added(index, &event.object_leniently("item"), visit);
            }
            "response.output_item.done" => {
                self.read_item(index, &event.object_leniently("item"), visit);
            }
            kind if kind.strip_suffix(".delta").is_some() => {
                self.read_delta(kind, index, &event, visit);
            }
            _ => {
                if let Some(response) =
                    event.get("response").and_then(|raw| Object::read(raw.get()))
                {
                    self.read_response(&kind, &response, visit);
                }
            }
        }
    }

    /// Reads a whole response.
    pub fn read_whole(&mut self, response: &Object<'_>, visit: Visit<'_>) {
        let status = response.text_leniently("status").unwrap_or_default();
        let kind = match &*status {
            "failed" | "cancelled" => "response.failed",
            "incomplete" => "response.incomplete",
            _ => "response.completed",
        };
        self.read_response(kind, response, visit);
    }

    fn read_response(&mut self, kind: &str, response: &Object<'_>, visit: Visit<'_>) {
        if !self.has_begun {
            self.has_begun = true;
            let model = response.text_leniently("model");
            let created = response.count("created_at").ok().flatten();
            visit(ReplyEvent::Start { model: model.as_deref(), created });
        }
        let reason = match kind {
            "response.failed" => {
                return visit(ReplyEvent::Failed(Failure::read(response)));
            }
            "response.completed" => StopReason::Finished,
            "response.incomplete" => incomplete_reason(response),
            _ => return,
        };
        // Without events for its items, they are here alone.
        if self.items.is_empty() {
            let output = response.get("output").and_then(elements).unwrap_or_default();
            for (index, item) in (0_u64..).zip(output) {
                self.read_item(index, &Object::read(item.get()).unwrap_or_default(), visit);
            }
        }
        if let Some(usage) = response.get("usage").and_then(Usage::of_json) {
            visit(ReplyEvent::Usage(usage));
        }
        visit(ReplyEvent::Stop(reason));
        visit(ReplyEvent::End);
    }

    fn read_added(&mut self, index: u64, item: &Object<'_>, visit: Visit<'_>) {
        let kind = item.kind();
        if let Some(kind) = call_kind(&kind)
            && let Some(progress) = self.progress(index)
            && !progress.is_called
        {
            progress.is_called = true;
            begin_call(index, kind, item, visit);
        }
    }

    fn read_delta(&mut self, kind: &str, index: u64, event: &Object<'_>, visit: Visit<'_>) {
        let Some(delta) = event.text_leniently("delta") else { return };
        let Some(progress) = self.progress(index) else { return };
        let say: fn(&str, u64, Visit<'_>) = match kind {
            "response.output_text.delta" => |text, _, visit| visit(ReplyEvent::Text(text)),
            "response.refusal.delta" => |text, _, visit| visit(ReplyEvent::Refusal(text)),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                let names = ["summary_index", "content_index"];
                let part = names.iter().find_map(|name| event.count(name).ok().flatten());
                let part = part.unwrap_or(0);
                if progress.has_deltas && part != progress.part {
                    visit(ReplyEvent::Reasoning("\n\n"));
                }
                progress.part = part;
                |text, _, visit| visit(ReplyEvent::Reasoning(text))
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                |input, lane, visit| visit(ReplyEvent::CallInput { lane, input })
            }
            _ => return,
        };
        progress.has_deltas |= !delta.is_empty();
        say(&delta, index, visit);
    }

    /// Reads an item at its end: what has not come in pieces, and what comes only here.
    fn read_item(&mut self, index: u64, item: &Object<'_>, visit: Visit<'_>) {
        let Some(progress) = self.progress(index) else { return };
        let ItemProgress { has_deltas, is_called, .. } = *progress;
        let kind = item.kind();
        match &*kind {
            "message" => {
                if !has_deltas {
                    each_part(item, "content", |part| read_part(part, visit));
                }
                visit(ReplyEvent::ItemEnd);
            }
            "reasoning" => {
                if !has_deltas {
                    read_summary(item, visit);
                }
                let sealed = item.text_leniently("encrypted_content");
                match sealed.filter(|sealed| !sealed.is_empty()) {
                    Some(sealed) => visit(ReplyEvent::Sealed(&sealed)),
                    None => visit(ReplyEvent::ItemEnd),
                }
            }
            "web_search_call" => {
                let action = item.object_leniently("action");
                let (id, query) = (item.text_leniently("id"), action.text_leniently("query"));
                let (id, query) = (id.unwrap_or_default(), query.unwrap_or_default());
                visit(ReplyEvent::Search { id: &id, query: &query });
            }
            kind => {
                let Some(kind) = call_kind(kind) else { return };
                if !is_called {
                    begin_call(index, kind, item, visit);
                }
                let input = item.text_leniently(match kind {
                    CallKind::Function => "arguments",
                    CallKind::Custom => "input",
                });
                if let Some(input) = input.filter(|_| !has_deltas) {
                    visit(ReplyEvent::CallInput { lane: index, input: &input });
                }
                visit(ReplyEvent::CallEnd { lane: index });
            }
        }
    }

    fn progress(&mut self, index: u64) -> Option<&mut ItemProgress> {
        let at = match self.items.iter().rposition(|item| item.index == index) {
            Some(at) => at,
            None if self.items.len() < MAX_ITEMS => {
                self.items.push(ItemProgress {
                    index,
                    has_deltas: false,
                    is_called: false,
                    part: 0,
                });
                self.items.len() - 1
            }
            None => return None,
        };
        self.items.get_mut(at)
    }
}

fn incomplete_reason(response: &Object<'_>) -> StopReason {
    let details = response.object_leniently("incomplete_details");
    match details.text_leniently("reason").as_deref() {
        Some("content_filter") => StopReason::ContentFilter,
        _ => StopReason::MaxTokens,
    }
}

fn call_kind(item: &str) -> Option<CallKind> {
    match item {
        "function_call" => Some(CallKind::Function),
        "custom_tool_call" => Some(CallKind::Custom),
        _ => None,
    }
}

fn begin_call(lane: u64, kind: CallKind, item: &Object<'_>, visit: Visit<'_>) {
    let text = |name| item.text_leniently(name);
    let (call_id, name) = (text("call_id").unwrap_or_default(), text("name").unwrap_or_default());
    let namespace = text("namespace");
    let namespace = namespace.as_deref();
    visit(ReplyEvent::Call { lane, kind, call_id: &call_id, namespace, name: &name });
}

fn each_part(item: &Object<'_>, name: &str, mut read: impl FnMut(&Object<'_>)) {
    let parts: Vec<&RawValue> = item.get(name).and_then(elements).unwrap_or_default();
    parts.into_iter().filter_map(|part| Object::read(part.get())).for_each(|part| read(&part));
}

fn read_part(part: &Object<'_>, visit: Visit<'_>) {
    if let Some(text) = part.text_leniently("text") {
        visit(ReplyEvent::Text(&text));
    }
    if let Some(text) = part.text_leniently("refusal") {
        visit(ReplyEvent::Refusal(&text));
    }
}

/// Reads the summary of a reasoning item, or its content where there is no summary.
fn read_summary(item: &Object<'_>, visit: Visit<'_>) {
    let mut is_first = true;
    for name in ["summary", "content"] {
        each_part(item, name, |part| {
            let Some(text) = part.text_leniently("text") else { return };
            if !std::mem::take(&mut is_first) {
                visit(ReplyEvent::Reasoning("\n\n"));
            }
            visit(ReplyEvent::Reasoning(&text));
        });
        if !is_first {
            return;
        }
    }
}
