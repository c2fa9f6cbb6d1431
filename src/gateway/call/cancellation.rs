//! What may end a call from outside, whatever it is waiting for.

use crate::callers::open::OpenCall;
use crate::gateway::call::early_keepalive::Early;
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use domain::charge::Status;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Held by a call from its admission to its end.
pub struct Leash {
    pub open: OpenCall,
    /// Whether the call ends with the right to it. A reply in one piece is finished: it is paid for, and
    /// shows nothing to the client before its end.
    pub ends_with_right: bool,
    /// Cancelled when the process is about to end.
    pub hard_stop: CancellationToken,
    /// When the call must have ended.
    pub deadline: Instant,
    /// Keeps the caller's connection alive while nothing of the reply is there, where that is asked for.
    pub early: Option<Arc<Early>>,
}

/// Why a call has to end now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulled {
    /// The key was revoked or the user suspended.
    RightEnded,
    ShuttingDown,
    TooLong,
}

impl Leash {
    /// Resolves when the call has to end.
    pub async fn pulled(&self) -> Pulled {
        tokio::select! {
            biased;
            why = self.pulled_in_time() => why,
            () = tokio::time::sleep_until(self.deadline) => Pulled::TooLong,
        }
    }

    /// Resolves when the call has to end for another reason than its deadline.
    pub async fn pulled_in_time(&self) -> Pulled {
        tokio::select! {
            biased;
            () = self.open.ended(), if self.ends_with_right => Pulled::RightEnded,
            () = self.hard_stop.cancelled() => Pulled::ShuttingDown,
        }
    }
}

impl Pulled {
    /// How the call is recorded.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::RightEnded => Status::CutByQuota,
            Self::ShuttingDown | Self::TooLong => Status::CutByUpstream,
        }
    }

    /// What the client receives if nothing of the response was sent yet.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::RightEnded => Refusal::RightEnded,
            Self::ShuttingDown => Refusal::Draining,
            Self::TooLong => Refusal::Upstream(UpstreamFailure::FirstByteTimeout),
        }
    }
}
