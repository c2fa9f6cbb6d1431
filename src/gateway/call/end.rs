//! How a call can end, and what follows from it: its status in the ledger, its label in metrics, what its caller
//! receives.

use crate::gateway::call::cancellation::CancelReason;
use crate::gateway::response::refusal::{Refusal, UpstreamFailure};
use domain::charge::Status;
use telemetry::labels::Outcome;

/// The status in metrics for a caller that disconnected before its response; nginx uses the same.
pub const CALLER_GONE: u16 = 499;

/// The way in which a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The upstream completed its response.
    Complete,
    /// The caller disconnected.
    CallerGone,
    /// The caller had no quota left to continue.
    QuotaExhausted,
    Cancelled(CancelReason),
    Upstream(UpstreamEnd),
}

/// The way in which an upstream failed after its response had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamEnd {
    /// Its last event reports the failure, and is relayed.
    ReportedFailure,
    /// It reported an error in a form that the gateway has to write itself.
    Error,
    /// It stopped before the end of its response.
    Cut(&'static str),
}

impl EndReason {
    /// The status in the ledger.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Complete => Status::Complete,
            Self::CallerGone => Status::CutByClient,
            Self::QuotaExhausted | Self::Cancelled(CancelReason::AccessRevoked) => {
                Status::CutByQuota
            }
            Self::Cancelled(CancelReason::Shutdown | CancelReason::Deadline)
            | Self::Upstream(_) => Status::CutByUpstream,
        }
    }

    /// What the caller receives if none of the response was sent; `None` if it has gone, or the call cannot end
    /// in this way before its response.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Cancelled(CancelReason::AccessRevoked) => Some(Refusal::RightEnded),
            Self::Cancelled(CancelReason::Shutdown) => Some(Refusal::ShuttingDown),
            Self::Cancelled(CancelReason::Deadline) => {
                Some(Refusal::Upstream(UpstreamFailure::FirstByteTimeout))
            }
            Self::CallerGone | Self::Complete | Self::QuotaExhausted | Self::Upstream(_) => None,
        }
    }

    /// True if the gateway stops reading the upstream, which has more to send.
    #[must_use]
    pub fn is_interruption(self) -> bool {
        matches!(self, Self::CallerGone | Self::Cancelled(_))
    }

    /// True if the response ends before the upstream's own end, and may not look complete.
    #[must_use]
    pub fn is_cut(self) -> bool {
        match self {
            Self::Cancelled(_) | Self::Upstream(UpstreamEnd::Cut(_) | UpstreamEnd::Error) => true,
            Self::Upstream(UpstreamEnd::ReportedFailure)
            | Self::Complete
            | Self::CallerGone
            | Self::QuotaExhausted => false,
        }
    }
}

/// The label of a call that is recorded as `status`.
#[must_use]
pub fn outcome_of_status(status: Status) -> Outcome {
    match status {
        Status::Complete => Outcome::Ok,
        Status::CutByClient => Outcome::CutByClient,
        Status::CutByUpstream => Outcome::CutByUpstream,
        Status::CutByQuota => Outcome::CutByQuota,
        Status::Failed | Status::Abandoned => Outcome::Failed,
    }
}

/// The label of a response with an HTTP status of the gateway's own.
#[must_use]
pub fn outcome_of_http(status: u16) -> Outcome {
    match status {
        CALLER_GONE => Outcome::CutByClient,
        500.. => Outcome::Failed,
        400..500 => Outcome::Refused,
        _ => Outcome::Ok,
    }
}
