//! `POST /v1/chat/completions`.

use super::{Description, Output, openai_error};
use crate::chunk::Chunk;
use crate::cut::{self, StreamSummary};
use crate::error::ErrorBody;
use crate::field_names::COUNTS;
use crate::fields::Fields;
use crate::json;
use crate::prompt::Prompt;
use crate::request::{BadBody, Dependencies};
use crate::sse::Event;
use crate::stream_reader::{EventVerdict, MissingEnd, StreamReader, UsageSink};
use bytes::{Bytes, BytesMut};
use domain::charge::TokenCount;
use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) static DESCRIPTION: Description = Description {
    path: "/chat/completions",
    output: Output::Tokens(&["max_completion_tokens", "max_tokens"]),
    streams: true,
    usage_needs_option: true,
    bills_prompt: true,
    choices: |fields| fields.largest_count(&COUNTS),
    prompt,
    dependencies,
    stream_reader: |include_usage| {
        Box::new(ChunkStream::new(StreamSummary::default(), include_usage))
    },
    read_reply: read_chunk_reply,
    id_of,
    error: openai_error,
};

fn prompt<'a>(fields: &Fields<'a>) -> Result<Prompt<'a>, BadBody> {
    fields.messages("messages")
}

/// A deferred completion is stored until it is fetched.
fn dependencies(fields: &Fields<'_>) -> Result<Dependencies, BadBody> {
    // The field is xAI's; elsewhere it may have any value.
    let is_deferred = fields.given("deferred").is_some_and(|raw| raw.get() == "true");
    if is_deferred && fields.flag("stream")? {
        return Err(BadBody::wrong_value("deferred", "deferred completions cannot be streamed"));
    }
    Ok(Dependencies { is_stored: is_deferred, is_deferred, previous_response: None })
}

/// The id under which a deferred completion can be fetched. Other replies are not stored.
fn id_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Deferred<'a> {
        #[serde(borrow)]
        request_id: Option<&'a RawValue>,
        #[serde(borrow)]
        choices: Option<&'a RawValue>,
    }
    let deferred: Deferred<'_> = json::object(body)?;
    let id = deferred.request_id.filter(|_| deferred.choices.is_none())?;
    id.get().starts_with('"').then(|| json::text(id).into_owned())
}

/// Reports a whole completion, whose `message` is one large delta.
pub(super) fn read_chunk_reply(body: &[u8], to: &mut dyn UsageSink) -> bool {
    match Chunk::parse(body) {
        Some(reply) => {
            reply.report_to(to);
            true
        }
        None => json::is_object(body),
    }
}

/// A stream of chunks that ends with `[DONE]`.
pub(super) struct ChunkStream {
    summary: StreamSummary,
    include_usage: bool,
    /// The upstream has sent usage.
    has_usage: bool,
    /// The upstream has sent the end marker.
    is_done: bool,
}

impl ChunkStream {
    pub fn new(summary: StreamSummary, include_usage: bool) -> Self {
        Self { summary, include_usage, has_usage: false, is_done: false }
    }
}

impl StreamReader for ChunkStream {
    /// An unknown event is relayed: the client may know it.
    fn on_event(&mut self, event: &Event, to: &mut dyn UsageSink) -> EventVerdict {
        if event.is_done() {
            self.is_done = true;
            return EventVerdict::Last;
        }
        let Some(data) = event.data.as_deref() else { return EventVerdict::Relay };
        // Copied only where there are bytes that are no UTF-8, which pass as they came.
        let text = String::from_utf8_lossy(data);
        let Some(chunk) = Chunk::parse(text.as_bytes()) else {
            if !data.trim_ascii().is_empty() {
                to.on_unreadable();
            }
            return EventVerdict::Relay;
        };
        chunk.report_to(to);
        self.summary.observe(&chunk);
        self.has_usage |= chunk.has_usage();
        match chunk.error {
            Some(error) => EventVerdict::ReplaceError(Box::new(error)),
            None if chunk.is_usage_only() && !self.include_usage => EventVerdict::Drop,
            None => EventVerdict::Relay,
        }
    }

    fn is_finished(&self) -> bool {
        self.summary.is_finished()
    }

    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes {
        let usage = self.include_usage.then_some(tokens);
        let mut bytes = BytesMut::from(&cut::length_cut(&self.summary, usage)[..]);
        bytes.extend_from_slice(cut::DONE);
        bytes.freeze()
    }

    fn missing_end(&self, tokens: &TokenCount) -> MissingEnd {
        let lacks_usage = self.include_usage && !self.has_usage;
        let usage = lacks_usage.then(|| cut::usage_chunk(&self.summary, tokens));
        let marker = if self.is_done { &[][..] } else { cut::DONE };
        MissingEnd { usage: usage.unwrap_or_default(), marker }
    }

    fn error(&mut self, error: &ErrorBody) -> Bytes {
        cut::error_event(error)
    }
}

/// A stream of a surface that has none: relayed as it is, whatever it lacks.
pub(super) struct UnsupportedStream(ChunkStream);

impl UnsupportedStream {
    pub fn new() -> Self {
        Self(ChunkStream::new(StreamSummary::default(), true))
    }
}

impl StreamReader for UnsupportedStream {
    fn on_event(&mut self, event: &Event, to: &mut dyn UsageSink) -> EventVerdict {
        self.0.on_event(event, to)
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes {
        self.0.length_cut(tokens)
    }

    fn error(&mut self, error: &ErrorBody) -> Bytes {
        self.0.error(error)
    }
}
