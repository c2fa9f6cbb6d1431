//! Relay of a reply that comes in one piece: read to its end, settled, then sent as it came.

use super::forward::{Forwarded, caller_gone};
use super::refusal::UpstreamFailure;
use super::reserve::{Reservation, exact_prompt};
use super::settle::Ending;
use crate::account::charge::Status;
use crate::clock;
use crate::openai::chunk::Chunk;
use crate::openai::error::UpstreamError;
use crate::openai::json;
use crate::openai::request::ChatRequest;
use crate::openai::usage::Usage;
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
    Failed(UpstreamFailure),
    /// The caller hung up; settled.
    CallerGone,
}

enum Collected {
    Body(Bytes),
    Broken,
    CallerGone,
}

/// Reads and settles a reply. The charge is durable before the caller can have seen the answer.
pub async fn relay(
    session: &mut ServerSession,
    forwarded: &mut Forwarded,
    reservation: Reservation,
    request: &ChatRequest<'_>,
    limit: usize,
) -> Whole {
    let upstream = Arc::clone(&forwarded.upstream);
    let head_at = forwarded.head_at;
    match collect(session, forwarded, limit).await {
        Collected::Body(body) => {
            let at = clock::instant();
            if let Some(error) = UpstreamError::in_reply(&body) {
                reservation.settle(Ending::failed(upstream, false)).await;
                return Whole::Failed(UpstreamFailure::Answered {
                    status: error.status,
                    body: error.body,
                });
            }
            let ending = match Usage::from_reply(&body) {
                Some(usage) => Ending::reported(Status::Complete, usage, upstream, Some(head_at)),
                None => {
                    let counted =
                        (exact_prompt(request, &reservation.model), counted_output(&body));
                    Ending::estimated(Status::Complete, counted, u64::MAX, upstream, Some(head_at))
                }
            };
            let charged = ending.tokens.total();
            reservation.settle(ending).await;
            Whole::Complete { body, at, charged }
        }
        Collected::Broken => {
            reservation.settle(Ending::failed(upstream, false)).await;
            Whole::Failed(UpstreamFailure::BadReply)
        }
        Collected::CallerGone => {
            hung_up(reservation, request, upstream).await;
            Whole::CallerGone
        }
    }
}

/// Settles a call whose caller left before any output was seen: the prompt was sent, so it is charged.
pub async fn hung_up(reservation: Reservation, request: &ChatRequest<'_>, upstream: Arc<str>) {
    let prompt = exact_prompt(request, &reservation.model);
    let reserved = reservation.reserved;
    let ending = Ending::estimated(Status::CutByClient, (prompt, 0), reserved, upstream, None);
    reservation.settle(ending).await;
}

async fn collect(
    session: &mut ServerSession,
    forwarded: &mut Forwarded,
    limit: usize,
) -> Collected {
    let mut body = BytesMut::new();
    let gone = caller_gone(session);
    tokio::pin!(gone);
    loop {
        let next = tokio::select! {
            next = forwarded.exchange.next() => next,
            () = &mut gone => return Collected::CallerGone,
        };
        match next {
            Ok(Some(bytes)) if body.len() + bytes.len() <= limit => body.extend_from_slice(&bytes),
            Ok(None) if is_json_object(&body) => return Collected::Body(body.freeze()),
            _ => return Collected::Broken,
        }
    }
}

/// Clients stumble over anything else, and find no error in it.
fn is_json_object(body: &[u8]) -> bool {
    json::object::<serde::de::IgnoredAny>(body).is_some()
}

/// The output of a whole reply that reports no usage.
fn counted_output(body: &[u8]) -> u64 {
    let mut meter = Meter::default();
    if let Some(reply) = Chunk::parse(body) {
        meter.chunk(&reply);
    }
    meter.output_counted()
}
