//! Relays the response of an upstream to the caller: as a stream, or as one body.

use crate::gateway::Handled;
use crate::gateway::call::Call;
use crate::gateway::call::drain::UnreadResponse;
use crate::gateway::call::early_keepalive::Sent;
use crate::gateway::call::end::outcome_of_status;
use crate::gateway::call::forward::{RespondingCall, is_event_stream};
use crate::gateway::call::relay_body::{self, BodyRelay, CollectLimits};
use crate::gateway::call::relay_stream::{self, Stream};
use crate::gateway::call::reread::StoredResponseReader;
use crate::gateway::headers;
use crate::gateway::listener::session::{ResponseHead, Session};
use crate::gateway::response::budget::Budget;
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use crate::gateway::response::rejection::Rejection;
use crate::gateway::response::writer;
use bytes::Bytes;
use domain::charge::{Status, TokenCount};
use std::sync::Arc;
use std::time::Duration;
use system::clock;
use telemetry::labels::Route;

impl Call<'_> {
    /// Relays the response and settles the call. `overhead` is the gateway's own time so far.
    pub(crate) async fn relay(
        &mut self,
        session: &mut Session,
        responding: RespondingCall,
        overhead: Duration,
    ) -> Result<Handled, Rejection> {
        let exchange = &responding.response.exchange;
        let mut head = self.writer.head(200, overhead);
        headers::add_upstream_reply(&mut head, exchange);
        headers::add_clamped(&mut head, &responding.reservation);
        headers::add_stripped(&mut head, self.request, &responding.reservation);
        if self.adapter.translates() {
            headers::add_translated(&mut head, self.surface, self.request.surface);
        }
        if self.request.stream && is_event_stream(exchange) {
            Ok(Box::pin(self.relay_stream(session, head, Box::new(responding))).await)
        } else {
            Box::pin(self.relay_body(session, head, responding, overhead)).await
        }
    }

    async fn relay_stream(
        &mut self,
        session: &mut Session,
        mut head: ResponseHead,
        mut responding: Box<RespondingCall>,
    ) -> Handled {
        responding.response.exchange.drop_headers();
        responding.reservation.budget().write(&mut head);
        headers::make_stream_head(&mut head);
        let metrics = &self.gateway.services.metrics;
        metrics.streams_open.increment(1.0);
        let sent = match self.writer.sent() {
            Sent::Nothing => session.send_head(head).await.is_ok(),
            Sent::Head => true,
            Sent::Torn => false,
        };
        let bounds = self.stream_limits();
        let rereader = self.request.dependencies.is_stored.then(|| self.rereader());
        let mut stream = Stream::new(session, *responding, self.request, bounds, rereader);
        stream.adapter = std::mem::take(&mut self.adapter).into_stream();
        let status = if sent { stream.run().await } else { stream.hang_up().await };
        metrics.streams_open.decrement(1.0);
        metrics.stream_duration_seconds.record(self.writer.elapsed());
        self.handled(200, status)
    }

    async fn relay_body(
        &mut self,
        session: &mut Session,
        mut head: ResponseHead,
        responding: RespondingCall,
        overhead: Duration,
    ) -> Result<Handled, Rejection> {
        let RespondingCall { mut response, reservation, cancellation } = responding;
        let (budget, reserved) = (reservation.budget(), reservation.reserved);
        let limits = CollectLimits {
            bytes: self.current.limits.reply_bytes,
            body_permit: &mut self.body_permit,
            cancellation: &cancellation,
        };
        let (request, owners) = (self.request, &self.gateway.owners);
        let relayed =
            relay_body::relay(session, &mut response, reservation, request, limits, owners).await;
        match relayed {
            BodyRelay::Complete { body, at, tokens, charged } => {
                response.client.release(*response.exchange);
                let budget = budget.returned(reserved, !self.request.surface.is_free());
                let budget = budget.charged(charged);
                let own = overhead + clock::instant().duration_since(at);
                head.write(&writer::PROCESS_TIME, writer::Seconds(own));
                self.send_body(session, head, (body, tokens), budget).await
            }
            BodyRelay::Failed { refusal, charged, counted } => {
                let budget = budget.returned(reserved, counted).charged(charged);
                Err(Rejection::from(refusal).with_budget(budget))
            }
            BodyRelay::Stopped { by, reservation, body } => {
                let upstream = Arc::clone(&response.upstream);
                let room = self.permit_for(&body, &reservation);
                let unread = UnreadResponse::Body(Box::new(response), body, room);
                self.interrupt(*reservation, by, upstream, Some(unread)).await;
                session.close_after_reply();
                Err(Rejection::of(by))
            }
        }
    }

    /// Sends a whole reply that was charged so many tokens.
    async fn send_body(
        &self,
        session: &mut Session,
        mut head: ResponseHead,
        (body, tokens): (Bytes, TokenCount),
        budget: Budget,
    ) -> Result<Handled, Rejection> {
        let adapted = self.adapt_body(body, &tokens);
        let body = adapted.map_err(|refusal| Rejection::from(refusal).with_budget(budget))?;
        budget.write(&mut head);
        let written = self.writer.whole(session, head, body).await;
        let status = if written.is_ok() { Status::Complete } else { Status::CutByClient };
        Ok(self.handled(200, status))
    }

    /// A whole reply as the caller reads it.
    fn adapt_body(&self, body: Bytes, charged: &TokenCount) -> Result<Bytes, Refusal> {
        let adapted = self.adapter.reply(body, charged);
        adapted.map_err(|error| {
            // It is charged: the upstream has billed it.
            tracing::warn!(request_id = %self.writer.head.id, %error, "reply could not be translated");
            Refusal::Upstream(UpstreamFailure::BadReply)
        })
    }

    fn rereader(&self) -> StoredResponseReader {
        StoredResponseReader {
            corrector: self.gateway.corrector(&self.current.upstreams),
            body_memory: self.gateway.body_memory.clone(),
            reply_bytes: self.current.limits.reply_bytes,
            address: self.writer.head.address,
            drain: self.current.limits.drain,
            stop: self.gateway.shutting_down.clone(),
        }
    }

    fn stream_limits(&self) -> relay_stream::StreamLimits {
        relay_stream::StreamLimits {
            event_bytes: self.current.limits.event_bytes,
            keepalive: self.current.limits.keepalive_comment,
            slice_tokens: self.current.limits.slice_tokens,
            drain: self.drain_limits(),
        }
    }

    fn handled(&self, status: u16, recorded: Status) -> Handled {
        let route = Route::Call(self.surface);
        Handled { route, status, outcome: outcome_of_status(recorded) }
    }
}
