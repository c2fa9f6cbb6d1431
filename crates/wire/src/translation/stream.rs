//! Translates a stream while it passes, whatever its chunking.

use super::assembler::Assembler;
use super::chat::read_reply::ChatReader;
use super::event::{Failure, ReplyEvent};
use super::reply::StreamWriter;
use super::responses::read_reply::ResponsesReader;
use crate::sse::{Event, Scanner};
use crate::usage::Usage;
use domain::charge::TokenCount;

/// The largest event of an upstream that is read, in bytes: the last event of a response has all of its output.
const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;
/// A comment that keeps the connection alive.
const COMMENT: &[u8] = b": keep-alive\n\n";

/// Reads the replies of a surface that an upstream offers.
#[derive(Debug)]
pub(super) enum ReplyReader {
    Chat(ChatReader),
    Responses(ResponsesReader),
}

impl ReplyReader {
    pub fn read_event(&mut self, data: &str, visit: &mut dyn FnMut(ReplyEvent<'_>)) {
        match self {
            Self::Chat(reader) => reader.read_event(data, visit),
            Self::Responses(reader) => reader.read_event(data, visit),
        }
    }
}

/// Translates one stream. The bytes that it writes are whole events of the caller's surface.
pub struct StreamTranslator {
    scanner: Scanner,
    reader: ReplyReader,
    assembler: Assembler,
    writer: Box<dyn StreamWriter>,
}

impl StreamTranslator {
    pub(super) fn new(
        reader: ReplyReader,
        assembler: Assembler,
        writer: Box<dyn StreamWriter>,
    ) -> Self {
        Self { scanner: Scanner::new(MAX_EVENT_BYTES), reader, assembler, writer }
    }

    /// Translates the next bytes of the upstream's stream; appends what the caller receives to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.scanner.push(bytes);
        loop {
            match self.scanner.next_event() {
                Ok(Some(event)) => self.translate(&event, out),
                Ok(None) => return,
                Err(oversize) => {
                    self.write(ReplyEvent::Failed(Failure::of_gateway(&oversize.to_string())), out);
                    // What follows is not read.
                    self.scanner = Scanner::new(MAX_EVENT_BYTES);
                    return;
                }
            }
        }
    }

    /// Sets the usage that the caller is shown unless the upstream has reported, or still reports, its own.
    pub fn expect_usage(&mut self, tokens: &TokenCount) {
        self.assembler.reply.usage.get_or_insert_with(|| Usage::counted(*tokens));
    }

    /// Ends the stream, at the end of the upstream's: a reply that is complete and lacks only its last event gets
    /// it, any other an error in the caller's shape.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(event) = self.scanner.last_event() {
            self.translate(&event, out);
        }
        if self.assembler.has_stopped() {
            return self.write(ReplyEvent::End, out);
        }
        let failure =
            Failure::of_gateway("The response is incomplete: the upstream ended the stream early.");
        self.write(ReplyEvent::Failed(failure), out);
    }

    /// True once the last event of the reply is written.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.assembler.has_ended()
    }

    fn translate(&mut self, event: &Event, out: &mut Vec<u8>) {
        let Some(data) = event.data.as_deref() else {
            if event.raw.starts_with(b":") && !self.has_ended() {
                out.extend_from_slice(COMMENT);
            }
            return;
        };
        let data = String::from_utf8_lossy(data);
        let Self { reader, assembler, writer, .. } = self;
        reader.read_event(&data, &mut |event| assembler.push(event, &mut **writer, out));
    }

    fn write(&mut self, event: ReplyEvent<'_>, out: &mut Vec<u8>) {
        self.assembler.push(event, &mut *self.writer, out);
    }
}
