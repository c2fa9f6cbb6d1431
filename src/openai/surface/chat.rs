//! `POST /v1/chat/completions`.

use super::{Description, Output, no_id, no_ties, openai_error};
use crate::account::charge::TokenCount;
use crate::openai::chunk::{self, Chunk, Seen};
use crate::openai::error::ErrorBody;
use crate::openai::follow::{Follow, Heard, Listener};
use crate::openai::prompt::Prompt;
use crate::openai::request::{BadBody, Fields};
use crate::openai::sse::Event;
use bytes::{Bytes, BytesMut};

pub(super) static DESCRIPTION: Description = Description {
    path: "/chat/completions",
    output: Output::Tokens(&["max_completion_tokens", "max_tokens"]),
    streams: true,
    usage_is_asked_for: true,
    bills_prompt: true,
    choices: |fields| fields.count("n"),
    prompt,
    ties: no_ties,
    follow: |include_usage| Box::new(ChunkStream::new(Seen::default(), include_usage)),
    hear: hear_chunk,
    id_of: no_id,
    error: openai_error,
};

fn prompt<'a>(fields: &Fields<'a>) -> Result<Prompt<'a>, BadBody> {
    fields.messages("messages", &["tools", "functions", "response_format"])
}

/// Tells what a whole completion says, whose `message` is one large delta.
pub(super) fn hear_chunk(body: &[u8], to: &mut dyn Listener) {
    if let Some(reply) = Chunk::parse(body) {
        reply.tell(to);
    }
}

/// A stream of chunks that ends with `[DONE]`.
pub(super) struct ChunkStream {
    seen: Seen,
    include_usage: bool,
}

impl ChunkStream {
    pub fn new(seen: Seen, include_usage: bool) -> Self {
        Self { seen, include_usage }
    }
}

impl Follow for ChunkStream {
    /// An event that is not understood passes: the caller's client may know it.
    fn event(&mut self, event: &Event, to: &mut dyn Listener) -> Heard {
        if event.is_done() {
            return Heard::Last;
        }
        let data = event.data.as_deref();
        let Some(chunk) = data.and_then(Chunk::parse) else {
            if data.is_some_and(|data| !data.trim_ascii().is_empty()) {
                to.unreadable();
            }
            return Heard::Passes;
        };
        chunk.tell(to);
        self.seen.note(&chunk);
        match chunk.error {
            Some(error) => Heard::Error(error.detail),
            None if chunk.is_usage_only() && !self.include_usage => Heard::Unasked,
            None => Heard::Passes,
        }
    }

    fn is_finished(&self) -> bool {
        self.seen.is_finished()
    }

    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes {
        let usage = self.include_usage.then_some(tokens);
        let mut bytes = BytesMut::from(&chunk::length_cut(&self.seen, usage)[..]);
        bytes.extend_from_slice(chunk::DONE);
        bytes.freeze()
    }

    fn error(&mut self, error: &ErrorBody) -> Bytes {
        chunk::error_event(error)
    }
}
