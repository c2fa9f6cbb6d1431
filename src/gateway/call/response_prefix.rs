//! Reads the beginning of a reply before anything is sent to the caller, because an error found there can
//! still become an error status, or be retried at another upstream.
//!
//! For a stream this is the first event with data; for a non-streaming reply the whole body, unless it is
//! larger than any error.

use crate::gateway::call::forward::is_event_stream;
use crate::gateway::call::relay_body;
use crate::upstream::client::Exchange;
use bytes::BytesMut;
use std::ops::ControlFlow;
use std::time::Duration;
use wire::error::UpstreamError;
use wire::request::Request;
use wire::sse::Scanner;
use wire::stream_reader::{EventVerdict, StreamReader};
use wire::surface::Surface;
use wire::tokens::meter::Meter;

/// Non-streaming replies above this size are not errors.
const ERROR_BYTES: usize = 64 * 1024;
/// A non-streamed response is not sent before it is complete: waiting for it costs nothing.
const WHOLE_HOLD: Duration = Duration::from_hours(24);

/// The part of a reply that has been read.
pub(crate) enum ResponsePrefix {
    Stream { scanner: Scanner, follow: Box<dyn StreamReader>, bytes: usize, limit: usize },
    Body { body: BytesMut, surface: Surface },
}

/// The error that the reply begins with, if it does.
type Found = ControlFlow<Option<UpstreamError>>;

impl ResponsePrefix {
    /// Of the reply to `request`, of which the head is here. Events are at most `event_bytes` long.
    pub fn new(request: &Request<'_>, exchange: &Exchange, event_bytes: usize) -> Self {
        if request.stream && is_event_stream(exchange) {
            Self::Stream {
                scanner: Scanner::new(event_bytes),
                follow: request.surface.stream_reader(true),
                bytes: 0,
                limit: event_bytes,
            }
        } else {
            Self::Body { body: BytesMut::new(), surface: request.surface }
        }
    }

    /// The time that the caller may wait for it; `longest` applies to streams.
    pub fn max_wait(&self, longest: Duration) -> Duration {
        match self {
            Self::Stream { .. } => longest,
            Self::Body { .. } => WHOLE_HOLD,
        }
    }

    /// Takes in the next bytes, `None` at the end. Breaks once it is known how the reply begins.
    pub fn take(&mut self, read: Option<&[u8]>) -> Found {
        match self {
            Self::Body { body, surface } => {
                let Some(bytes) = read else {
                    // What the upstream bills is charged, so no other upstream is tried.
                    let error = UpstreamError::in_reply(body);
                    return Found::Break(
                        error.filter(|_| relay_body::reported_in(*surface, body).is_none()),
                    );
                };
                body.extend_from_slice(bytes);
                if body.len() > ERROR_BYTES { Found::Break(None) } else { Found::Continue(()) }
            }
            Self::Stream { scanner, follow, bytes, limit } => {
                let Some(read) = read else {
                    let last = scanner.last_event();
                    return Found::Break(last.and_then(|event| error_of(&mut **follow, &event)));
                };
                *bytes += read.len();
                scanner.push(read);
                loop {
                    match scanner.next_event() {
                        Ok(Some(event))
                            if event
                                .data
                                .as_ref()
                                .is_none_or(|data| data.trim_ascii().is_empty()) => {}
                        Ok(Some(event)) => return Found::Break(error_of(&mut **follow, &event)),
                        Ok(None) if *bytes <= *limit => return Found::Continue(()),
                        _ => return Found::Break(None),
                    }
                }
            }
        }
    }
}

fn error_of(follow: &mut dyn StreamReader, event: &wire::sse::Event) -> Option<UpstreamError> {
    match follow.on_event(event, &mut Meter::default()) {
        EventVerdict::ReplaceError(error) | EventVerdict::RelayError(error) => Some(*error),
        _ => None,
    }
}
