//! A request that ends without a response of its own: it is refused, or its caller has gone.

use crate::gateway::call::end::{CALLER_GONE, EndReason, outcome_of_http};
use crate::gateway::listener::session::Session;
use crate::gateway::response::budget::Budget;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, Handled};
use domain::caller::Caller;
use jiff::Timestamp;
use telemetry::labels::Route;

/// The reason that a request has no response of its own.
#[derive(Debug)]
pub enum Rejection {
    /// The caller is sent a refusal, with its remaining budget where that is known.
    Refused { refusal: Refusal, budget: Option<Budget> },
    /// The caller has disconnected: nothing can be sent.
    CallerGone,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { refusal, budget: None }
    }
}

impl Rejection {
    /// For a request that ended before anything of its response was sent.
    #[must_use]
    pub fn of(end: EndReason) -> Self {
        end.refusal().map_or(Self::CallerGone, Self::from)
    }

    /// The same, with the caller's remaining budget.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        match self {
            Self::Refused { refusal, .. } => Self::Refused { refusal, budget: Some(budget) },
            Self::CallerGone => Self::CallerGone,
        }
    }
}

impl Gateway {
    /// Adds the caller's remaining budget to a refusal that has none.
    pub(crate) async fn with_remaining_budget(
        &self,
        rejection: Rejection,
        caller: &Caller,
        now: Timestamp,
    ) -> Rejection {
        match rejection {
            Rejection::Refused { refusal: Refusal::QuotaUnavailable, .. }
            | Rejection::Refused { budget: Some(_), .. }
            | Rejection::CallerGone => rejection,
            Rejection::Refused { refusal, budget: None } => {
                let budget = self.budget(caller, now).await.ok();
                Rejection::Refused { refusal, budget }
            }
        }
    }

    /// Sends the refusal, if there is still a caller.
    pub(crate) async fn reject(
        &self,
        session: &mut Session,
        writer: &ResponseWriter<'_>,
        route: Route,
        rejection: Rejection,
    ) -> Handled {
        let status = match rejection {
            Rejection::Refused { refusal, budget } => {
                if let Refusal::Limited(limited) = &refusal {
                    self.services.metrics.quota_refusals(limited.limit).increment(1);
                }
                let sent = Box::pin(writer.refuse(session, refusal, budget)).await;
                sent.unwrap_or(CALLER_GONE)
            }
            Rejection::CallerGone => {
                session.close_after_reply();
                CALLER_GONE
            }
        };
        // Not the refusal itself: it may quote the request, or the upstream's error.
        tracing::debug!(request_id = %writer.head.id, status, "request rejected");
        Handled { route, status, outcome: outcome_of_http(status) }
    }
}
