//! Reads a streamed reply event by event, on every surface.

use super::error::{ErrorBody, UpstreamError};
use super::output::OutputPiece;
use super::sse::Event;
use super::usage::Usage;
use bytes::Bytes;
use domain::charge::TokenCount;

/// Receives the output and the usage of a reply, in the order of the reply.
pub trait UsageSink {
    /// A piece of output; texts of one lane and kind belong together.
    fn on_output(&mut self, lane: u64, piece: OutputPiece<'_>);
    /// The usage of the whole reply up to here; a later one replaces it.
    fn on_usage(&mut self, usage: Usage);
    /// An event that could not be parsed. It is relayed nevertheless.
    fn on_unreadable(&mut self);
    /// A choice has ended with a reason.
    fn on_finish(&mut self);
    /// One image of an image generation.
    fn on_image(&mut self);
}

/// The gateway's decision about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventVerdict {
    /// Relay its bytes unchanged, once its tokens are covered by the quota.
    Relay,
    /// Do not relay it: the gateway requested it (usage), the client did not.
    Drop,
    /// Relay it; the reply is complete with it.
    Last,
    /// The upstream failed. Relay its event, whose message is safe for clients to read.
    RelayError(Box<UpstreamError>),
    /// The upstream failed. Replace its event by one that the gateway writes.
    ReplaceError(Box<UpstreamError>),
}

/// Reads one stream of a surface, and writes the events that end it early.
pub trait StreamReader: Send {
    /// Reads one event and reports its output and usage to `to`.
    fn on_event(&mut self, event: &Event, to: &mut dyn UsageSink) -> EventVerdict;

    /// True if every choice has ended, even if the end marker is missing.
    fn is_finished(&self) -> bool;

    /// The id under which the upstream stores the reply, once it is known.
    fn id(&self) -> Option<&str> {
        None
    }

    /// The events that end the reply early as a token limit would, end marker included.
    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes;

    /// The event with the usage that the caller requested, for a complete reply whose upstream reported none. Empty if
    /// it was not requested, and where usage has no event of its own.
    fn missing_usage(&self, _tokens: &TokenCount) -> Bytes {
        Bytes::new()
    }

    /// The event that reports an error once the reply has begun. It never makes a reply look complete.
    fn error(&mut self, error: &ErrorBody) -> Bytes;
}
