//! Relay of a reply that comes in one piece: read to its end, settled, then sent as it came.

use super::buffers::Held;
use super::forward::{Forwarded, Stop, stopped};
use super::leash::{Leash, Pulled};
use super::refusal::{Refusal, UpstreamFailure};
use super::reserve::{Reservation, exact_prompt};
use super::settle::Ending;
use crate::account::charge::Status;
use crate::clock;
use crate::openai::error::UpstreamError;
use crate::openai::json;
use crate::openai::request::Request;
use crate::tokens::meter::Meter;
use bytes::{Bytes, BytesMut};
use pingora_core::protocols::http::ServerSession;
use std::sync::Arc;
use std::time::Instant;

/// How reading the reply ended.
pub enum Whole {
    /// The reply is complete (since `at`) and settled, for `charged` tokens; it may be sent.
    Complete { body: Bytes, at: Instant, charged: u64 },
    /// The reply was broken or an error in disguise; nothing was charged.
    Failed(Refusal),
    /// Nobody waits any more; settled.
    Stopped(Stop),
}

enum Collected {
    Body(Bytes),
    Broken(Refusal),
    Stopped(Stop),
}

/// Bounds of a reply.
pub struct Bounds<'a> {
    /// Largest reply, in bytes.
    pub bytes: usize,
    pub held: &'a mut Held,
    pub leash: &'a Leash,
}

/// Reads and settles a reply. The charge is durable before the caller can have seen the answer.
pub async fn relay(
    session: &mut ServerSession,
    forwarded: &mut Forwarded,
    reservation: Reservation,
    request: &Request<'_>,
    bounds: Bounds<'_>,
) -> Whole {
    let upstream = Arc::clone(&forwarded.upstream);
    let head_at = forwarded.head_at;
    match collect(session, forwarded, bounds).await {
        Collected::Body(body) => {
            let at = clock::instant();
            if let Some(error) = UpstreamError::in_reply(&body) {
                reservation.settle(Ending::failed(upstream, false)).await;
                return Whole::Failed(Refusal::Upstream(UpstreamFailure::Answered {
                    status: error.status,
                    body: error.body,
                    retry_after: None,
                }));
            }
            let mut meter = Meter::default();
            request.surface.hear(&body, &mut meter);
            let ending = match meter.usage() {
                Some(usage) => Ending::reported(Status::Complete, usage, upstream, Some(head_at)),
                None => {
                    let prompt = exact_prompt(request, &reservation.model);
                    let counted = (prompt, meter.output_counted());
                    Ending::estimated(Status::Complete, counted, u64::MAX, upstream, Some(head_at))
                }
            };
            let charged = ending.tokens.total();
            reservation.settle(ending).await;
            Whole::Complete { body, at, charged }
        }
        Collected::Broken(refusal) => {
            reservation.settle(Ending::failed(upstream, false)).await;
            Whole::Failed(refusal)
        }
        Collected::Stopped(by) => {
            settle_stopped(reservation, Some(request), upstream, by).await;
            Whole::Stopped(by)
        }
    }
}

/// Settles a call that was stopped before any output was seen. The prompt is charged, unless it was
/// we who stopped it or nothing of `sent` can have reached the upstream.
pub async fn settle_stopped(
    reservation: Reservation,
    sent: Option<&Request<'_>>,
    upstream: Arc<str>,
    by: Stop,
) {
    let status = match by {
        Stop::CallerGone => Status::CutByClient,
        Stop::Pulled(Pulled::RightEnded) => Status::CutByQuota,
        Stop::Pulled(Pulled::ShuttingDown | Pulled::TooLong) => {
            return reservation.settle(Ending::failed(upstream, false)).await;
        }
    };
    let ending = match sent {
        Some(request) => {
            let prompt = exact_prompt(request, &reservation.model);
            Ending::estimated(status, (prompt, 0), reservation.reserved, upstream, None)
        }
        None => Ending { status, ..Ending::failed(upstream, false) },
    };
    reservation.settle(ending).await;
}

async fn collect(
    session: &mut ServerSession,
    forwarded: &mut Forwarded,
    bounds: Bounds<'_>,
) -> Collected {
    let mut body = BytesMut::new();
    let stopped = stopped(session, bounds.leash);
    tokio::pin!(stopped);
    loop {
        let next = tokio::select! {
            biased;
            by = &mut stopped => return Collected::Stopped(by),
            next = forwarded.exchange.next() => next,
        };
        match next {
            Ok(Some(bytes)) if body.len() + bytes.len() <= bounds.bytes => {
                if let Err(no_room) = bounds.held.grow(bytes.len()) {
                    return Collected::Broken(no_room);
                }
                body.extend_from_slice(&bytes);
            }
            Ok(None) if is_json_object(&body) => return Collected::Body(body.freeze()),
            _ => return Collected::Broken(Refusal::Upstream(UpstreamFailure::BadReply)),
        }
    }
}

/// Clients stumble over anything else, and find no error in it.
fn is_json_object(body: &[u8]) -> bool {
    json::object::<serde::de::IgnoredAny>(body).is_some()
}
