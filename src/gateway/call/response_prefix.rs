//! Reads the beginning of a reply before anything is sent to the caller, because what fails there can still become
//! an error status, or be retried at another upstream.
//!
//! For a stream this is the first event with data, or, where another upstream may serve the call, with content; for
//! a non-streaming reply the whole body, unless it is larger than any error.

use crate::gateway::call::forward::is_event_stream;
use crate::gateway::call::relay_body;
use crate::upstream::client::{Exchange, ReadAhead};
use bytes::BytesMut;
use std::ops::ControlFlow;
use std::time::Duration;
use wire::error::UpstreamError;
use wire::json;
use wire::request::Request;
use wire::sse::{Event, Scanner};
use wire::stream_reader::{EventVerdict, StreamReader};
use wire::surface::Surface;
use wire::tokens::meter::Meter;

/// Non-streaming replies above this size are not errors.
const ERROR_BYTES: usize = 64 * 1024;
/// A non-streamed response is not sent before it is complete: waiting for it costs nothing.
const WHOLE_HOLD: Duration = Duration::from_hours(24);

/// The part of a reply that has been read.
#[expect(clippy::large_enum_variant, reason = "lives in one place, and only while a reply begins")]
pub(crate) enum ResponsePrefix {
    Stream(StreamPrefix),
    Body {
        body: BytesMut,
        surface: Surface,
        /// True if a body that is no JSON object is given up for another upstream.
        may_fail_over: bool,
    },
}

/// The first events of a stream.
pub(crate) struct StreamPrefix {
    scanner: Scanner,
    follow: Box<dyn StreamReader>,
    meter: Meter,
    bytes: usize,
    /// Read without a decision up to here, in bytes.
    limit: usize,
    /// True if events without content are read past.
    may_fail_over: bool,
    /// Events with data so far.
    events: usize,
}

/// How a reply begins.
pub(crate) enum Beginning {
    /// With something to relay.
    Reply,
    Error(Box<UpstreamError>),
    /// It ended before it had anything for a caller.
    Broken,
    /// The upstream was silent too long, and another one may have the call.
    Silent,
}

/// How the reply begins, once that is known.
type Found = ControlFlow<Beginning>;

impl ResponsePrefix {
    /// Of the reply to `request`, of which the head is here. Events are at most `event_bytes` long. With
    /// `may_fail_over` another upstream can have the call.
    pub fn new(
        request: &Request<'_>,
        exchange: &Exchange,
        event_bytes: usize,
        may_fail_over: bool,
    ) -> Self {
        if request.stream && is_event_stream(exchange) {
            Self::Stream(StreamPrefix {
                scanner: Scanner::new(event_bytes),
                follow: request.surface.stream_reader(true),
                meter: Meter::default(),
                bytes: 0,
                limit: event_bytes,
                may_fail_over,
                events: 0,
            })
        } else {
            Self::Body { body: BytesMut::new(), surface: request.surface, may_fail_over }
        }
    }

    /// The events with data that have been read of a stream.
    pub fn events(&self) -> usize {
        match self {
            Self::Stream(stream) => stream.events,
            Self::Body { .. } => 0,
        }
    }

    /// True if it is that of a stream.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// The time that the caller may wait for it; `longest` applies to streams.
    pub fn max_wait(&self, longest: Duration) -> Duration {
        if self.is_stream() { longest } else { WHOLE_HOLD }
    }

    /// Takes in what was read next. Breaks once it is known how the reply begins.
    pub fn take(&mut self, read: &ReadAhead) -> Found {
        match (self, read) {
            (
                Self::Stream(StreamPrefix { may_fail_over, .. }) | Self::Body { may_fail_over, .. },
                ReadAhead::Idle,
            ) => Found::Break(if *may_fail_over { Beginning::Silent } else { Beginning::Reply }),
            (Self::Stream(stream), ReadAhead::Bytes(bytes)) => stream.take(bytes),
            (Self::Stream(stream), ReadAhead::End) => Found::Break(stream.end()),
            (Self::Body { body, .. }, ReadAhead::Bytes(bytes)) => {
                body.extend_from_slice(bytes);
                if body.len() > ERROR_BYTES {
                    Found::Break(Beginning::Reply)
                } else {
                    Found::Continue(())
                }
            }
            (Self::Body { body, surface, may_fail_over }, ReadAhead::End) => {
                Found::Break(of_body(body, *surface, *may_fail_over))
            }
        }
    }
}

fn of_body(body: &[u8], surface: Surface, may_fail_over: bool) -> Beginning {
    if let Some(error) = UpstreamError::in_reply(body) {
        // What the upstream bills is charged, so no other upstream is tried.
        let is_billed = relay_body::reported_in(surface, body).is_some();
        return if is_billed { Beginning::Reply } else { Beginning::Error(Box::new(error)) };
    }
    if may_fail_over && !json::is_object(body) { Beginning::Broken } else { Beginning::Reply }
}

impl StreamPrefix {
    fn take(&mut self, bytes: &[u8]) -> Found {
        self.bytes += bytes.len();
        self.scanner.push(bytes);
        loop {
            match self.scanner.next_event() {
                Ok(Some(event)) => self.on_event(&event)?,
                Ok(None) if self.bytes <= self.limit => return Found::Continue(()),
                // Too large to be held.
                Ok(None) | Err(_) => return Found::Break(Beginning::Reply),
            }
        }
    }

    fn end(&mut self) -> Beginning {
        if let Some(event) = self.scanner.last_event()
            && let Found::Break(beginning) = self.on_event(&event)
        {
            return beginning;
        }
        if self.may_fail_over || self.events == 0 { Beginning::Broken } else { Beginning::Reply }
    }

    fn on_event(&mut self, event: &Event) -> Found {
        if event.data.as_ref().is_none_or(|data| data.trim_ascii().is_empty()) {
            return Found::Continue(());
        }
        self.events += 1;
        match self.follow.on_event(event, &mut self.meter) {
            // What the upstream bills is charged, so no other upstream is tried.
            _ if self.is_billed() => Found::Break(Beginning::Reply),
            EventVerdict::ReplaceError(error) | EventVerdict::RelayError(error) => {
                Found::Break(Beginning::Error(error))
            }
            EventVerdict::Relay | EventVerdict::Drop if self.may_fail_over && !self.has_begun() => {
                Found::Continue(())
            }
            _ => Found::Break(Beginning::Reply),
        }
    }

    fn is_billed(&self) -> bool {
        self.meter.usage().is_some_and(|usage| usage.tokens.total() > 0)
    }

    /// True if there is something in it that the caller has use for.
    fn has_begun(&self) -> bool {
        self.meter.has_output() || self.follow.is_finished()
    }
}
