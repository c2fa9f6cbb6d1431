//! Writes a stream of chat completion chunks.

use super::write_reply::{finish_reason, write_call, write_usage};
use crate::cut::DONE;
use crate::translation::event::Failure;
use crate::translation::json_writer::JsonWriter;
use crate::translation::reply::{ItemKind, OutputItem, Reply, StreamWriter};
use crate::translation::sse_writer;

/// Writes the chunks of one completion.
pub(in crate::translation) struct ChatStream {
    id: String,
    include_usage: bool,
    /// The members that all chunks have.
    common: String,
    /// The items that are calls; the place of one is its index for the caller.
    calls: Vec<usize>,
}

impl ChatStream {
    pub fn new(id: &str, include_usage: bool) -> Self {
        let (id, common, calls) = (format!("chatcmpl-{id}"), String::new(), Vec::new());
        Self { id, include_usage, common, calls }
    }

    fn chunk(&self, out: &mut Vec<u8>, members: impl FnOnce(&mut JsonWriter<'_>)) {
        sse_writer::data(out, |chunk| {
            chunk.members(&self.common);
            members(chunk);
        });
    }

    fn choice(
        &self,
        out: &mut Vec<u8>,
        finish: Option<&str>,
        delta: impl FnOnce(&mut JsonWriter<'_>),
    ) {
        self.chunk(out, |chunk| {
            chunk.list("choices", |choices| {
                choices.element(|choice| {
                    choice.number("index", 0).child("delta", delta).null("logprobs");
                    choice.text_or_null("finish_reason", finish);
                });
            });
        });
    }

    fn call_index(&self, item: usize) -> u64 {
        let place = self.calls.iter().rposition(|call| *call == item).unwrap_or(0);
        u64::try_from(place).unwrap_or(0)
    }
}

impl StreamWriter for ChatStream {
    fn started(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        let common = JsonWriter::object_text(|chunk| {
            chunk.text("id", &self.id).text("object", "chat.completion.chunk");
            chunk.number("created", reply.created_at).text("model", &reply.model);
        });
        let members = common.strip_prefix('{').and_then(|common| common.strip_suffix('}'));
        members.unwrap_or_default().clone_into(&mut self.common);
        self.choice(out, None, |delta| {
            delta.text("role", "assistant").text("content", "").null("refusal");
        });
    }

    fn opened(&mut self, index: usize, item: &OutputItem, out: &mut Vec<u8>) {
        if item.kind.is_call() {
            self.calls.push(index);
            let number = self.call_index(index);
            self.choice(out, None, |delta| {
                delta.list("tool_calls", |list| {
                    list.element(|call| {
                        call.number("index", number);
                        write_call(item, "", call);
                    });
                });
            });
        }
    }

    fn grew(&mut self, index: usize, item: &OutputItem, text: &str, out: &mut Vec<u8>) {
        let (member, input) = match item.kind {
            ItemKind::Text => ("content", None),
            ItemKind::Refusal => ("refusal", None),
            ItemKind::Reasoning => ("reasoning_content", None),
            ItemKind::Function { .. } => ("function", Some("arguments")),
            ItemKind::Custom { .. } => ("custom", Some("input")),
            ItemKind::Search { .. } => return,
        };
        let number = self.call_index(index);
        self.choice(out, None, |delta| match input {
            None => {
                delta.text(member, text);
            }
            Some(input) => {
                delta.list("tool_calls", |list| {
                    list.element(|call| {
                        call.number("index", number).child(member, |called| {
                            called.text(input, text);
                        });
                    });
                });
            }
        });
    }

    fn closed(&mut self, _: usize, _: &OutputItem, _: &mut Vec<u8>) {}

    fn ended(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        self.choice(out, Some(finish_reason(reply)), |_| {});
        if let Some(usage) = reply.usage.as_ref().filter(|_| self.include_usage) {
            self.chunk(out, |chunk| {
                chunk.json("choices", "[]").child("usage", |object| write_usage(usage, object));
            });
        }
        out.extend_from_slice(DONE);
    }

    /// No end marker follows: the reply must not look complete.
    fn failed(&mut self, _: &Reply, failure: &Failure, out: &mut Vec<u8>) {
        sse_writer::data(out, |event| {
            event.child("error", |error| failure.write_openai(error));
        });
    }
}
