//! Account of one user or key: the usage of its latest days, its request window and its open streams.

use super::OpenLease;
use super::bucket::Bucket;
use crate::backend::{DayTally, RemovedUsage};
use crate::rules::Resource;
use domain::day::Day;
use domain::plan::Window;
use jiff::Timestamp;

/// Usage of one user or one key.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The newest few days; see [`Account::day_mut`].
    pub(super) days: Vec<(Day, Tally)>,
    pub(super) bucket: Option<Bucket>,
    pub(super) streams_open: u64,
}

/// Usage of one day.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) tokens_used: u64,
    pub(super) tokens_reserved: u64,
    /// Tokens that running calls are expected to use beyond their reservations.
    pub(super) tokens_expected: u64,
    /// Number of admitted calls, running ones included; a call that does not count is subtracted when it settles.
    pub(super) requests: u64,
    /// Number of those calls that are running.
    pub(super) open: u64,
}

impl Account {
    pub(super) fn day(&self, day: Day) -> Tally {
        self.days.iter().find(|(d, _)| *d == day).map(|(_, tally)| *tally).unwrap_or_default()
    }

    /// Returns the day's tally, which is created if it is new. That day and the newest ones stay: a plan's time zone
    /// may change, and the ledger may report a few. Older ones without a reservation are dropped, so that an
    /// account does not grow with uptime.
    pub(super) fn day_mut(&mut self, day: Day) -> &mut Tally {
        const DAYS_KEPT: usize = 5;
        let is_new = self.days.iter().all(|(d, _)| *d != day);
        self.day_to_restore(day);
        if is_new && self.days.len() > DAYS_KEPT {
            self.days.sort_unstable_by_key(|(d, _)| std::cmp::Reverse(*d));
            let mut position = 0;
            self.days.retain(|(d, tally)| {
                position += 1;
                let is_reserved = tally.tokens_reserved > 0 || tally.tokens_expected > 0;
                position <= DAYS_KEPT || *d == day || is_reserved
            });
        }
        self.day_to_restore(day)
    }

    /// Returns the day's tally without dropping another: while an account is restored, it is not known yet which
    /// days have reservations.
    pub(super) fn day_to_restore(&mut self, day: Day) -> &mut Tally {
        let known = self.days.iter().position(|(d, _)| *d == day);
        let at = known.unwrap_or_else(|| {
            self.days.push((day, Tally::default()));
            self.days.len() - 1
        });
        &mut self.days[at].1
    }

    pub(super) fn bucket_at(&self, window: Window, now: Timestamp) -> Bucket {
        self.bucket.unwrap_or(Bucket::full(window, now)).resized(window).at(now)
    }

    /// Takes a debit; of tokens, `reserved` now and `expected` later.
    pub(super) fn apply(
        &mut self,
        resource: &Resource,
        (reserved, expected): (u64, u64),
        now: Timestamp,
    ) {
        match resource {
            Resource::Window(window) => {
                self.bucket = Some(self.bucket_at(*window, now).without_one());
            }
            Resource::Request { day, .. } => {
                let tally = self.day_mut(*day);
                tally.requests += 1;
                tally.open += 1;
            }
            Resource::Tokens { day, .. } => {
                let tally = self.day_mut(*day);
                tally.tokens_reserved += reserved;
                tally.tokens_expected += expected;
            }
            Resource::Stream { .. } => self.streams_open += 1,
        }
    }

    /// Returns what `apply` took, and records the `used` tokens. The window keeps its request.
    pub(super) fn release(
        &mut self,
        resource: &Resource,
        open: &OpenLease,
        used: u64,
        counted: bool,
    ) {
        match resource {
            Resource::Window(_) => {}
            Resource::Request { day, .. } => {
                let tally = self.day_mut(*day);
                tally.requests = tally.requests.saturating_sub(u64::from(!counted));
                tally.open = tally.open.saturating_sub(1);
            }
            Resource::Tokens { day, .. } => {
                let tally = self.day_mut(*day);
                tally.tokens_reserved = tally.tokens_reserved.saturating_sub(open.reserved);
                tally.tokens_expected = tally.tokens_expected.saturating_sub(open.expected);
                tally.tokens_used = tally.tokens_used.saturating_add(used);
            }
            Resource::Stream { .. } => self.streams_open = self.streams_open.saturating_sub(1),
        }
    }

    /// Removes everything that was settled on `day`.
    pub(super) fn reset_day(&mut self, day: Day) -> RemovedUsage {
        let tally = self.day(day);
        let requests = tally.requests.saturating_sub(tally.open);
        let removed = RemovedUsage { tokens: tally.tokens_used, requests };
        self.subtract(day, removed);
        removed
    }

    pub(super) fn subtract(&mut self, day: Day, removed: RemovedUsage) {
        if let Some((_, tally)) = self.days.iter_mut().find(|(d, _)| *d == day) {
            tally.tokens_used = tally.tokens_used.saturating_sub(removed.tokens);
            tally.requests = tally.requests.saturating_sub(removed.requests);
        }
    }

    pub(super) fn refund_window(&mut self, resource: &Resource) {
        if let (Resource::Window(_), Some(bucket)) = (resource, &mut self.bucket) {
            bucket.units = (bucket.units + bucket.cost()).min(bucket.max_units());
        }
    }
}

impl Tally {
    pub(super) fn to_day_tally(self) -> DayTally {
        DayTally {
            tokens_used: self.tokens_used,
            tokens_reserved: self.tokens_reserved,
            requests_used: self.requests,
        }
    }

    pub(super) fn taken(&self) -> u64 {
        self.tokens_used.saturating_add(self.tokens_reserved)
    }

    /// Tokens used once every running call has used what is expected of it.
    pub(super) fn exposure(&self) -> u64 {
        self.taken().saturating_add(self.tokens_expected)
    }
}
