//! Usage objects, and what they mean in billed tokens and money.

use crate::account::charge::TokenCount;

/// What an upstream reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub tokens: TokenCount,
    /// `cost_in_usd_ticks` (1e-10 US dollars), where the upstream gives it.
    pub cost_ticks: Option<i64>,
}
