//! What a caller receives when no upstream responded.

use super::answer::{Answer, server};
use std::time::Duration;
use wire::error::ErrorBody;

/// The failure of an upstream before anything of the response was sent.
#[derive(Debug)]
pub enum UpstreamFailure {
    Busy,
    /// No upstream is available for this long.
    Resting(Duration),
    Connect,
    ConnectTimeout,
    FirstByteTimeout,
    Closed,
    NotHttp,
    /// The reply ended early, was too large, or had an unexpected form.
    BadReply,
    /// The upstream responded with an error; status and body are translated for the caller.
    ErrorResponse {
        status: u16,
        body: ErrorBody,
        /// Seconds from the upstream's `retry-after`.
        retry_after: Option<u32>,
    },
}

impl UpstreamFailure {
    /// True if the caller has waited for a timeout.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::FirstByteTimeout)
    }

    pub(super) fn answer(self) -> Answer {
        match self {
            Self::Busy => {
                server(503, "The model is at capacity. Please retry shortly.", "upstream_busy")
                    .with("retry-after", "1")
            }
            Self::Resting(time) => server(
                503,
                "The model's upstream is unavailable right now. Please try again.",
                "upstream_unavailable",
            )
            .with("retry-after", time.as_millis().div_ceil(1000).max(1).to_string()),
            Self::Connect => server(
                502,
                "The upstream could not be reached. Please retry.",
                "upstream_unreachable",
            ),
            Self::ConnectTimeout => server(
                504,
                "The connection to the upstream timed out. Please retry.",
                "upstream_timeout",
            ),
            Self::FirstByteTimeout => server(
                504,
                "The upstream did not respond in time. Please retry.",
                "upstream_timeout",
            ),
            Self::Closed => server(
                502,
                "The upstream closed the connection without responding. Please retry.",
                "upstream_closed",
            ),
            Self::NotHttp | Self::BadReply => server(
                502,
                "The upstream's response was malformed or incomplete.",
                "upstream_bad_reply",
            ),
            Self::ErrorResponse { status, body, retry_after } => {
                let headers = retry_after.map(|seconds| ("retry-after", seconds.to_string()));
                Answer { status, body, headers: headers.into_iter().collect(), close: false }
            }
        }
    }
}
