//! The users who have used most of a limit of today, for the overview of admins.
//!
//! The store sums up the whole day for it, so results are cached: see [`StaleWhileRevalidate`].

use crate::control::api_error::ApiError;
use crate::control::http::stale_cache::StaleWhileRevalidate;
use crate::control::state::ControlState;
use domain::day::Day;
use std::sync::Arc;
use std::time::Duration;
use store::reports::NearLimit;
use system::clock;

/// Share of a limit from which on it is near, in percent.
pub const NEAR_PERCENT: u32 = 80;
/// Users that are listed, the nearest first.
const MAX_LISTED: u32 = 10;

/// Cached lists by day.
pub type NearLimits = StaleWhileRevalidate<Day, Vec<NearLimit>>;

/// A cache for a minute, as the overview shows whole days.
#[must_use]
pub fn near_limits() -> NearLimits {
    StaleWhileRevalidate::new(Duration::from_secs(60), Duration::from_secs(15 * 60))
}

/// The users nearest to a limit of the day.
///
/// # Errors
/// The store is unavailable.
pub async fn of_day(state: &ControlState, day: Day) -> Result<Arc<Vec<NearLimit>>, ApiError> {
    let store = Arc::clone(&state.store);
    let query = async move { store.near_limits(day, NEAR_PERCENT, MAX_LISTED).await };
    Ok(state.near_limits.get(day, clock::instant(), query).await?)
}
