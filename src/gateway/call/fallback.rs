//! The model that takes over a call which its own model refuses: `context_fallback` for prompts that are too long,
//! `content_fallback` for requests that content rules forbid.
//!
//! The call keeps its reservation. The fallback serves and prices it, and its ledger row names the fallback.

use crate::gateway::call::Call;
use crate::gateway::call::forward::NotForwarded;
use crate::gateway::call::reservation::Reservation;
use crate::gateway::call::route::{Wanted, route};
use crate::upstream::catalog::Model;
use std::sync::Arc;
use wire::error::Fault;

impl Call<'_> {
    /// The model that may serve a call which ended like this; `None` if there is none that its caller may use.
    pub(crate) fn fallback(
        &self,
        reservation: &Reservation,
        ended: &NotForwarded,
    ) -> Option<Arc<Model>> {
        // A timed-out upstream is charged at the price of the current model, which must not change then.
        let NotForwarded::Failed { fault: Some(fault), unheard: None, .. } = ended else {
            return None;
        };
        let fallbacks = &reservation.model.fallbacks;
        let model = match fault {
            Fault::TooLong => fallbacks.context.as_deref()?,
            Fault::Content => fallbacks.content.as_deref()?,
            _ => return None,
        };
        // What a response continues is at one upstream, for its model.
        if self.request.dependencies.previous_response.is_some() {
            return None;
        }
        let wanted = Wanted { model, surface: self.request.surface, upstream: None };
        route(&self.current.upstreams.catalog, &reservation.caller, wanted).ok()
    }
}
