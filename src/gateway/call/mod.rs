//! One metered call, whatever its surface: [`Gateway::handle`] is its path from request to ledger row.

pub mod authenticate;
pub mod read_body;
pub mod body_memory;
pub mod exhausted_users;
pub mod previous_response;
pub mod route;
pub mod prompt_count;
pub mod admission;
pub mod admission_queue;
pub mod reserve;
pub mod reservation;
pub mod length_estimate;
pub mod reasoning_estimate;
pub mod hidden_tokens;
pub mod histogram;
pub mod cancellation;
pub mod end;
pub mod early_keepalive;
pub mod forward;
pub mod fallback;
pub mod attempt;
mod attempt_state;
mod beginning;
pub mod response_prefix;
pub mod relay;
pub mod relay_body;
pub mod relay_stream;
pub mod stream_quota;
pub mod stream_charge;
pub mod stream_finish;
pub mod services;
pub mod settle;
mod finish_on_drop;
pub mod interruption;
pub mod drain;
pub mod correction;
pub mod reread;
pub mod adaptation;

use crate::gateway::listener::session::Session;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::rejection::Rejection;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::routes::token_count::is_counted_upstream;
use crate::gateway::{Gateway, Handled, RoutingSnapshot};
use adaptation::ReplyAdapter;
use body_memory::BodyPermit;
use domain::caller::Caller;
use std::sync::Arc;
use wire::request::Request;
use wire::surface::Surface;

/// The context that every step of a call shares.
pub(crate) struct Call<'a> {
    pub gateway: &'a Gateway,
    pub writer: &'a ResponseWriter<'a>,
    pub current: &'a RoutingSnapshot,
    /// The caller's surface.
    pub surface: Surface,
    /// The request as the upstream receives it, on its surface.
    pub request: &'a Request<'a>,
    /// Adapts the reply to the caller.
    pub adapter: ReplyAdapter,
    /// The memory of its bodies.
    pub body_permit: BodyPermit,
}

impl Gateway {
    /// Handles one call. A refusal shows the caller's remaining budget.
    pub(crate) async fn call(
        &self,
        surface: Surface,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Handled, Rejection> {
        if self.shutting_down.is_cancelled() {
            return Err(Refusal::ShuttingDown.into());
        }
        let caller = self.authenticate(session, writer).await?;
        let rejection = match self.handle(surface, &caller, session, writer).await {
            Ok(handled) => return Ok(handled),
            Err(rejection) => rejection,
        };
        self.exhausted_users.record(caller.user, &rejection);
        Err(self.with_remaining_budget(rejection, &caller, writer.head.admitted_at).await)
    }

    /// The path of a call after authentication. Each step is a file of this folder; large ones are boxed, so that
    /// they take memory only while they run.
    async fn handle(
        &self,
        surface: Surface,
        caller: &Arc<Caller>,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
    ) -> Result<Handled, Rejection> {
        let current = self.current();
        let (body, mut body_permit) =
            self.read_body(surface, caller, session, writer, &current).await?;
        let original = read_body::parse(surface, &body)?;
        if surface == Surface::CountTokens
            && !is_counted_upstream(&current.upstreams.catalog, &original.model)
        {
            return Box::pin(self.count_tokens(&body, caller, session, writer)).await;
        }
        let model = (&current.upstreams.catalog, &**caller);
        let for_upstream =
            adaptation::adapt(&original, &body, model, writer.head, &mut body_permit)?;
        let (mut request, adapter) = match &for_upstream {
            Some(adapted) => (adapted.request()?, adapted.reply.clone()),
            None => (original, ReplyAdapter::default()),
        };
        let previous = self.previous_response(caller, &mut request, session, writer).await?;
        let pinned = previous.as_ref().map(|response| &*response.upstream);
        let mut cancellation = self.cancellation(caller, writer, &current, request.stream);
        let model = current.upstreams.catalog.model(&request.model);
        let may_fail_over = model.is_some_and(|model| model.routes.len() > 1);
        cancellation.early =
            early_keepalive::schedule(writer, &current.limits, request.stream, may_fail_over);
        let (current, request) = (&*current, &request);
        let mut call =
            Call { gateway: self, writer, current, surface, request, adapter, body_permit };
        let reservation = Box::pin(call.admit(session, &cancellation, caller, pinned)).await?;
        let overhead = writer.elapsed().saturating_sub(reservation.waited);
        self.services.metrics.request_overhead_seconds.record(overhead);
        let responding = Box::pin(call.forward(session, reservation, cancellation)).await?;
        call.relay(session, responding, overhead).await
    }
}
