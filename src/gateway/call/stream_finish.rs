//! The end of a stream: what is still read of its upstream, the charge, and the last bytes for its caller.

use crate::gateway::call::admit::Reservation;
use crate::gateway::call::cancellation::Pulled;
use crate::gateway::call::drain::{Asked, Drain, OnEnding, StreamRest};
use crate::gateway::call::forward::Forwarded;
use crate::gateway::call::relay_stream::Stream;
use crate::gateway::call::settle::Ending;
use crate::gateway::call::stream_charge::{count_uncharged, ending_of};
use crate::gateway::call::stream_end::{End, close};
use crate::gateway::response::refusal::RIGHT_ENDED;
use bytes::Bytes;
use domain::charge::{Source, Status, TokenCount};
use domain::stored_response::StoredResponse;
use std::sync::Arc;
use std::time::Duration;
use system::clock;
use tokio::time::Instant;
use wire::error::ErrorBody;

/// Bytes that wait in a connection only if it was not read for a while: then its other end may have more.
const BACKLOG: usize = 16 * 1024;
/// An upstream that has sent nothing for this long has no more on its way.
const CAUGHT_UP: Duration = Duration::from_millis(50);
/// How long one may go on sending, for a caller who has gone.
const CATCH_UP: Duration = Duration::from_millis(300);

impl Stream<'_> {
    /// Settles the call, and ends the reply in the way of `end`. Returns how the call is recorded.
    pub(crate) async fn end(mut self, end: End) -> Status {
        // Nothing was delivered, so nothing is charged.
        let is_free = matches!(end, End::Failed | End::UpstreamError) && self.is_unused();
        let status = if is_free { Status::Failed } else { end.status() };
        if let Some(by) = end.stop() {
            let Reservation { model, caller, .. } = self.allowance.reservation();
            let asked = Asked::of(self.request, &caller.plan_limits.policy);
            if asked.is_read_on(model, self.forwarded.pool.upstream(), by) {
                return self.read_on(asked, end).await;
            }
        }
        if end == End::QuotaReached {
            return self.end_at_quota().await;
        }
        if end.stop().is_some() {
            self.catch_up().await;
        }
        if matches!(end, End::Failed | End::UpstreamCut(_)) || self.is_blamed() {
            self.forwarded.broke_off(self.allowance.reservation().caller.user);
        }
        let upstream = Arc::clone(&self.forwarded.upstream);
        let first = self.first_output_at.map(Instant::into_std);
        let ending = match status {
            Status::Failed => Ending::failed(upstream, false),
            _ => ending_of(end, &mut self.allowance, upstream, first).await,
        };
        let ending_bytes = self.ending_bytes(end, &ending.tokens);
        count_uncharged(&mut self.allowance, (&mut self.scanner, &mut *self.follow), &ending);
        let on_ending = self.on_ending();
        let Self { session, forwarded, allowance, torn, .. } = self;
        let reservation = allowance.into_reservation();
        let tasks = reservation.tasks();
        on_ending(&ending);
        // An upstream that has more to say is cancelled before anyone is waited for.
        let finished = matches!(end, End::Complete | End::Failed).then_some(forwarded);
        reservation.settle(ending).await;
        if finished.is_none() {
            session.close_after_reply();
        }
        close(session, end, torn, ending_bytes).await;
        if let Some(forwarded) = finished {
            tasks.spawn(recycle(forwarded));
        }
        status
    }

    /// Meters what the upstream has sent by now, and reserves what exceeds the reservation. Otherwise a caller who
    /// reads slowly, or not at all, would not be charged for what waits in the upstream connection.
    async fn catch_up(&mut self) {
        let (meter, follow) = (&mut self.allowance.meter, &mut self.follow);
        let (until, mut backlog) = (clock::instant() + CATCH_UP, 0);
        // Until an event is too large to be read.
        while let Ok(next) = self.scanner.next_event() {
            if let Some(event) = next {
                let _ = follow.on_event(&event, meter);
                continue;
            }
            let patience = if backlog < BACKLOG { Duration::ZERO } else { CAUGHT_UP };
            let next = tokio::time::timeout(patience, self.forwarded.exchange.next_untimed());
            let Ok(Ok(Some(bytes))) = tokio::task::unconstrained(next).await else { break };
            backlog += bytes.len();
            self.scanner.push(&bytes);
            if clock::instant() >= until {
                break;
            }
        }
        self.allowance.reserve_shown().await;
    }

    /// Ends a stream that finds no more quota.
    async fn end_at_quota(mut self) -> Status {
        let (end, on_ending) = (End::QuotaReached, self.on_ending());
        let Self { session, forwarded, mut allowance, mut scanner, mut follow, .. } = self;
        let upstream = Arc::clone(&forwarded.upstream);
        // Further output is not charged, and counting takes time.
        drop(forwarded);
        let first = self.first_output_at.map(Instant::into_std);
        let ending = ending_of(end, &mut allowance, upstream, first).await;
        let ending_bytes = follow.length_cut(&ending.tokens);
        count_uncharged(&mut allowance, (&mut scanner, &mut *follow), &ending);
        on_ending(&ending);
        allowance.into_reservation().settle(ending).await;
        close(session, end, false, ending_bytes).await;
        end.status()
    }

    /// Ends the stream for its caller, while the upstream is read on for what it bills.
    async fn read_on(mut self, asked: Asked, end: End) -> Status {
        let status = end.status();
        let ending_bytes = self.ending_bytes(end, &TokenCount::default());
        let on_ending = self.on_ending();
        let Self { session, forwarded, allowance, scanner, follow, bounds, torn, .. } = self;
        let upstream = Arc::clone(&forwarded.upstream);
        let first_output_at = self.first_output_at.map(Instant::into_std);
        let allowance = allowance.detached();
        let rest = StreamRest { forwarded, allowance, scanner, follow, first_output_at };
        Drain { asked, status, upstream, bounds: bounds.drain }.spawn_stream(rest, on_ending);
        session.close_after_reply();
        close(session, end, torn, ending_bytes).await;
        status
    }

    /// Records what a stored response was charged, and whether that is still an estimate.
    fn on_ending(&mut self) -> OnEnding {
        let (Some(kept), Some(rereader)) = (self.kept.take(), self.rereader.take()) else {
            return Box::new(|_| {});
        };
        let reservation = self.allowance.reservation();
        let (tasks, now) = (reservation.tasks(), reservation.admitted_at);
        Box::new(move |ending| {
            let unsettled = kept.unsettled.filter(|_| ending.source == Source::Estimated);
            let kept = StoredResponse { tokens: ending.tokens.total(), unsettled, ..kept };
            tasks.spawn(async move {
                let _ = rereader.corrector.owners.record(&kept, now).await;
                rereader.read(kept, now).await;
            });
        })
    }

    /// What the caller reads last; `tokens` are what it is charged.
    fn ending_bytes(&mut self, end: End, tokens: &TokenCount) -> Bytes {
        match end {
            End::Complete | End::Failed => self.last.take().unwrap_or_default(),
            End::CallerGone => Bytes::new(),
            // It ends elsewhere.
            End::QuotaReached => self.follow.length_cut(tokens),
            End::Pulled(Pulled::RightEnded) => self.in_band(RIGHT_ENDED, "access_revoked"),
            End::Pulled(Pulled::ShuttingDown) => self.incomplete("the gateway is shutting down"),
            End::Pulled(Pulled::TooLong) => {
                self.incomplete("the call exceeded the maximum duration")
            }
            End::UpstreamCut(why) => self.incomplete(why),
            End::UpstreamError => match self.failure.take() {
                Some(error) => self.follow.error(&error.in_stream()),
                None => self.incomplete("the upstream reported an error"),
            },
        }
    }

    fn incomplete(&mut self, why: &str) -> Bytes {
        self.in_band(&format!("The response is incomplete: {why}."), "upstream_cut")
    }

    fn in_band(&mut self, message: &str, code: &'static str) -> Bytes {
        self.follow.error(&ErrorBody {
            message: message.to_owned(),
            kind: "server_error",
            code: Some(code.into()),
            param: None,
        })
    }
}

/// Reads what is left of a finished reply, so that its connection can serve another call.
async fn recycle(mut forwarded: Forwarded) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let drained = async { while let Ok(Some(_)) = forwarded.exchange.next().await {} };
    if tokio::time::timeout(PATIENCE, drained).await.is_ok() {
        forwarded.pool.release(*forwarded.exchange);
    }
}
