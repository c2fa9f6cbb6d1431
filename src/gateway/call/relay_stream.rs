//! Relay of a stream: event by event as it comes, each shown to the meter.
//!
//! The caller receives the upstream's bytes with four exceptions: a usage chunk that it did not request is taken out;
//! one that it requested, and an end marker, are supplied where a complete reply lacks them; keep-alive comments fill
//! long silences; and an ending that is not the upstream's own says what it is. Where the upstream's surface or dialect
//! differs from the caller's, all of it is adapted. An event that would pass the reservation waits until more is
//! reserved. The charge is durable before the end marker leaves.

use crate::gateway::call::adaptation::StreamAdapter;
use crate::gateway::call::attempt;
use crate::gateway::call::cancellation::{CancelReason, Cancellation};
use crate::gateway::call::drain;
use crate::gateway::call::early_keepalive::KEEPALIVE;
use crate::gateway::call::end::{EndReason, UpstreamEnd};
use crate::gateway::call::forward::{RespondingCall, UpstreamResponse};
use crate::gateway::call::relay_body;
use crate::gateway::call::reread::StoredResponseReader;
use crate::gateway::call::stream_quota::{QuotaChange, StreamQuota};
use crate::gateway::listener::alarm::Alarm;
use crate::gateway::listener::session::Session;
use bytes::{Bytes, BytesMut};
use domain::charge::Status;
use domain::stored_response::StoredResponse;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wire::error::UpstreamError;
use wire::redact_reply::ReplyRedactor;
use wire::request::Request;
use wire::sse::{Event, Scanner};
use wire::stream_reader::{EventVerdict, StreamReader};

/// Limits of a stream.
pub struct StreamLimits {
    /// Maximum size of an event, in bytes.
    pub event_bytes: usize,
    /// Comment after this much silence; `None` = never.
    pub keepalive: Option<Duration>,
    /// Tokens that are reserved at once.
    pub slice_tokens: u64,
    /// For reading on once the caller has gone.
    pub drain: drain::DrainLimits,
}

/// A stream that is being relayed.
pub struct Stream<'a> {
    pub session: &'a mut Session,
    pub response: UpstreamResponse,
    pub request: &'a Request<'a>,
    pub cancellation: Cancellation,
    pub limits: StreamLimits,
    pub(crate) quota: StreamQuota<'a>,
    pub(crate) scanner: Scanner,
    pub(crate) events: Box<dyn StreamReader>,
    /// Passed by the meter, not yet written.
    out: BytesMut,
    /// An event that has to wait for more to be reserved.
    waiting: Option<Event>,
    /// For all that is due at some time.
    alarm: Alarm,
    /// The end marker and what came after it.
    pub(crate) last: Option<Bytes>,
    /// When the first output came.
    pub(crate) first_output_at: Option<Instant>,
    /// The error that the upstream reported.
    pub(crate) failure: Option<UpstreamError>,
    /// A write was given up half way: nothing may follow it.
    pub(crate) partial_write: bool,
    /// Set for a stored response.
    pub(crate) stored_response_reader: Option<StoredResponseReader>,
    redactor: Arc<ReplyRedactor>,
    /// Adapts what is sent to the caller; `None` if it passes as it is.
    pub(crate) adapter: Option<Box<StreamAdapter>>,
    /// The record of the stored response, once its id has arrived.
    pub(crate) stored: Option<StoredResponse>,
}

impl<'a> Stream<'a> {
    /// A stream whose head has been sent to the caller.
    #[must_use]
    pub fn new(
        session: &'a mut Session,
        responding: RespondingCall,
        request: &'a Request<'a>,
        limits: StreamLimits,
        stored_response_reader: Option<StoredResponseReader>,
    ) -> Box<Self> {
        let RespondingCall { response, reservation, cancellation } = responding;
        let scanner = Scanner::new(limits.event_bytes);
        let quota = StreamQuota::new(reservation, request, limits.slice_tokens);
        let redactor = Arc::clone(&response.client.reply_redactor);
        Box::new(Self {
            session,
            response,
            request,
            cancellation,
            limits,
            quota,
            scanner,
            events: request.surface.stream_reader(request.include_usage),
            out: BytesMut::new(),
            waiting: None,
            alarm: Alarm::default(),
            last: None,
            first_output_at: None,
            failure: None,
            partial_write: false,
            stored_response_reader,
            redactor,
            adapter: None,
            stored: None,
        })
    }

    /// Relays to the end, settles, and writes the ending. Returns how the call ended.
    pub async fn run(mut self: Box<Self>) -> Status {
        let end = self.relay().await;
        // Boxed: a stream takes the memory of its end only when it ends.
        Box::pin(self.end(end)).await
    }

    /// Ends the stream of a caller who has gone before its head was written.
    pub async fn hang_up(self: Box<Self>) -> Status {
        Box::pin(self.end(EndReason::CallerGone)).await
    }

    async fn relay(&mut self) -> EndReason {
        let mut silence = Silence::from(Instant::now());
        // The head may have waited for an event until a comment is due.
        silence.caller = self.response.head_at.into();
        loop {
            let ended = self.take_in_events();
            self.record_owner().await;
            let flushed = self.flush().await;
            match (flushed, ended) {
                (Flushed::Ended(end), _) | (_, Some(end)) => return end,
                (Flushed::Sent, None) => silence.caller = Instant::now(),
                (Flushed::Nothing, None) => {}
            }
            match self.wait(silence).await {
                Wake::Bytes => silence.upstream = Instant::now(),
                // Time spent waiting for quota is not the upstream's silence.
                Wake::QuotaChanged => silence.upstream = Instant::now(),
                Wake::KeepAliveDue => self.out.extend_from_slice(KEEPALIVE),
                Wake::End(end) => return end,
            }
        }
    }

    /// Records the owner of a stored response before its id is sent. If that fails, the caller still gets the
    /// reply, but it cannot be retrieved.
    async fn record_owner(&mut self) {
        let Some(stored_response_reader) =
            self.stored_response_reader.as_ref().filter(|_| self.stored.is_none())
        else {
            return;
        };
        let Some(id) = self.events.id() else { return };
        let reservation = self.quota.reservation();
        let stored = reservation.stored_response(id, &self.response.upstream, reservation.prompt);
        let recorded =
            stored_response_reader.corrector.owners.record(&stored, reservation.admitted_at).await;
        relay_body::log_owner(reservation.request, &recorded);
        self.stored = Some(stored);
    }

    /// Waits for the next thing that happens to this stream.
    async fn wait(&mut self, silence: Silence) -> Wake {
        // Before the upstream: bytes that are always there must not outrun the deadline.
        if Instant::now() >= self.cancellation.deadline {
            return Wake::End(EndReason::Cancelled(CancelReason::Deadline));
        }
        let blocked = self.waiting.is_some();
        let keepalive = self.limits.keepalive.map(|after| silence.caller + after);
        let idle = (!blocked).then(|| silence.upstream + self.response.exchange.idle());
        let due =
            [keepalive, idle].into_iter().flatten().fold(self.cancellation.deadline, Instant::min);
        tokio::select! {
            biased;
            reason = self.cancellation.cancelled_before_deadline() => Wake::End(EndReason::Cancelled(reason)),
            verdict = self.quota.changed(blocked) => match verdict {
                QuotaChange::Recheck => Wake::QuotaChanged,
                QuotaChange::Exhausted => Wake::End(EndReason::QuotaExhausted),
            },
            next = self.response.exchange.next_untimed(), if !blocked => match next {
                Ok(Some(bytes)) => {
                    self.scanner.push(&bytes);
                    Wake::Bytes
                }
                Ok(None) => Wake::End(self.upstream_ended()),
                Err(cut) => {
                    tracing::warn!(request_id = %self.quota.request(), error = %cut, "upstream ended the stream early");
                    Wake::End(EndReason::Upstream(UpstreamEnd::Cut("the upstream ended the stream early")))
                }
            },
            () = self.session.caller_gone() => Wake::End(EndReason::CallerGone),
            () = self.alarm.ring(due.into_std()) => match due {
                due if due == self.cancellation.deadline => Wake::End(EndReason::Cancelled(CancelReason::Deadline)),
                due if Some(due) == keepalive => Wake::KeepAliveDue,
                _ => Wake::End(EndReason::Upstream(UpstreamEnd::Cut("the upstream stopped sending"))),
            },
        }
    }

    /// Takes in every whole event there is, until one has to wait or is the last.
    fn take_in_events(&mut self) -> Option<EndReason> {
        loop {
            let event = match self.waiting.take() {
                Some(event) => event,
                None => match self.scanner.next_event() {
                    Ok(Some(event)) => match self.observe(&event) {
                        EventVerdict::Relay => event,
                        EventVerdict::Drop => continue,
                        verdict => return Some(self.last_event(&event, verdict)),
                    },
                    Ok(None) => return None,
                    Err(oversize) => {
                        tracing::warn!(request_id = %self.quota.request(), error = %oversize, "upstream stream aborted: event too large");
                        return Some(EndReason::Upstream(UpstreamEnd::Cut(
                            "the upstream sent an oversized event",
                        )));
                    }
                },
            };
            if !self.quota.covers() {
                self.waiting = Some(event);
                return None;
            }
            let clean = self.redactor.event(&event);
            self.out.extend_from_slice(clean.as_ref().unwrap_or(&event.raw));
        }
    }

    /// The event as its caller may read it.
    fn clean(&self, event: &Event) -> Bytes {
        self.redactor.event(event).unwrap_or_else(|| event.raw.clone())
    }

    /// Shows an event to the meter; says what becomes of it.
    fn observe(&mut self, event: &Event) -> EventVerdict {
        let verdict = self.events.on_event(event, &mut self.quota.meter);
        if self.first_output_at.is_none() && self.quota.meter.has_output() {
            self.first_output_at = Some(Instant::now());
        }
        verdict
    }

    /// Nothing of the upstream's follows this event.
    fn last_event(&mut self, event: &Event, verdict: EventVerdict) -> EndReason {
        let (failed, passes) = match verdict {
            EventVerdict::ReplaceError(error) => (Some(error), false),
            EventVerdict::RelayError(error) => (Some(error), true),
            _ => (None, true),
        };
        if let Some(error) = failed {
            let client = &self.response.client;
            let redacted = (*error).clone().redacted(&client.upstream().redactor());
            tracing::warn!(request_id = %self.quota.request(), fault = redacted.fault.as_str(), "upstream reported an error mid-stream");
            attempt::alert(&self.quota.reservation().services.metrics, client, redacted.fault);
            let is_unchanged = redacted == *error;
            self.failure = Some(redacted);
            if !(passes && is_unchanged) {
                return EndReason::Upstream(UpstreamEnd::Error);
            }
        }
        let mut last = BytesMut::from(&self.clean(event)[..]);
        // Some upstreams report their usage behind the end marker.
        while let Ok(Some(event)) = self.scanner.next_event() {
            if self.observe(&event) != EventVerdict::Drop {
                last.extend_from_slice(&self.clean(&event));
            }
        }
        let rest = self.scanner.rest();
        last.extend_from_slice(&self.redactor.without_key(&rest).unwrap_or(rest));
        self.last = Some(last.freeze());
        if self.failure.is_some() {
            EndReason::Upstream(UpstreamEnd::ReportedFailure)
        } else {
            EndReason::Complete
        }
    }

    /// True if nothing was delivered and the upstream reports no usage.
    pub(crate) fn is_unused(&self) -> bool {
        let meter = &self.quota.meter;
        !meter.has_output() && meter.usage().is_none()
    }

    /// True if the upstream reported a failure that the caller did not cause.
    pub(crate) fn is_blamed(&self) -> bool {
        self.failure.as_ref().is_some_and(|error| error.fault.is_retriable())
    }

    /// The upstream's body ended without its end marker: complete only if its choices had finished
    /// to.
    fn upstream_ended(&mut self) -> EndReason {
        let rest = self.scanner.last_event();
        let verdict = rest.as_ref().map_or(EventVerdict::Relay, |event| self.observe(event));
        match rest {
            Some(event) if !matches!(verdict, EventVerdict::Relay | EventVerdict::Drop) => {
                self.last_event(&event, verdict)
            }
            rest if self.events.is_finished() => {
                let rest = rest.filter(|_| verdict == EventVerdict::Relay);
                self.last = Some(rest.map(|event| self.clean(&event)).unwrap_or_default());
                EndReason::Complete
            }
            _ => EndReason::Upstream(UpstreamEnd::Cut("the upstream ended the stream early")),
        }
    }

    /// Writes what has passed. A caller who reads nothing does not keep alive what has to end.
    async fn flush(&mut self) -> Flushed {
        if self.out.is_empty() {
            return Flushed::Nothing;
        }
        let mut bytes = self.out.split().freeze();
        if let Some(adapter) = &mut self.adapter {
            bytes = adapter.push(bytes);
            if bytes.is_empty() {
                return Flushed::Nothing;
            }
        }
        tokio::select! {
            biased;
            sent = self.session.send(bytes, false) => match sent {
                Ok(()) => Flushed::Sent,
                Err(_) => Flushed::Ended(EndReason::CallerGone),
            },
            reason = self.cancellation.cancelled() => {
                self.partial_write = true;
                Flushed::Ended(EndReason::Cancelled(reason))
            }
        }
    }
}

/// The times since which the upstream and the gateway have been silent.
#[derive(Debug, Clone, Copy)]
struct Silence {
    upstream: Instant,
    caller: Instant,
}

impl From<Instant> for Silence {
    fn from(now: Instant) -> Self {
        Self { upstream: now, caller: now }
    }
}

/// The result of writing what has passed.
enum Flushed {
    /// There was nothing to send, or nothing that the caller's surface shows.
    Nothing,
    Sent,
    Ended(EndReason),
}

enum Wake {
    Bytes,
    QuotaChanged,
    KeepAliveDue,
    End(EndReason),
}
