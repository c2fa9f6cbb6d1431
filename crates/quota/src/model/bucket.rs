//! Token bucket of a request window.

use domain::plan::Window;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A token bucket in integer units: a request costs `refill_ms` units, and each millisecond adds
/// `capacity` of them, so that nothing is rounded.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Bucket {
    window: Window,
    pub(super) units: u64,
    at_ms: i64,
}

impl Bucket {
    pub(super) fn full(window: Window, now: Timestamp) -> Self {
        let bucket = Self { window, units: 0, at_ms: now.as_millisecond() };
        Self { units: bucket.max_units(), ..bucket }
    }

    /// Units of one request; a window that refills in no time costs nothing.
    pub(super) fn cost(&self) -> u64 {
        u64::from(self.window.refill_seconds) * 1000
    }

    pub(super) fn max_units(&self) -> u64 {
        self.cost() * u64::from(self.window.capacity)
    }

    /// Returns the bucket at `now`; a clock that went back adds nothing.
    pub(super) fn at(self, now: Timestamp) -> Self {
        let now_ms = now.as_millisecond().max(self.at_ms);
        let passed = u64::try_from(now_ms - self.at_ms).unwrap_or(0);
        let gained = passed.saturating_mul(u64::from(self.window.capacity));
        Self {
            units: self.units.saturating_add(gained).min(self.max_units()),
            at_ms: now_ms,
            ..self
        }
    }

    /// Returns the bucket under another window, filled in the same proportion: a plan change is no refill.
    pub(super) fn resized(self, window: Window) -> Self {
        if window == self.window {
            return self;
        }
        let resized = Self { window, ..self };
        let units = u128::from(self.units) * u128::from(resized.max_units())
            / u128::from(self.max_units().max(1));
        Self { units: u64::try_from(units).unwrap_or(u64::MAX).min(resized.max_units()), ..resized }
    }

    pub(super) fn without_one(self) -> Self {
        Self { units: self.units.saturating_sub(self.cost()), ..self }
    }

    pub(super) fn remaining(&self) -> u64 {
        self.units.checked_div(self.cost()).unwrap_or(u64::from(self.window.capacity))
    }

    /// Milliseconds until one request fits.
    pub(super) fn wait_ms(&self) -> u64 {
        let missing = self.cost().saturating_sub(self.units);
        missing.div_ceil(u64::from(self.window.capacity.max(1)))
    }

    pub(super) fn full_in_ms(&self) -> u64 {
        (self.max_units() - self.units).div_ceil(u64::from(self.window.capacity.max(1)))
    }
}
