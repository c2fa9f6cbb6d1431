//! Reads chat completions: chunks of a stream, and whole ones. The message of a whole one is one large delta.

use crate::json;
use crate::translation::event::{Failure, ReplyEvent, StopReason};
use crate::translation::object::{Object, elements};
use crate::translation::request::CallKind;
use crate::usage::Usage;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The most calls of one reply; further ones are ignored.
const MAX_CALLS: usize = 1024;

/// Reads the chunks of one reply.
#[derive(Debug, Default)]
pub(in crate::translation) struct ChatReader {
    has_begun: bool,
    /// Index and id of each call; its place is its lane.
    calls: Vec<(u64, String)>,
}

type Visit<'v> = &'v mut dyn FnMut(ReplyEvent<'_>);

impl ChatReader {
    /// Reads the data of one event.
    pub fn read_event(&mut self, data: &str, visit: Visit<'_>) {
        if data.trim_ascii() == "[DONE]" {
            return visit(ReplyEvent::End);
        }
        if let Some(chunk) = Object::read(data) {
            self.read_chunk(&chunk, visit);
        }
    }

    /// Reads a whole completion.
    pub fn read_whole(&mut self, body: &Object<'_>, visit: Visit<'_>) {
        self.read_chunk(body, visit);
        visit(ReplyEvent::End);
    }

    fn read_chunk(&mut self, chunk: &Object<'_>, visit: Visit<'_>) {
        if chunk.has("error") {
            return visit(ReplyEvent::Failed(Failure::read(chunk)));
        }
        if !self.has_begun {
            self.has_begun = true;
            let (model, created) = (chunk.text_leniently("model"), chunk.count("created"));
            let created = created.ok().flatten();
            visit(ReplyEvent::Start { model: model.as_deref(), created });
        }
        let choices = chunk.get("choices").and_then(elements).unwrap_or_default();
        for choice in choices.into_iter().filter_map(|choice| Object::read(choice.get())) {
            // One choice was requested.
            if choice.count("index").is_ok_and(|index| index.unwrap_or(0) == 0) {
                self.read_choice(&choice, visit);
            }
        }
        if let Some(usage) = chunk.get("usage").and_then(Usage::of_json) {
            visit(ReplyEvent::Usage(usage));
        }
    }

    fn read_choice(&mut self, choice: &Object<'_>, visit: Visit<'_>) {
        let message = choice.get("delta").or(choice.get("message"));
        if let Some(delta) = message.and_then(|delta| Object::read(delta.get())) {
            self.read_delta(&delta, visit);
        }
        let reason = choice.text_leniently("finish_reason").unwrap_or_default();
        if !reason.is_empty() {
            visit(ReplyEvent::Stop(match &*reason {
                "length" => StopReason::MaxTokens,
                "content_filter" => StopReason::ContentFilter,
                _ => StopReason::Finished,
            }));
        }
    }

    fn read_delta(&mut self, delta: &Object<'_>, visit: Visit<'_>) {
        let names = ["reasoning_content", "reasoning", "reasoning_text", "thinking"];
        if let Some(text) =
            names.iter().filter_map(|name| delta.text_leniently(name)).find(|text| !text.is_empty())
        {
            visit(ReplyEvent::Reasoning(&text));
        }
        if let Some(content) = delta.get("content") {
            visit(ReplyEvent::Text(&text_of(content)));
        }
        if let Some(refusal) = delta.text_leniently("refusal") {
            visit(ReplyEvent::Refusal(&refusal));
        }
        if let Some(calls) = delta.get("tool_calls").and_then(elements) {
            for call in calls.into_iter().filter_map(|call| Object::read(call.get())) {
                self.read_call(&call, visit);
            }
        }
        // The older form has one call without an id.
        if let Some(function) = delta.get("function_call").and_then(|raw| Object::read(raw.get())) {
            self.read_called(0, "", CallKind::Function, &function, visit);
        }
    }

    fn read_call(&mut self, call: &Object<'_>, visit: Visit<'_>) {
        let id = call.text_leniently("id").unwrap_or_default();
        let last = self.calls.last().map_or(0, |(index, _)| *index);
        // Some servers leave out the index: then another id is another call.
        let index = call.count("index").ok().flatten().unwrap_or(last);
        if let Some(custom) = call.get("custom").and_then(|raw| Object::read(raw.get())) {
            self.read_called(index, &id, CallKind::Custom, &custom, visit);
        } else {
            let function = call.object_leniently("function");
            self.read_called(index, &id, CallKind::Function, &function, visit);
        }
    }

    fn read_called(
        &mut self,
        index: u64,
        id: &str,
        kind: CallKind,
        called: &Object<'_>,
        visit: Visit<'_>,
    ) {
        let name = called.text_leniently("name").unwrap_or_default();
        let known = self.calls.iter().rposition(|(known, known_id)| {
            *known == index && (id.is_empty() || name.is_empty() || *known_id == id)
        });
        let place = known.unwrap_or(self.calls.len());
        let lane = u64::try_from(place).unwrap_or(u64::MAX);
        if known.is_none() {
            if self.calls.len() >= MAX_CALLS {
                return;
            }
            self.calls.push((index, id.to_owned()));
            visit(ReplyEvent::Call { lane, kind, call_id: id, namespace: None, name: &name });
        }
        let input = called.get("arguments").or(called.get("input"));
        if let Some(input) = input {
            // A string; some servers write the object itself.
            visit(ReplyEvent::CallInput { lane, input: &json::text(input) });
        }
    }
}

/// The text of a content that is a string, or a list of parts.
fn text_of(content: &RawValue) -> Cow<'_, str> {
    let Some(parts) = elements(content) else {
        return if content.get().starts_with('"') {
            json::text(content)
        } else {
            Cow::Borrowed("")
        };
    };
    let parts = parts.into_iter().filter_map(|part| Object::read(part.get()));
    Cow::Owned(parts.filter_map(|part| part.text_leniently("text")).collect())
}
