//! Following a streamed reply event by event, whatever surface it is of.

use super::error::{ErrorBody, UpstreamError};
use super::output::Piece;
use super::sse::Event;
use super::usage::Usage;
use bytes::Bytes;
use domain::charge::TokenCount;

/// Takes in what a reply says, in the order in which it is said.
pub trait Listener {
    /// A piece of output; texts of one lane and kind belong together.
    fn output(&mut self, lane: u64, piece: Piece<'_>);
    /// All that was used so far. The last one counts.
    fn usage(&mut self, usage: Usage);
    /// Something that could not be read, and is passed on all the same.
    fn unreadable(&mut self);
    /// A choice has given its reason to end.
    fn finished(&mut self);
    /// An image.
    fn image(&mut self);
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It goes to the caller as it came, once it is covered.
    Passes,
    /// Only the gateway asked for it.
    Unasked,
    /// The reply is complete with it.
    Last,
    /// The upstream gave up, and says so here in words that are the caller's to read.
    Failed(Box<UpstreamError>),
    /// The upstream gave up; the gateway has to say so.
    Error(Box<UpstreamError>),
}

/// One stream of a surface: knows how far it has come, and how to end it.
pub trait Follow: Send {
    /// Takes in one event and tells `to` what it says.
    fn event(&mut self, event: &Event, to: &mut dyn Listener) -> Heard;

    /// Whether all has been said, though the end marker is missing.
    fn is_finished(&self) -> bool;

    /// The name under which the upstream keeps the reply, once it is known.
    fn id(&self) -> Option<&str> {
        None
    }

    /// What ends the reply early the way a token limit would, end marker and all.
    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes;

    /// What tells the caller of an error once the reply has begun. No reply ends well with it.
    fn error(&mut self, error: &ErrorBody) -> Bytes;
}
