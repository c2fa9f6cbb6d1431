//! Relay of a reply that comes in one piece: read to its end, settled, then sent as it came.

use crate::gateway::call::admit::Reservation;
use crate::gateway::call::body_memory::Held;
use crate::gateway::call::cancellation::{Leash, Pulled};
use crate::gateway::call::drain::Asked;
use crate::gateway::call::forward::{Forwarded, Stop, stopped};
use crate::gateway::call::settle::Ending;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::response_owners::{DEFERRED_LIFETIME, ResponseOwners, Unknown};
use crate::upstream::catalog::Upstream;
use crate::upstream::client::{BodyError, Exchange};
use bytes::{Bytes, BytesMut};
use domain::charge::{Source, Status};
use domain::id::RequestId;
use std::sync::Arc;
use std::time::Instant;
use system::clock;
use wire::error::UpstreamError;
use wire::json;
use wire::request::Request;
use wire::surface::{Output, Surface};
use wire::tokens::meter::Meter;
use wire::usage::Usage;

/// How reading the reply ended.
pub enum Whole {
    /// The reply is complete (since `at`) and settled, for `charged` tokens; it may be sent.
    Complete { body: Bytes, at: Instant, charged: u64 },
    /// The reply was broken or an error in disguise, and settled for `charged` tokens.
    Failed { refusal: Refusal, charged: u64 },
    /// The client has gone; this much of the body has arrived, and nothing is settled.
    Stopped { by: Stop, reservation: Box<Reservation>, body: BytesMut },
}

/// A reply's body, or why there is none.
pub enum Collected {
    /// All of it, whatever it is.
    Body(Bytes),
    /// The upstream failed.
    Broken(Refusal),
    /// It was given up: the upstream may have made it, and bill it.
    GivenUp(Refusal),
    Stopped(Stop),
}

impl Collected {
    fn broken() -> Self {
        Self::Broken(Refusal::Upstream(UpstreamFailure::BadReply))
    }

    /// The same, where a body that is no JSON object is a broken one: clients stumble over anything else, and find
    /// no error in it.
    #[must_use]
    pub fn of_json(self) -> Self {
        match self {
            Self::Body(body) if !json::is_object(&body) => Self::broken(),
            other => other,
        }
    }
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
    session: &mut Session,
    forwarded: &mut Forwarded,
    mut reservation: Reservation,
    request: &Request<'_>,
    bounds: Bounds<'_>,
    owners: &ResponseOwners,
) -> Whole {
    let upstream = Arc::clone(&forwarded.upstream);
    let head_at = forwarded.head_at;
    let mut body = BytesMut::new();
    let mut meter = Meter::default();
    let collected = match collect(session, &mut forwarded.exchange, &mut body, bounds).await {
        Collected::Body(body) if !request.surface.read_reply(&body, &mut meter) => {
            Collected::broken()
        }
        collected => collected,
    };
    match collected {
        Collected::Body(body) => {
            let at = clock::instant();
            if let Some(error) = UpstreamError::in_reply(&body) {
                let error = error.redacted(&forwarded.pool.upstream().redactor());
                if error.fault.is_retriable() {
                    forwarded.broke_off(reservation.caller.user);
                }
                let ending = failed_ending(request, &body, upstream, head_at);
                let refusal = Refusal::Upstream(UpstreamFailure::Handled {
                    status: error.status,
                    body: error.body,
                    retry_after: None,
                });
                return failed(reservation, ending, refusal).await;
            }
            let prompt = || reservation.exact_prompt(request);
            let replied = (&body[..], meter, upstream, head_at);
            let asked = Asked::of(request, &reservation.caller.plan_limits.policy);
            let ending = ending_of(&asked, &reservation, replied, prompt);
            if let Err(refusal) = note_owner(request, &reservation, &ending, &body, owners).await {
                let ending = Ending::failed(ending.upstream, false);
                return failed(reservation, ending, refusal).await;
            }
            let charged = ending.tokens.total();
            reservation.settle(ending).await;
            // An answer may have an error beside it, or the key within.
            let body = forwarded.pool.reply_redactor.body(body);
            Whole::Complete { body, at, charged }
        }
        Collected::Broken(refusal) => {
            if matches!(refusal, Refusal::Upstream(_)) {
                forwarded.broke_off(reservation.caller.user);
            }
            failed(reservation, Ending::failed(upstream, false), refusal).await
        }
        Collected::GivenUp(refusal) => {
            if matches!(refusal, Refusal::Upstream(_)) {
                forwarded.broke_off(reservation.caller.user);
            }
            let asked = Asked::of(request, &reservation.caller.plan_limits.policy);
            let ending = ending_of_given_up(&mut reservation, asked, upstream).await;
            failed(reservation, ending, refusal).await
        }
        Collected::Stopped(by) => Whole::Stopped { by, reservation: Box::new(reservation), body },
    }
}

async fn failed(reservation: Reservation, ending: Ending, refusal: Refusal) -> Whole {
    let charged = ending.tokens.total();
    reservation.settle(ending).await;
    Whole::Failed { refusal, charged }
}

/// The ending of a reply that the gateway gives up although its upstream may make, and bill, all of it: charged
/// like one whose caller has gone and that was not read to its end in time.
pub async fn ending_of_given_up(
    reservation: &mut Reservation,
    asked: Asked,
    upstream: Arc<str>,
) -> Ending {
    if asked.surface.is_free() {
        return Ending::failed(upstream, false);
    }
    reservation.reserve_generated().await;
    reservation.unreported(Status::CutByUpstream, asked.surface.output(), upstream)
}

/// The ending of a call that `upstream` took and did not answer in time: charged as if its client had disconnected
/// then.
pub async fn ending_of_unheard(
    reservation: &mut Reservation,
    request: &Request<'_>,
    upstream: &Upstream,
) -> Ending {
    let asked = Asked::of(request, &reservation.caller.plan_limits.policy);
    let (name, by) = (Arc::clone(&upstream.name), Stop::Pulled(Pulled::TooLong));
    if asked.is_read_on(&reservation.model, upstream, by) {
        return ending_of_given_up(reservation, asked, name).await;
    }
    ending_of_stopped(reservation, request, name, by.status())
}

/// The ending of a reply that is an error: nothing is charged, unless the upstream reports usage all the same.
fn failed_ending(
    request: &Request<'_>,
    body: &[u8],
    upstream: Arc<str>,
    head_at: Instant,
) -> Ending {
    match reported_in(request.surface, body) {
        Some(usage) => Ending::reported(Status::CutByUpstream, usage, upstream, Some(head_at)),
        None => Ending::failed(upstream, false),
    }
}

/// The usage that a whole reply reports, whatever else it says; `None` where that is nothing.
pub fn reported_in(surface: Surface, body: &[u8]) -> Option<Usage> {
    let mut meter = Meter::default();
    surface.read_reply(body, &mut meter);
    meter.usage().filter(|usage| usage.tokens.total() > 0)
}

/// What a complete reply is charged, of which `meter` has heard: as reported, or counted, with the prompt as `prompt`
/// counts it.
pub fn ending_of(
    asked: &Asked,
    reservation: &Reservation,
    (body, mut meter, upstream, head_at): (&[u8], Meter, Arc<str>, Instant),
    prompt: impl Fn() -> u64,
) -> Ending {
    let (model, first) = (&reservation.model, Some(head_at));
    if asked.is_deferred && asked.surface.id_of(body).is_some() {
        return ending_of_deferred(Status::Complete, reservation, upstream, first);
    }
    let mut ending = match meter.reported(&prompt) {
        Some(usage) => Ending::reported(Status::Complete, usage, upstream, first),
        None => {
            let counted = (prompt(), meter.output_counted());
            Ending::estimated(Status::Complete, counted, u64::MAX, upstream, first)
        }
    };
    ending = ending.with_hidden(|counted| reservation.hidden_beside(counted));
    let images = meter.images();
    if images > 0 && ending.tokens.total() == 0 {
        ending.tokens.completion = images.saturating_mul(model.image_tokens);
        if ending.cost_ticks.is_none() {
            ending.source = Source::Estimated;
        }
        let price = i64::try_from(images.saturating_mul(model.image_ticks)).unwrap_or(i64::MAX);
        ending.cost_ticks = ending.cost_ticks.or(Some(price));
    }
    ending.counted = !asked.surface.is_free();
    ending
}

/// What a deferred completion is charged until it is fetched: all that was reserved for it. The upstream makes it
/// whether it is fetched or not, and reports what it used only then.
pub fn ending_of_deferred(
    status: Status,
    reservation: &Reservation,
    upstream: Arc<str>,
    first: Option<Instant>,
) -> Ending {
    let reserved = reservation.reserved;
    Ending::estimated(status, (reservation.prompt, reserved), reserved, upstream, first)
}

/// Records the owner of a stored response before its id is sent. If that fails, the caller still gets the reply,
/// but it cannot be retrieved; a deferred reply consists of its id alone, so it is refused.
async fn note_owner(
    request: &Request<'_>,
    reservation: &Reservation,
    ending: &Ending,
    body: &[u8],
    owners: &ResponseOwners,
) -> Result<(), Refusal> {
    if !request.dependencies.is_stored {
        return Ok(());
    }
    let Some(id) = request.surface.id_of(body) else { return Ok(()) };
    let mut kept = reservation.kept(&id, &ending.upstream, ending.tokens.total());
    if request.dependencies.is_deferred {
        kept.expires_at = reservation.admitted_at + DEFERRED_LIFETIME;
    } else if ending.source == Source::Reported {
        kept.unsettled = None;
    }
    let noted = owners.record(&kept, reservation.admitted_at).await;
    log_owner(reservation.request, &noted);
    let is_lost = request.dependencies.is_deferred && !matches!(noted, Ok(true));
    if is_lost { Err(Refusal::RepliesUnavailable) } else { Ok(()) }
}

/// Logs that a reply has no owner, where it has none.
pub fn log_owner(request: RequestId, noted: &Result<bool, Unknown>) {
    match noted {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(request_id = %request, "upstream reused a response id; neither response can be retrieved");
        }
        Err(unknown) => {
            tracing::error!(request_id = %request, error = %unknown, "failed to record response owner; the response cannot be retrieved");
        }
    }
}

/// Settles a call that was stopped before any output was seen, and whose upstream is not read on. The prompt and
/// the hidden tokens that can have been generated by now are charged, unless nothing of `sent` can have reached the upstream. A call that ends because the
/// gateway does is charged nothing: its caller has no part in that, and had no answer.
pub async fn settle_stopped(
    reservation: Reservation,
    sent: Option<&Request<'_>>,
    upstream: Arc<str>,
    by: Stop,
) {
    if by == Stop::Pulled(Pulled::ShuttingDown) {
        if sent.is_some() {
            let (request_id, reserved_tokens) = (reservation.request, reservation.reserved);
            tracing::warn!(%request_id, reserved_tokens, "call aborted by shutdown is not charged, but the upstream may bill it");
        }
        return reservation.settle(Ending::failed(upstream, false)).await;
    }
    let status = by.status();
    let ending = match sent {
        Some(request) => ending_of_stopped(&reservation, request, upstream, status),
        None => Ending { status, ..Ending::failed(upstream, false) },
    };
    reservation.settle(ending).await;
}

/// The ending of a call that was sent and whose upstream is taken to stop now, without any output. An image
/// is made whoever waits for it.
pub fn ending_of_stopped(
    reservation: &Reservation,
    request: &Request<'_>,
    upstream: Arc<str>,
    status: Status,
) -> Ending {
    if request.surface.output() == Output::Images {
        return reservation.unreported(status, Output::Images, upstream);
    }
    let prompt = reservation.exact_prompt(request);
    let counted = !request.surface.is_free();
    let reserved = reservation.reserved;
    let ending = Ending::estimated(status, (prompt, 0), reserved, upstream, None);
    let ending = ending.with_hidden(|counted| reservation.hidden_until_now(counted));
    Ending { counted, ..ending }
}

/// Reads a body to its end, into `body`, for as long as its caller waits.
pub async fn collect(
    session: &mut Session,
    exchange: &mut Exchange,
    body: &mut BytesMut,
    bounds: Bounds<'_>,
) -> Collected {
    let stopped = stopped(session, bounds.leash);
    tokio::pin!(stopped);
    loop {
        let next = tokio::select! {
            biased;
            // First, because what has come needs no timer.
            next = exchange.next() => next,
            by = &mut stopped => return Collected::Stopped(by),
        };
        match next {
            Ok(Some(bytes)) if body.len() + bytes.len() <= bounds.bytes => {
                if let Err(no_room) = bounds.held.grow(bytes.len()) {
                    return Collected::GivenUp(no_room);
                }
                body.extend_from_slice(&bytes);
            }
            Ok(Some(_)) | Err(BodyError::Idle) => {
                return Collected::GivenUp(Refusal::Upstream(UpstreamFailure::BadReply));
            }
            Ok(None) => return Collected::Body(std::mem::take(body).freeze()),
            Err(BodyError::Broken(_)) => return Collected::broken(),
        }
    }
}

/// Reads the rest of a body after its client has gone; `None` if it is broken or too large.
pub async fn read_on(
    exchange: &mut Exchange,
    mut body: BytesMut,
    most: usize,
    room: &mut Held,
) -> Option<Bytes> {
    while let Some(bytes) = exchange.next().await.ok()? {
        if body.len() + bytes.len() > most || room.grow(bytes.len()).is_err() {
            return None;
        }
        body.extend_from_slice(&bytes);
    }
    json::is_object(&body).then(|| body.freeze())
}
