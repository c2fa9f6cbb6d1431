//! The kinds of limits that a plan or a key sets.

use serde::{Deserialize, Serialize};

/// The limit that refused a call; also the metric label of the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitKind {
    Window,
    RequestsPerDay,
    TokensPerDay,
    ConcurrentStreams,
}

impl LimitKind {
    /// Every kind, for metrics seeded at zero.
    pub const ALL: [Self; 4] =
        [Self::Window, Self::RequestsPerDay, Self::TokensPerDay, Self::ConcurrentStreams];

    /// The limit's name in the labels of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerDay => "tokens_per_day",
            Self::ConcurrentStreams => "concurrent_streams",
        }
    }
}
