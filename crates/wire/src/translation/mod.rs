//! Translation between surfaces, for models with an upstream that does not offer the surface of the client.
//!
//! A request is read into [`request::Request`] and written for the upstream; its reply is read as
//! [`event::ReplyEvent`]s, put together by the [`assembler`], and written for the caller. Translation is the last
//! stage on the way to the caller: what the upstream bills is read from its own bytes elsewhere. Pure: ids and the
//! time are arguments.
//!
//! | from \ to | chat completions | responses |
//! | --- | --- | --- |
//! | chat completions | | yes |
//! | responses | yes | |
//! | messages | yes | yes |

mod error;
mod json_writer;
mod object;
mod request;
mod chat;
mod responses;
mod messages;
mod event;
mod reply;
mod tool_names;
mod stop_sequences;
mod json_depth;
mod assembler;
mod failure;
mod sse_writer;
mod stream;

pub(crate) use chat::write_request::{CUSTOM_PARAMETERS, INPUT, describe_custom};
pub use error::TranslationError;
pub(crate) use json_depth::JsonDepth;
pub(crate) use request::CustomFormat;
pub use stream::StreamTranslator;

use crate::json;
use crate::surface::Surface;
use crate::usage::Usage;
use assembler::{Assembler, AssemblerOptions};
use chat::read_reply::ChatReader;
use chat::write_stream::ChatStream;
use domain::charge::TokenCount;
use event::ReplyEvent;
use messages::write_stream::MessageStream;
use object::Object;
use reply::{NoStream, Reply, StreamWriter};
use request::Request;
use responses::read_reply::ResponsesReader;
use responses::write_reply::ResponseFrame;
use responses::write_stream::ResponseStream;
use stop_sequences::{MAX_SEQUENCE_BYTES, MAX_SEQUENCES, StopSequences};
use stream::ReplyReader;
use tool_names::ToolNames;

/// The translation of requests.
#[derive(Debug, Clone, Copy)]
pub struct Translation;

/// What a translation needs beside the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslationOptions<'a> {
    /// The part of the reply's ids that makes them unique; of letters and digits.
    pub id: &'a str,
    /// Unix time in seconds, where the upstream gives none.
    pub created_at: u64,
    /// The upstream takes instructions only before the conversation: later ones become messages of the user.
    pub system_first_only: bool,
    /// The upstream takes the reasoning of earlier turns as `reasoning_content`.
    pub replays_reasoning: bool,
}

/// A request for the upstream, and what is needed to translate its reply.
#[derive(Debug)]
pub struct TranslatedRequest {
    pub body: Vec<u8>,
    pub reply: ReplyTranslation,
}

/// The translation of the reply to one request.
#[derive(Debug, Clone)]
pub struct ReplyTranslation {
    /// The caller's surface.
    from: Surface,
    /// The upstream's surface.
    to: Surface,
    id: String,
    created_at: u64,
    include_usage: bool,
    shows_reasoning: bool,
    names: ToolNames,
    stops: Vec<String>,
    /// For callers of responses: the members that repeat the request.
    echo: String,
}

impl Translation {
    /// True if requests on `from` can be translated to `to`.
    #[must_use]
    pub fn is_possible(from: Surface, to: Surface) -> bool {
        matches!(
            (from, to),
            (Surface::Messages, Surface::Responses | Surface::ChatCompletions)
                | (Surface::Responses, Surface::ChatCompletions)
                | (Surface::ChatCompletions, Surface::Responses)
        )
    }

    /// Translates the body of a request on the surface `from` for an upstream that offers `to`.
    ///
    /// # Errors
    /// [`TranslationError`] for what `to` cannot express, and for bodies that are not valid on `from`.
    pub fn of_request(
        from: Surface,
        to: Surface,
        body: &[u8],
        options: &TranslationOptions<'_>,
    ) -> Result<TranslatedRequest, TranslationError> {
        if !Self::is_possible(from, to) {
            let message =
                format!("Requests to /v1{} cannot be translated to /v1{}.", from.path(), to.path());
            return Err(TranslationError::new("", message));
        }
        json::check(body)
            .map_err(|error| TranslationError::new("", format!("Invalid JSON: {error}.")))?;
        let object = json::object_text(body).and_then(Object::read);
        let object = object
            .ok_or_else(|| TranslationError::new("", "The request body must be a JSON object."))?;
        let out = Vec::with_capacity(body.len());
        Self::of_object(from, to, (&object, out), options).map_err(TranslationError::with_path)
    }

    fn of_object(
        from: Surface,
        to: Surface,
        (object, mut out): (&Object<'_>, Vec<u8>),
        options: &TranslationOptions<'_>,
    ) -> Result<TranslatedRequest, TranslationError> {
        let request = read(from, object)?;
        let names = if to == Surface::Responses {
            responses::write_request::write(&request, &mut out)?;
            ToolNames::default()
        } else {
            let names = ToolNames::of(&request.tools);
            chat::write_request::write(&request, (&names, options), &mut out)?;
            names
        };
        let reply = ReplyTranslation::of(from, to, object, &request, options)?;
        let reply = ReplyTranslation { names, ..reply };
        Ok(TranslatedRequest { body: out, reply })
    }
}

fn read<'a>(from: Surface, body: &Object<'a>) -> Result<Request<'a>, TranslationError> {
    match from {
        Surface::Responses => responses::read_request::read(body),
        Surface::Messages => messages::read_request::read(body),
        _ => chat::read_request::read(body),
    }
}

impl ReplyTranslation {
    fn of(
        from: Surface,
        to: Surface,
        body: &Object<'_>,
        request: &Request<'_>,
        options: &TranslationOptions<'_>,
    ) -> Result<Self, TranslationError> {
        let is_chat = to == Surface::ChatCompletions;
        let is_messages = from == Surface::Messages;
        Ok(Self {
            from,
            to,
            id: options.id.to_owned(),
            created_at: options.created_at,
            include_usage: request.include_usage,
            // Clients of messages that did not request thinking take the first block for the answer.
            shows_reasoning: !is_messages || request.reasoning.encrypted,
            names: ToolNames::default(),
            stops: if is_chat { Vec::new() } else { stop_sequences(from, request)? },
            echo: match from {
                Surface::Responses => responses::echo::of_request(body),
                _ => String::new(),
            },
        })
    }

    /// Translates a whole reply. If it reports no usage, the caller is shown what was `charged`.
    ///
    /// # Errors
    /// The body is not a reply of the upstream's surface, is an error, or is too large.
    pub fn reply(
        &self,
        body: &[u8],
        charged: Option<&TokenCount>,
    ) -> Result<Vec<u8>, TranslationError> {
        let object = json::object_text(body).and_then(Object::read);
        let object = object.ok_or_else(|| {
            TranslationError::new("", "The upstream's reply is not a JSON object.")
        })?;
        let mut assembler = self.assembler(true);
        let mut failure = None;
        let mut visit = |event: ReplyEvent<'_>| {
            if let ReplyEvent::Failed(failed) = &event {
                failure.get_or_insert_with(|| failed.message.clone());
            }
            assembler.push(event, &mut NoStream, &mut Vec::new());
        };
        match self.to {
            Surface::Responses => ResponsesReader::default().read_whole(&object, &mut visit),
            _ => ChatReader::default().read_whole(&object, &mut visit),
        }
        match failure {
            Some(message) => Err(TranslationError::new("", message)),
            None if assembler.reply.stop.is_none() => Err(TranslationError::new(
                "",
                "The upstream's reply is too large to be translated.",
            )),
            None => {
                let usage = charged.copied().map(Usage::counted);
                assembler.reply.usage = assembler.reply.usage.or(usage);
                Ok(self.write(&assembler.reply))
            }
        }
    }

    /// The translation of the reply as a stream.
    #[must_use]
    pub fn into_stream(self) -> StreamTranslator {
        let reader = match self.to {
            Surface::Responses => ReplyReader::Responses(ResponsesReader::default()),
            _ => ReplyReader::Chat(ChatReader::default()),
        };
        let assembler = self.assembler(self.from == Surface::Responses);
        let writer: Box<dyn StreamWriter> = match self.from {
            Surface::Responses => Box::new(ResponseStream::new(self.frame())),
            Surface::Messages => Box::new(MessageStream::new(&self.id)),
            _ => Box::new(ChatStream::new(&self.id, self.include_usage)),
        };
        StreamTranslator::new(reader, assembler, writer)
    }

    fn assembler(&self, stores_texts: bool) -> Assembler {
        let (id, shows_reasoning) = (self.id.clone(), self.shows_reasoning);
        let options = AssemblerOptions { stores_texts, shows_reasoning, id };
        let stops = StopSequences::new(self.stops.clone());
        let mut assembler = Assembler::new(options, self.names.clone(), stops);
        assembler.reply.created_at = self.created_at;
        assembler
    }

    fn frame(&self) -> ResponseFrame {
        ResponseFrame { id: self.id.clone(), echo: self.echo.clone() }
    }

    fn write(&self, reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        match self.from {
            Surface::Responses => responses::write_reply::write(reply, &self.frame(), &mut out),
            Surface::Messages => messages::write_reply::write(reply, &self.id, &mut out),
            _ => chat::write_reply::write(reply, &self.id, &mut out),
        }
        out
    }
}

/// The caller's stop sequences, which the gateway has to find where the upstream takes none.
fn stop_sequences(from: Surface, request: &Request<'_>) -> Result<Vec<String>, TranslationError> {
    let stops = &request.sampling.stop;
    let name = if from == Surface::Messages { "stop_sequences" } else { "stop" };
    if stops.len() > MAX_SEQUENCES || stops.iter().any(|stop| stop.len() > MAX_SEQUENCE_BYTES) {
        let message = format!(
            "'{name}' may have up to {MAX_SEQUENCES} sequences of up to {MAX_SEQUENCE_BYTES} bytes."
        );
        return Err(TranslationError::new(name, message));
    }
    Ok(stops.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests;
