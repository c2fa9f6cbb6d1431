//! The end of a stream: what is still read of its upstream, the charge, and the last bytes for its caller.

use crate::gateway::call::adaptation::adapted_end;
use crate::gateway::call::cancellation::CancelReason;
use crate::gateway::call::drain::{Drain, OnSettlement, RemainingStream, SentRequest};
use crate::gateway::call::end::{EndReason, UpstreamEnd};
use crate::gateway::call::forward::UpstreamResponse;
use crate::gateway::call::relay_stream::Stream;
use crate::gateway::call::reservation::Reservation;
use crate::gateway::call::settle::Settlement;
use crate::gateway::call::stream_charge::{count_uncharged, settlement_of};
use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::RIGHT_ENDED;
use bytes::Bytes;
use domain::charge::{Source, Status, TokenCount};
use domain::stored_response::StoredResponse;
use std::sync::Arc;
use std::time::Duration;
use system::clock;
use tokio::time::Instant;
use wire::error::ErrorBody;

/// Time for the connection's task to read what has arrived.
const READ_TIMEOUT: Duration = Duration::from_millis(5);
/// Bytes that wait in a connection only if it was not read for a while: then its other end may have more.
const BACKLOG_BYTES: usize = 16 * 1024;
/// An upstream that has sent nothing for this long has no more on its way.
const CAUGHT_UP_INTERVAL: Duration = Duration::from_millis(50);
/// The time that an upstream may continue to send after its caller has gone.
const CATCH_UP_TIMEOUT: Duration = Duration::from_millis(300);

impl Stream<'_> {
    /// Settles the call, and ends the reply in the way of `end`. Returns how the call is recorded.
    pub(crate) async fn end(mut self, end: EndReason) -> Status {
        if end.is_interruption() {
            let Reservation { model, caller, .. } = self.quota.reservation();
            let sent_request = SentRequest::of(self.request, &caller.plan_limits.policy);
            if sent_request.is_read_on(model, self.response.client.upstream(), end) {
                return self.read_on(sent_request, end).await;
            }
        }
        if end == EndReason::QuotaExhausted {
            return self.end_at_quota().await;
        }
        if end.is_interruption() {
            self.catch_up().await;
        }
        if matches!(end, EndReason::Upstream(UpstreamEnd::ReportedFailure | UpstreamEnd::Cut(_)))
            || self.is_blamed()
        {
            self.response.broke_off(self.quota.reservation().caller.user);
        }
        self.settle_and_close(end).await
    }

    /// Settles what was metered, then writes the last bytes.
    async fn settle_and_close(mut self, end: EndReason) -> Status {
        // Nothing was delivered, so nothing is charged.
        let is_free =
            matches!(end, EndReason::Upstream(UpstreamEnd::ReportedFailure | UpstreamEnd::Error))
                && self.is_unused();
        let status = if is_free { Status::Failed } else { end.status() };
        let upstream = Arc::clone(&self.response.upstream);
        let first = self.first_output_at.map(Instant::into_std);
        let settlement = match status {
            Status::Failed => Settlement::failed(upstream, false),
            _ => settlement_of(end, &mut self.quota, upstream, first).await,
        };
        let last_bytes = self.last_bytes(end, &settlement.tokens);
        count_uncharged(&mut self.quota, (&mut self.scanner, &mut *self.events), &settlement);
        let charged = (end == EndReason::Complete).then_some(&settlement.tokens);
        let last_bytes = adapted_end(self.adapter.take(), last_bytes, charged);
        let on_settlement = self.on_settlement();
        let Self { session, response, quota, partial_write, .. } = self;
        let reservation = quota.into_reservation();
        let tasks = reservation.tasks();
        on_settlement(&settlement);
        // An upstream that has more to say is cancelled before anyone is waited for.
        let finished =
            matches!(end, EndReason::Complete | EndReason::Upstream(UpstreamEnd::ReportedFailure))
                .then_some(response);
        reservation.settle(settlement).await;
        if finished.is_none() {
            session.close_after_reply();
        }
        close(session, end, partial_write, last_bytes).await;
        if let Some(response) = finished {
            tasks.spawn(recycle(response));
        }
        status
    }

    /// Meters what the upstream has sent by now, and reserves what exceeds the reservation. Otherwise a caller who
    /// reads slowly, or not at all, would not be charged for what waits in the upstream connection.
    async fn catch_up(&mut self) {
        let (meter, events) = (&mut self.quota.meter, &mut self.events);
        let began = clock::instant();
        let (read_until, until, mut backlog) = (began + READ_TIMEOUT, began + CATCH_UP_TIMEOUT, 0);
        // Until an event is too large to be read.
        while let Ok(next) = self.scanner.next_event() {
            if let Some(event) = next {
                let _ = events.on_event(&event, meter);
                continue;
            }
            let patience = if backlog < BACKLOG_BYTES {
                read_until.saturating_duration_since(clock::instant())
            } else {
                CAUGHT_UP_INTERVAL
            };
            let next = tokio::time::timeout(patience, self.response.exchange.next_untimed());
            let Ok(Ok(Some(bytes))) = tokio::task::unconstrained(next).await else { break };
            backlog += bytes.len();
            self.scanner.push(&bytes);
            if clock::instant() >= until {
                break;
            }
        }
        self.quota.reserve_shown().await;
    }

    /// Ends a stream that finds no more quota.
    async fn end_at_quota(mut self) -> Status {
        let (end, on_settlement) = (EndReason::QuotaExhausted, self.on_settlement());
        let adapter = self.adapter.take();
        let Self { session, response, mut quota, mut scanner, mut events, .. } = self;
        let upstream = Arc::clone(&response.upstream);
        // Further output is not charged, and counting takes time.
        drop(response);
        let first = self.first_output_at.map(Instant::into_std);
        let settlement = settlement_of(end, &mut quota, upstream, first).await;
        let last_bytes = adapted_end(adapter, events.length_cut(&settlement.tokens), None);
        count_uncharged(&mut quota, (&mut scanner, &mut *events), &settlement);
        on_settlement(&settlement);
        quota.into_reservation().settle(settlement).await;
        close(session, end, false, last_bytes).await;
        end.status()
    }

    /// Ends the stream for its caller, while the upstream is read on for what it bills.
    async fn read_on(mut self, sent_request: SentRequest, end: EndReason) -> Status {
        let status = end.status();
        let last_bytes = self.last_bytes(end, &TokenCount::default());
        let last_bytes = adapted_end(self.adapter.take(), last_bytes, None);
        let on_settlement = self.on_settlement();
        let Self { session, response, quota, scanner, events, limits, partial_write, .. } = self;
        let upstream = Arc::clone(&response.upstream);
        let first_output_at = self.first_output_at.map(Instant::into_std);
        let quota = quota.detached();
        let rest = RemainingStream { response, quota, scanner, events, first_output_at };
        Drain { sent_request, status, upstream, limits: limits.drain }
            .spawn_stream(rest, on_settlement);
        session.close_after_reply();
        close(session, end, partial_write, last_bytes).await;
        status
    }

    /// Records what a stored response was charged, and whether that is still an estimate.
    fn on_settlement(&mut self) -> OnSettlement {
        let (Some(stored), Some(stored_response_reader)) =
            (self.stored.take(), self.stored_response_reader.take())
        else {
            return Box::new(|_| {});
        };
        let reservation = self.quota.reservation();
        let (tasks, now) = (reservation.tasks(), reservation.admitted_at);
        Box::new(move |settlement| {
            let unsettled = stored.unsettled.filter(|_| settlement.source == Source::Estimated);
            let stored = StoredResponse { tokens: settlement.tokens.total(), unsettled, ..stored };
            tasks.spawn(async move {
                let _ = stored_response_reader.corrector.owners.record(&stored, now).await;
                stored_response_reader.read(stored, now).await;
            });
        })
    }

    /// The last bytes of the response; `tokens` are those charged.
    fn last_bytes(&mut self, end: EndReason, tokens: &TokenCount) -> Bytes {
        match end {
            EndReason::Complete => {
                let last = self.last.take().unwrap_or_default();
                self.events.missing_end(tokens).complete(last)
            }
            EndReason::Upstream(UpstreamEnd::ReportedFailure) => {
                self.last.take().unwrap_or_default()
            }
            EndReason::CallerGone => Bytes::new(),
            // It ends elsewhere.
            EndReason::QuotaExhausted => self.events.length_cut(tokens),
            EndReason::Cancelled(CancelReason::AccessRevoked) => {
                self.in_band(RIGHT_ENDED, "access_revoked")
            }
            EndReason::Cancelled(CancelReason::Shutdown) => {
                self.incomplete("the gateway is shutting down")
            }
            EndReason::Cancelled(CancelReason::Deadline) => {
                self.incomplete("the call exceeded the maximum duration")
            }
            EndReason::Upstream(UpstreamEnd::Cut(why)) => self.incomplete(why),
            EndReason::Upstream(UpstreamEnd::Error) => match self.failure.take() {
                Some(error) => self.events.error(&error.in_stream()),
                None => self.incomplete("the upstream reported an error"),
            },
        }
    }

    fn incomplete(&mut self, why: &str) -> Bytes {
        self.in_band(&format!("The response is incomplete: {why}."), "upstream_cut")
    }

    fn in_band(&mut self, message: &str, code: &'static str) -> Bytes {
        self.events.error(&ErrorBody {
            message: message.to_owned(),
            kind: "server_error",
            code: Some(code.into()),
            param: None,
            details: None,
        })
    }
}

/// Writes the last bytes, and ends the response.
async fn close(session: &mut Session, end: EndReason, partial_write: bool, last_bytes: Bytes) {
    if end == EndReason::CallerGone || partial_write {
        // What was written may end in the middle of a chunk: nothing may follow it.
        return session.abort();
    }
    let sent = session.send(last_bytes, !end.is_cut()).await;
    if sent.is_ok() && end.is_cut() {
        session.cut_off().await;
    }
}

/// Reads what is left of a finished reply, so that its connection can serve another call.
async fn recycle(mut response: UpstreamResponse) {
    const RECYCLE_TIMEOUT: Duration = Duration::from_secs(1);
    let drained = async { while let Ok(Some(_)) = response.exchange.next().await {} };
    if tokio::time::timeout(RECYCLE_TIMEOUT, drained).await.is_ok() {
        response.client.release(*response.exchange);
    }
}
