//! The ways a stream can end, and the bytes that each one sends.

use crate::gateway::call::cancellation::Pulled;
use crate::gateway::call::forward::Stop;
use crate::gateway::listener::session::Session;
use bytes::Bytes;
use domain::charge::Status;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The upstream finished; its last event is still to be sent when it came.
    Complete,
    /// The upstream failed, and its last event, still to be sent, says so.
    Failed,
    CallerGone,
    QuotaReached,
    Pulled(Pulled),
    UpstreamCut(&'static str),
    /// The upstream said that it failed, in words that it is for the gateway to repeat.
    UpstreamError,
}

impl End {
    /// How the call is recorded.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Complete => Status::Complete,
            Self::CallerGone => Status::CutByClient,
            Self::QuotaReached => Status::CutByQuota,
            Self::Pulled(why) => why.status(),
            Self::Failed | Self::UpstreamCut(_) | Self::UpstreamError => Status::CutByUpstream,
        }
    }

    /// The reason the rest of the response is not read.
    pub(crate) fn stop(self) -> Option<Stop> {
        match self {
            Self::CallerGone => Some(Stop::CallerGone),
            Self::Pulled(why) => Some(Stop::Pulled(why)),
            _ => None,
        }
    }

    /// Whether the reply ends before the upstream's own end, and not as if it had one.
    fn is_cut(self) -> bool {
        matches!(self, Self::Pulled(_) | Self::UpstreamCut(_) | Self::UpstreamError)
    }
}

/// Writes the ending, and ends the reply.
pub(crate) async fn close(session: &mut Session, end: End, torn: bool, ending: Bytes) {
    if end == End::CallerGone || torn {
        // What was written may end in the middle of a chunk: nothing may follow it.
        return session.abort();
    }
    let sent = session.send(ending, !end.is_cut()).await;
    if sent.is_ok() && end.is_cut() {
        session.cut_off().await;
    }
}
