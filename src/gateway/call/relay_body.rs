//! Relay of a reply that comes in one piece: read to its end, settled, then sent as it came.

use crate::gateway::call::body_memory::BodyPermit;
use crate::gateway::call::cancellation::{CancelReason, Cancellation};
use crate::gateway::call::drain::SentRequest;
use crate::gateway::call::end::EndReason;
use crate::gateway::call::forward::{UpstreamResponse, stopped};
use crate::gateway::call::reservation::Reservation;
use crate::gateway::call::settle::Settlement;
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::response_owners::{DEFERRED_LIFETIME, ResponseOwners, Unknown};
use crate::upstream::catalog::Upstream;
use crate::upstream::client::{BodyError, Exchange};
use bytes::{Bytes, BytesMut};
use domain::charge::{Source, Status, TokenCount};
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

/// The result of relaying a whole response.
pub enum BodyRelay {
    /// The reply is complete (since `at`) and settled, for `tokens`, and for `charged` tokens of the daily limits; it
    /// may be sent.
    Complete { body: Bytes, at: Instant, tokens: TokenCount, charged: u64 },
    /// The reply was broken or an error in disguise, and settled for `charged` tokens of the daily limits. It is
    /// `counted` if it counts against requests per day.
    Failed { refusal: Refusal, charged: u64, counted: bool },
    /// The client has gone; this much of the body has arrived, and nothing is settled.
    Stopped { by: EndReason, reservation: Box<Reservation>, body: BytesMut },
}

/// A reply's body, or why there is none.
pub enum CollectedBody {
    /// All of it, whatever it is.
    Body(Bytes),
    /// The upstream failed.
    Broken(Refusal),
    /// It was given up: the upstream may have made it, and bill it.
    GivenUp(Refusal),
    Stopped(EndReason),
}

impl CollectedBody {
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

/// Limits of a whole response.
pub struct CollectLimits<'a> {
    /// Maximum size, in bytes.
    pub bytes: usize,
    pub body_permit: &'a mut BodyPermit,
    pub cancellation: &'a Cancellation,
}

/// Reads and settles a reply. The charge is durable before the caller can have seen the answer.
pub async fn relay(
    session: &mut Session,
    response: &mut UpstreamResponse,
    mut reservation: Reservation,
    request: &Request<'_>,
    limits: CollectLimits<'_>,
    owners: &ResponseOwners,
) -> BodyRelay {
    let mut body = BytesMut::new();
    let mut meter = Meter::default();
    let collected = match collect(session, &mut response.exchange, &mut body, limits).await {
        CollectedBody::Body(body) if !request.surface.read_reply(&body, &mut meter) => {
            CollectedBody::broken()
        }
        collected => collected,
    };
    if let CollectedBody::Broken(Refusal::Upstream(_))
    | CollectedBody::GivenUp(Refusal::Upstream(_)) = &collected
    {
        response.broke_off(reservation.caller.user);
    }
    let upstream = Arc::clone(&response.upstream);
    match collected {
        CollectedBody::Body(body) => match UpstreamError::in_reply(&body) {
            Some(error) => settle_error(response, reservation, request, &body, error).await,
            None => settle_complete(response, reservation, request, (body, meter), owners).await,
        },
        CollectedBody::Broken(refusal) => {
            failed(reservation, Settlement::failed(upstream, false), refusal).await
        }
        CollectedBody::GivenUp(refusal) => {
            let sent_request = SentRequest::of(request, &reservation.caller.plan_limits.policy);
            let settlement = settlement_of_given_up(&mut reservation, sent_request, upstream).await;
            failed(reservation, settlement, refusal).await
        }
        CollectedBody::Stopped(by) => {
            BodyRelay::Stopped { by, reservation: Box::new(reservation), body }
        }
    }
}

/// Settles a complete response, once the owner of what the upstream stores is recorded.
async fn settle_complete(
    response: &UpstreamResponse,
    reservation: Reservation,
    request: &Request<'_>,
    (body, meter): (Bytes, Meter),
    owners: &ResponseOwners,
) -> BodyRelay {
    let at = clock::instant();
    let replied = (&body[..], meter, Arc::clone(&response.upstream), response.head_at);
    let sent_request = SentRequest::of(request, &reservation.caller.plan_limits.policy);
    let prompt = || reservation.exact_prompt(request);
    let settlement = settlement_of(&sent_request, &reservation, replied, prompt);
    if let Err(refusal) = record_owner(request, &reservation, &settlement, &body, owners).await {
        let settlement = Settlement::failed(settlement.upstream, false);
        return failed(reservation, settlement, refusal).await;
    }
    let (tokens, charged) = (settlement.tokens, reservation.counted_tokens(&settlement));
    reservation.settle(settlement).await;
    // An answer may have an error beside it, or the key within.
    let body = response.client.reply_redactor.body(body);
    BodyRelay::Complete { body, at, tokens, charged }
}

/// Settles a response that is an error, and turns it into a refusal.
async fn settle_error(
    response: &UpstreamResponse,
    reservation: Reservation,
    request: &Request<'_>,
    body: &[u8],
    error: UpstreamError,
) -> BodyRelay {
    let error = error.redacted(&response.client.upstream().redactor());
    if error.fault.is_retriable() {
        response.broke_off(reservation.caller.user);
    }
    let upstream = Arc::clone(&response.upstream);
    let settlement = settlement_of_error(request, body, upstream, response.head_at);
    let refusal = Refusal::Upstream(UpstreamFailure::ErrorResponse {
        status: error.status,
        body: error.body,
        retry_after: None,
    });
    failed(reservation, settlement, refusal).await
}

async fn failed(reservation: Reservation, settlement: Settlement, refusal: Refusal) -> BodyRelay {
    let (charged, counted) = (reservation.counted_tokens(&settlement), settlement.counted);
    reservation.settle(settlement).await;
    BodyRelay::Failed { refusal, charged, counted }
}

/// The settlement of a response that the gateway abandons although its upstream may generate, and bill, all of it:
/// charged like one whose caller has gone and that was not read to its end in time.
pub async fn settlement_of_given_up(
    reservation: &mut Reservation,
    sent_request: SentRequest,
    upstream: Arc<str>,
) -> Settlement {
    if sent_request.surface.is_free() {
        return Settlement::failed(upstream, false);
    }
    reservation.reserve_generated().await;
    reservation.unreported(Status::CutByUpstream, sent_request.surface.output(), upstream)
}

/// The settlement of a call that `upstream` took and did not respond to in time: charged as if its client had
/// disconnected then.
pub async fn settlement_of_unheard(
    reservation: &mut Reservation,
    request: &Request<'_>,
    upstream: &Upstream,
) -> Settlement {
    let sent_request = SentRequest::of(request, &reservation.caller.plan_limits.policy);
    let (name, by) = (Arc::clone(&upstream.name), EndReason::Cancelled(CancelReason::Deadline));
    if sent_request.is_read_on(&reservation.model, upstream, by) {
        return settlement_of_given_up(reservation, sent_request, name).await;
    }
    settlement_of_stopped(reservation, request, name, by.status())
}

/// The settlement of a response that is an error: nothing is charged, unless the upstream reports usage all the same.
fn settlement_of_error(
    request: &Request<'_>,
    body: &[u8],
    upstream: Arc<str>,
    head_at: Instant,
) -> Settlement {
    match reported_in(request.surface, body) {
        Some(usage) => Settlement::reported(Status::CutByUpstream, usage, upstream, Some(head_at)),
        None => Settlement::failed(upstream, false),
    }
}

/// The usage that a whole reply reports, whatever else it says; `None` where that is nothing.
pub fn reported_in(surface: Surface, body: &[u8]) -> Option<Usage> {
    let mut meter = Meter::default();
    surface.read_reply(body, &mut meter);
    meter.usage().filter(|usage| usage.tokens.total() > 0)
}

/// The settlement of a complete response that `meter` has read: as reported, or counted, with the prompt as `prompt`
/// counts it.
pub fn settlement_of(
    sent_request: &SentRequest,
    reservation: &Reservation,
    (body, mut meter, upstream, head_at): (&[u8], Meter, Arc<str>, Instant),
    prompt: impl Fn() -> u64,
) -> Settlement {
    let (model, first) = (&reservation.model, Some(head_at));
    if sent_request.is_deferred && sent_request.surface.id_of(body).is_some() {
        return settlement_of_deferred(Status::Complete, reservation, upstream, first);
    }
    let mut settlement = match meter.reported(&prompt) {
        Some(usage) => Settlement::reported(Status::Complete, usage, upstream, first),
        None => {
            let counted = (prompt(), meter.output_counted());
            Settlement::estimated(Status::Complete, counted, u64::MAX, upstream, first)
        }
    };
    settlement = settlement.with_hidden(|counted| reservation.hidden_beside(counted));
    let images = meter.images();
    // A prompt that is reported without output is no measure of the images.
    if images > 0 && settlement.tokens.completion + settlement.tokens.reasoning == 0 {
        settlement.tokens.completion = images.saturating_mul(model.image_tokens);
        if settlement.cost_ticks.is_none() {
            settlement.source = Source::Estimated;
        }
        let price = i64::try_from(images.saturating_mul(model.image_ticks)).unwrap_or(i64::MAX);
        settlement.cost_ticks = settlement.cost_ticks.or(Some(price));
    }
    settlement.counted = !sent_request.surface.is_free();
    settlement
}

/// What a deferred completion is charged until it is fetched: all that was reserved for it. The upstream makes it
/// whether it is fetched or not, and reports what it used only then.
pub fn settlement_of_deferred(
    status: Status,
    reservation: &Reservation,
    upstream: Arc<str>,
    first: Option<Instant>,
) -> Settlement {
    let reserved = reservation.reserved;
    Settlement::estimated(status, (reservation.prompt, reserved), reserved, upstream, first)
}

/// Records the owner of a stored response before its id is sent. If that fails, the caller still gets the reply,
/// but it cannot be retrieved; a deferred reply consists of its id alone, so it is refused.
async fn record_owner(
    request: &Request<'_>,
    reservation: &Reservation,
    settlement: &Settlement,
    body: &[u8],
    owners: &ResponseOwners,
) -> Result<(), Refusal> {
    if !request.dependencies.is_stored {
        return Ok(());
    }
    let Some(id) = request.surface.id_of(body) else { return Ok(()) };
    let mut stored =
        reservation.stored_response(&id, &settlement.upstream, settlement.tokens.total());
    if request.dependencies.is_deferred {
        stored.expires_at = reservation.admitted_at + DEFERRED_LIFETIME;
    } else if settlement.source == Source::Reported {
        stored.unsettled = None;
    }
    let recorded = owners.record(&stored, reservation.admitted_at).await;
    log_owner(reservation.request, &recorded);
    let is_lost = request.dependencies.is_deferred && !matches!(recorded, Ok(true));
    if is_lost { Err(Refusal::RepliesUnavailable) } else { Ok(()) }
}

/// Logs that a reply has no owner, where it has none.
pub fn log_owner(request: RequestId, recorded: &Result<bool, Unknown>) {
    match recorded {
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
/// the hidden tokens that can have been generated by now are charged, unless nothing of `sent` can have reached the
/// upstream. A call that ends because the gateway does is charged nothing: its caller has no part in that, and had
/// no answer.
pub async fn settle_stopped(
    reservation: Reservation,
    sent: Option<&Request<'_>>,
    upstream: Arc<str>,
    by: EndReason,
) {
    if by == EndReason::Cancelled(CancelReason::Shutdown) {
        if sent.is_some() {
            let (request_id, reserved_tokens) = (reservation.request, reservation.reserved);
            tracing::warn!(%request_id, reserved_tokens, "call aborted by shutdown is not charged, but the upstream may bill it");
        }
        return reservation.settle(Settlement::failed(upstream, false)).await;
    }
    let status = by.status();
    let settlement = match sent {
        Some(request) => settlement_of_stopped(&reservation, request, upstream, status),
        None => Settlement { status, ..Settlement::failed(upstream, false) },
    };
    reservation.settle(settlement).await;
}

/// The settlement of a call that was sent and whose upstream is assumed to stop now, without any output. An image
/// is made whoever waits for it.
pub fn settlement_of_stopped(
    reservation: &Reservation,
    request: &Request<'_>,
    upstream: Arc<str>,
    status: Status,
) -> Settlement {
    if request.surface.output() == Output::Images {
        return reservation.unreported(status, Output::Images, upstream);
    }
    let prompt = reservation.exact_prompt(request);
    let counted = !request.surface.is_free();
    let reserved = reservation.reserved;
    let settlement = Settlement::estimated(status, (prompt, 0), reserved, upstream, None);
    let settlement = settlement.with_hidden(|counted| reservation.hidden_until_now(counted));
    Settlement { counted, ..settlement }
}

/// Reads a body to its end, into `body`, for as long as its caller waits.
pub async fn collect(
    session: &mut Session,
    exchange: &mut Exchange,
    body: &mut BytesMut,
    limits: CollectLimits<'_>,
) -> CollectedBody {
    let stopped = stopped(session, limits.cancellation);
    tokio::pin!(stopped);
    loop {
        let next = tokio::select! {
            biased;
            // First, because what has come needs no timer.
            next = exchange.next() => next,
            by = &mut stopped => return CollectedBody::Stopped(by),
        };
        match next {
            Ok(Some(bytes)) if body.len() + bytes.len() <= limits.bytes => {
                if let Err(no_room) = limits.body_permit.grow(bytes.len()) {
                    return CollectedBody::GivenUp(no_room);
                }
                body.extend_from_slice(&bytes);
            }
            Ok(Some(_)) | Err(BodyError::Idle) => {
                return CollectedBody::GivenUp(Refusal::Upstream(UpstreamFailure::BadReply));
            }
            Ok(None) => return CollectedBody::Body(std::mem::take(body).freeze()),
            Err(BodyError::Broken(_)) => return CollectedBody::broken(),
        }
    }
}

/// Reads the rest of a body after its client has gone; `None` if it is broken or too large.
pub async fn read_on(
    exchange: &mut Exchange,
    mut body: BytesMut,
    most: usize,
    room: &mut BodyPermit,
) -> Option<Bytes> {
    while let Some(bytes) = exchange.next().await.ok()? {
        if body.len() + bytes.len() > most || room.grow(bytes.len()).is_err() {
            return None;
        }
        body.extend_from_slice(&bytes);
    }
    json::is_object(&body).then(|| body.freeze())
}
