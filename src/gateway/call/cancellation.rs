//! Ends a call from outside, whatever it is waiting for: revoked access, a shutdown, its deadline.

use crate::callers::open::OpenCall;
use crate::gateway::call::early_keepalive::EarlyKeepalive;
use crate::gateway::response::writer::ResponseWriter;
use crate::gateway::{Gateway, RoutingSnapshot};
use domain::caller::Caller;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Held by a call from its admission to its end.
pub struct Cancellation {
    pub open: OpenCall,
    /// True if the call ends when access is revoked. A whole response is completed: it is paid for, and shows
    /// nothing to the client before its end.
    pub ends_when_revoked: bool,
    /// Cancelled when the process is about to end.
    pub hard_stop: CancellationToken,
    /// When the call must have ended.
    pub deadline: Instant,
    /// Sends keep-alive bytes before the upstream responds, if that is configured.
    pub early: Option<Arc<EarlyKeepalive>>,
}

/// The reason that a call is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// The key was revoked or the user suspended.
    AccessRevoked,
    /// The process is about to end.
    Shutdown,
    /// `limits.call_timeout` has passed.
    Deadline,
}

impl Cancellation {
    /// Resolves when the call is cancelled.
    pub async fn cancelled(&self) -> CancelReason {
        tokio::select! {
            biased;
            why = self.cancelled_before_deadline() => why,
            () = tokio::time::sleep_until(self.deadline) => CancelReason::Deadline,
        }
    }

    /// The same for every reason but the deadline.
    pub async fn cancelled_before_deadline(&self) -> CancelReason {
        tokio::select! {
            biased;
            () = self.open.ended(), if self.ends_when_revoked => CancelReason::AccessRevoked,
            () = self.hard_stop.cancelled() => CancelReason::Shutdown,
        }
    }
}

impl Gateway {
    /// The cancellation of a call of this caller.
    pub(crate) fn cancellation(
        &self,
        caller: &Caller,
        writer: &ResponseWriter<'_>,
        current: &RoutingSnapshot,
        is_stream: bool,
    ) -> Cancellation {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        Cancellation {
            open: self.open_calls.open(caller.user, caller.key.clone(), number),
            ends_when_revoked: is_stream,
            hard_stop: self.hard_stop.clone(),
            deadline: (writer.head.started + current.limits.call_timeout).into(),
            early: None,
        }
    }
}
