//! Writes the stream of a message: blocks between `message_start` and `message_stop`.

use super::write_reply::{
    write_envelope, write_search, write_search_result, write_stop, write_usage,
};
use crate::translation::event::Failure;
use crate::translation::json_writer::JsonWriter;
use crate::translation::reply::{ItemKind, OutputItem, Reply, StreamWriter};
use crate::translation::sse_writer::event;

/// Writes the events of one message.
pub(in crate::translation) struct MessageStream {
    id: String,
    next_block: u64,
    /// Open items with their blocks.
    open: Vec<(usize, u64)>,
}

impl MessageStream {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), next_block: 0, open: Vec::new() }
    }

    fn start(&mut self, out: &mut Vec<u8>, block: impl FnOnce(&mut JsonWriter<'_>)) -> u64 {
        let number = self.next_block;
        self.next_block += 1;
        event(out, "content_block_start", |object| {
            object.number("index", number).child("content_block", block);
        });
        number
    }

    fn block_of(&self, item: usize) -> Option<u64> {
        self.open.iter().find(|(open, _)| *open == item).map(|(_, block)| *block)
    }
}

fn delta(out: &mut Vec<u8>, block: u64, kind: &str, member: &str, text: &str) {
    event(out, "content_block_delta", |object| {
        object.number("index", block).child("delta", |delta| {
            delta.text("type", kind).text(member, text);
        });
    });
}

fn stop(out: &mut Vec<u8>, block: u64) {
    event(out, "content_block_stop", |object| {
        object.number("index", block);
    });
}

impl StreamWriter for MessageStream {
    /// Usage is known at the end only: `message_delta` has it.
    fn started(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        event(out, "message_start", |object| {
            object.child("message", |message| {
                write_envelope(reply, &self.id, message);
                message.json("content", "[]").null("stop_reason").null("stop_sequence");
                message.child("usage", |usage| write_usage(None, usage));
            });
        });
    }

    fn opened(&mut self, index: usize, item: &OutputItem, out: &mut Vec<u8>) {
        let block = match &item.kind {
            ItemKind::Text | ItemKind::Refusal => self.start(out, |block| {
                block.text("type", "text").text("text", "");
            }),
            ItemKind::Reasoning => self.start(out, |block| {
                block.text("type", "thinking").text("thinking", "").text("signature", "");
            }),
            ItemKind::Function { call_id, name, .. } | ItemKind::Custom { call_id, name, .. } => {
                self.start(out, |block| {
                    block.text("type", "tool_use").text("id", call_id).text("name", name);
                    block.json("input", "{}");
                })
            }
            ItemKind::Search { id, query } => {
                let call = self.start(out, |block| write_search(id, query, block));
                stop(out, call);
                self.start(out, |block| write_search_result(id, block))
            }
        };
        self.open.push((index, block));
    }

    fn grew(&mut self, index: usize, item: &OutputItem, text: &str, out: &mut Vec<u8>) {
        let Some(block) = self.block_of(index) else { return };
        match item.kind {
            ItemKind::Text | ItemKind::Refusal => delta(out, block, "text_delta", "text", text),
            ItemKind::Reasoning => delta(out, block, "thinking_delta", "thinking", text),
            ItemKind::Function { .. } => {
                delta(out, block, "input_json_delta", "partial_json", text);
            }
            ItemKind::Custom { .. } => {
                let input = JsonWriter::object_text(|input| {
                    input.text("input", text);
                });
                delta(out, block, "input_json_delta", "partial_json", &input);
            }
            ItemKind::Search { .. } => {}
        }
    }

    fn closed(&mut self, index: usize, item: &OutputItem, out: &mut Vec<u8>) {
        let Some(block) = self.block_of(index) else { return };
        self.open.retain(|(open, _)| *open != index);
        if let Some(signature) = &item.encrypted {
            delta(out, block, "signature_delta", "signature", signature);
        }
        stop(out, block);
    }

    fn ended(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        event(out, "message_delta", |object| {
            object.child("delta", |delta| write_stop(reply, delta));
            object.child("usage", |usage| write_usage(reply.usage.as_ref(), usage));
        });
        event(out, "message_stop", |_| {});
    }

    fn failed(&mut self, _: &Reply, failure: &Failure, out: &mut Vec<u8>) {
        event(out, "error", |object| {
            object.child("error", |error| {
                error.text("type", failure.messages_kind()).text("message", &failure.message);
            });
        });
    }
}
