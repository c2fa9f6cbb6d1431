//! The tokens reserved for a running call ([`Lease`]) and the cost of one that has ended ([`Charge`]).

use super::day::Day;
use super::id::{KeyId, RequestId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A reservation as it is written to the journal or to Redis, so that a killed process still charges for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    pub request: RequestId,
    pub user: UserId,
    pub key: KeyId,
    /// The user's version the admission relied on; no lease is taken if it has moved on.
    pub version: u64,
    pub model: Arc<str>,
    pub day: Day,
    /// Reserved tokens, which are charged if the process dies.
    pub reserved: u64,
    pub admitted_at: Timestamp,
}

/// One settled call: exactly one ledger row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Charge {
    pub request: RequestId,
    pub user: UserId,
    pub key: KeyId,
    pub model: Arc<str>,
    /// The upstream that answered; empty when none was reached.
    pub upstream: Arc<str>,
    /// The day of admission, in the plan's time zone.
    pub day: Day,
    pub admitted_at: Timestamp,
    pub tokens: TokenCount,
    /// Cached prompt tokens that the plan does not count against daily limits; see [`TokenCount::uncounted`]. Charges
    /// written by a gateway that does not know of it have none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncounted: u64,
    /// Cost in millionths of a US dollar.
    pub cost_micro_dollars: i64,
    pub status: Status,
    pub source: Source,
    /// True if it counts against requests per day (a call no upstream took does not).
    pub counted: bool,
    /// From admission to the first byte of the answer, in milliseconds.
    pub first_token_ms: Option<u32>,
    /// From admission to the end, in milliseconds.
    pub total_ms: u32,
    /// The caller's own `x-request-id`, if it sent a valid one. Charges written by a
    /// gateway that does not know of it have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<Arc<str>>,
}

/// A correction of what one key of a user has used on a day, in addition to the ledger: an admin reset the
/// day. One row for each key; the user's numbers are the sum over the keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adjustment {
    /// The reset, which may concern several keys.
    pub reset: RequestId,
    pub user: UserId,
    pub key: KeyId,
    pub day: Day,
    /// Added to what was used; negative for a reset.
    pub tokens: i64,
    pub requests: i64,
    pub at: Timestamp,
    /// The actor: `user:ID`, `operator` or `gateway`.
    pub by: String,
}

/// Billed tokens of one call. `cached` is the part of `prompt` served from the upstream's cache;
/// `completion` is visible output only, `reasoning` is counted apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCount {
    pub prompt: u64,
    pub cached: u64,
    pub completion: u64,
    pub reasoning: u64,
}

/// The outcome of a call, as recorded in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Complete,
    CutByClient,
    CutByUpstream,
    CutByQuota,
    Failed,
    Abandoned,
}

/// The source of a charge's token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The upstream reported the counts.
    Reported,
    /// The gateway counted the tokens itself.
    Estimated,
}

impl TokenCount {
    /// All tokens of the call; see [`Charge::counted_tokens`] for those that count against daily limits.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total_without(0)
    }

    /// All tokens but so many of the prompt.
    #[must_use]
    pub fn total_without(&self, uncounted: u64) -> u64 {
        let prompt = self.prompt.saturating_sub(uncounted);
        prompt.saturating_add(self.completion).saturating_add(self.reasoning)
    }
}

impl Charge {
    /// The tokens that count against daily limits.
    #[must_use]
    pub fn counted_tokens(&self) -> u64 {
        self.tokens.total_without(self.uncounted)
    }

    /// The full reservation of a call whose gateway died, as output, since the actual usage is unknown.
    #[must_use]
    pub fn abandoned_in_full(lease: &Lease) -> Self {
        let tokens = TokenCount { completion: lease.reserved, ..TokenCount::default() };
        Self::abandoned(lease, tokens)
    }

    /// The charge of `tokens` for a call whose gateway died. Its actual usage is unknown.
    #[must_use]
    pub fn abandoned(lease: &Lease, tokens: TokenCount) -> Self {
        Self {
            request: lease.request,
            user: lease.user,
            key: lease.key.clone(),
            model: Arc::clone(&lease.model),
            upstream: "".into(),
            day: lease.day,
            admitted_at: lease.admitted_at,
            tokens,
            uncounted: 0,
            cost_micro_dollars: 0,
            status: Status::Abandoned,
            source: Source::Estimated,
            counted: true,
            first_token_ms: None,
            total_ms: 0,
            client_request_id: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Status {
    /// Every status, for metrics seeded at zero.
    pub const ALL: [Self; 6] = [
        Self::Complete,
        Self::CutByClient,
        Self::CutByUpstream,
        Self::CutByQuota,
        Self::Failed,
        Self::Abandoned,
    ];

    /// True if the upstream failed before or during its response. Rollups count these calls as failed.
    #[must_use]
    pub fn is_upstream_failure(self) -> bool {
        matches!(self, Self::Failed | Self::CutByUpstream)
    }

    /// The word stored, shown and used as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::CutByClient => "cut_by_client",
            Self::CutByUpstream => "cut_by_upstream",
            Self::CutByQuota => "cut_by_quota",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Source {
    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
        }
    }
}
