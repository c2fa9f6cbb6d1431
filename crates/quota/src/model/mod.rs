//! Quota as a plain value: no I/O, no clock, no locks.
//!
//! [`QuotaState`] is also the model that the other back ends are tested against.

mod account;
mod bucket;
mod open_state;

use super::backend::{
    Claim, Correction, ExtendOutcome, Grant, QuotaRefusal, RemovedUsage, Reset, UsageSnapshot,
};
use super::rules::{Debit, Resource, Scope};
use domain::charge::{Adjustment, Charge, Lease};
use domain::day::Day;
use domain::id::{IdMap, KeyId, RequestId, UserId};
use domain::limit::LimitKind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::Used;

/// Used and reserved quota, by user and by key.
#[derive(Debug, Default)]
pub struct QuotaState {
    accounts: IdMap<Scope, Account>,
    leases: IdMap<RequestId, OpenLease>,
}

/// Reservation of a running call.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OpenLease {
    reserved: u64,
    /// Tokens that it is expected to use beyond those.
    expected: u64,
    debits: Vec<Debit>,
}

pub use open_state::OpenState;

use account::{Account, Tally};
use bucket::Bucket;

/// Result of [`QuotaState::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleOutcome {
    /// Tokens charged beyond a limit: the call used more than it had reserved, and no more was free.
    pub overshoot: u64,
}

impl QuotaState {
    /// Returns a state that includes what was used before this process started.
    #[must_use]
    pub fn rebuilt(used: &[Used]) -> Self {
        let mut state = Self::default();
        for row in used {
            let scope = row.key.clone().map_or(Scope::User(row.user), Scope::Key);
            let tally = state.accounts.entry(scope).or_default().day_to_restore(row.day);
            tally.tokens_used = row.tokens;
            tally.requests = row.requests;
        }
        state
    }

    /// Takes every debit or none. A repeated claim, whose request already has a lease, gets the same grant.
    ///
    /// # Errors
    /// [`QuotaRefusal`] names the first debit that does not fit; nothing was taken.
    pub fn take(&mut self, claim: &Claim, now: Timestamp) -> Result<Grant, QuotaRefusal> {
        let lease = &claim.lease;
        if !self.leases.contains_key(&lease.request) {
            let likely = self.likely(&claim.debits);
            for debit in &claim.debits {
                self.check(lease, debit, likely, now)?;
            }
            let tokens =
                claim.debits.iter().filter_map(|debit| self.grantable(debit)).min().unwrap_or(0);
            let debits = claim.debits.clone();
            let open =
                OpenLease { reserved: tokens, expected: likely.saturating_sub(tokens), debits };
            for debit in &claim.debits {
                self.accounts.entry(debit.scope.clone()).or_default().apply(
                    &debit.resource,
                    (open.reserved, open.expected),
                    now,
                );
            }
            self.leases.insert(lease.request, open);
        }
        let (reserved, expected) =
            self.leases.get(&lease.request).map_or((0, 0), |open| (open.reserved, open.expected));
        let free = claim.debits.iter().filter_map(|debit| self.free_tokens(debit, expected)).min();
        Ok(Grant {
            tokens: reserved,
            free: free.unwrap_or(0),
            snapshot: self.usage_snapshot(lease.user, Some(&lease.key), lease.day, now),
        })
    }

    /// Undoes a take whose claim could not be made durable.
    pub fn undo(&mut self, request: RequestId) {
        let Some(open) = self.leases.remove(&request) else { return };
        for debit in &open.debits {
            let account = self.accounts.entry(debit.scope.clone()).or_default();
            account.release(&debit.resource, &open, 0, false);
            account.refund_window(&debit.resource);
        }
    }

    /// Reserves up to `want` more tokens for a running call, or none when fewer than `least` are
    /// free. Returns the outcome and the total reservation of the call.
    pub fn extend(&mut self, request: RequestId, want: u64, least: u64) -> (ExtendOutcome, u64) {
        let Some(open) = self.leases.get(&request) else { return (ExtendOutcome::Exhausted, 0) };
        let addable = |debit| self.addable(debit, open.expected, want, least);
        let added = open.debits.iter().filter_map(addable).min();
        let Some(added) = added.filter(|added| *added >= least.max(1)) else {
            let alone =
                open.debits.iter().filter_map(|debit| self.free_alone(debit, open.reserved)).min();
            let room = alone.unwrap_or(0) >= least.max(1);
            return (
                if room { ExtendOutcome::Blocked } else { ExtendOutcome::Exhausted },
                open.reserved,
            );
        };
        // Expected tokens that the call now has reserved.
        let converted = open.expected.min(added);
        for debit in &open.debits {
            if let Resource::Tokens { day, .. } = debit.resource {
                let account = self.accounts.entry(debit.scope.clone()).or_default();
                let tally = account.day_mut(day);
                tally.tokens_reserved += added;
                tally.tokens_expected = tally.tokens_expected.saturating_sub(converted);
            }
        }
        let total = open.reserved + added;
        if let Some(open) = self.leases.get_mut(&request) {
            open.reserved = total;
            open.expected -= converted;
        }
        (ExtendOutcome::Added(added), total)
    }

    /// Ends a lease; `None` when there is none (already settled).
    pub fn settle(&mut self, charge: &Charge) -> Option<SettleOutcome> {
        let open = self.leases.remove(&charge.request)?;
        let used = charge.counted_tokens();
        let mut overshoot = 0;
        for debit in &open.debits {
            let account = self.accounts.entry(debit.scope.clone()).or_default();
            account.release(&debit.resource, &open, used, charge.counted);
            if let Resource::Tokens { day, limit, .. } = debit.resource {
                let excess = used.saturating_sub(open.reserved);
                let past = account.day(day).taken().saturating_sub(limit);
                overshoot = overshoot.max(excess.min(past));
            }
        }
        Some(SettleOutcome { overshoot })
    }

    /// Replaces the charge of a call that has ended. A day that is no longer counted is in the ledger only.
    pub fn correct(&mut self, correction: &Correction) {
        let Correction { charge, before } = correction;
        for scope in [Scope::User(charge.user), Scope::Key(charge.key.clone())] {
            let account = self.accounts.get_mut(&scope);
            let days = account.map(|account| account.days.iter_mut()).into_iter().flatten();
            for (_, tally) in days.filter(|(day, _)| *day == charge.day) {
                let others = tally.tokens_used.saturating_sub(*before);
                tally.tokens_used = others.saturating_add(charge.counted_tokens());
            }
        }
    }

    /// Removes what a user's keys have used on a day; running calls keep their reservations and their
    /// request. Returns the adjustments for the ledger.
    pub fn reset(&mut self, reset: &Reset) -> Vec<Adjustment> {
        let mut adjustments = Vec::new();
        for key in &reset.keys {
            let account = self.accounts.get_mut(&Scope::Key(key.clone()));
            let removed = account.map(|account| account.reset_day(reset.day)).unwrap_or_default();
            if removed == RemovedUsage::default() {
                continue;
            }
            if let Some(user) = self.accounts.get_mut(&Scope::User(reset.user)) {
                user.subtract(reset.day, removed);
            }
            adjustments.push(reset.adjustment(key, removed));
        }
        adjustments
    }

    /// Returns the usage of a user on `day`, and that of one of its keys.
    #[must_use]
    pub fn usage_snapshot(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> UsageSnapshot {
        let tally = |account: Option<&Account>| account.map_or(Tally::default(), |a| a.day(day));
        let of_key = key.and_then(|key| self.accounts.get(&Scope::Key(key.clone())));
        let key = tally(of_key).to_day_tally();
        let Some(account) = self.accounts.get(&Scope::User(user)) else {
            return UsageSnapshot { key, ..UsageSnapshot::default() };
        };
        let bucket = account.bucket.map(|b| b.at(now));
        UsageSnapshot {
            user: account.day(day).to_day_tally(),
            key,
            streams_open: account.streams_open,
            window_left: bucket.map(|b| b.remaining()),
            window_full_in_ms: bucket.map_or(0, |b| b.full_in_ms()),
        }
    }

    /// Returns the usage of users and keys on `day`, without the reservations of running calls.
    #[must_use]
    pub fn used_on(&self, day: Day, owner: impl Fn(&Scope) -> Option<UserId>) -> Vec<Used> {
        let row = |(scope, account): (&Scope, &Account)| {
            let tally = account.days.iter().find(|(d, _)| *d == day)?.1;
            let key = match scope {
                Scope::User(_) => None,
                Scope::Key(key) => Some(key.clone()),
            };
            let requests = tally.requests.saturating_sub(tally.open);
            Some(Used { user: owner(scope)?, key, day, tokens: tally.tokens_used, requests })
        };
        self.accounts.iter().filter_map(row).collect()
    }

    /// Number of running calls.
    #[must_use]
    pub fn open_leases(&self) -> u64 {
        self.leases.len() as u64
    }

    /// Tokens that a call is expected to use: at most what would be free if it were the only running call, and
    /// at least the minimum of its debits.
    fn likely(&self, debits: &[Debit]) -> u64 {
        let (mut all, mut needed) = (None, 0);
        for debit in debits {
            let Resource::Tokens { day, least, likely, limit, .. } = debit.resource else {
                continue;
            };
            let used = self.accounts.get(&debit.scope).map_or(0, |a| a.day(day).tokens_used);
            let likely = likely.min(limit.saturating_sub(used));
            all = Some(all.map_or(likely, |all: u64| all.min(likely)));
            needed = needed.max(least);
        }
        all.unwrap_or(0).max(needed)
    }

    /// Checks that a debit fits; `likely` is the number of tokens that the call is expected to use.
    fn check(
        &self,
        lease: &Lease,
        debit: &Debit,
        likely: u64,
        now: Timestamp,
    ) -> Result<(), QuotaRefusal> {
        let refused = |limit, by_open_calls, retry_after_ms| QuotaRefusal {
            limit,
            by_open_calls,
            scope: debit.scope.clone(),
            retry_after_ms,
            snapshot: self.usage_snapshot(lease.user, Some(&lease.key), lease.day, now),
        };
        let account = self.accounts.get(&debit.scope);
        match &debit.resource {
            Resource::Window(window) => {
                let untouched = || Bucket::full(*window, now);
                let bucket = account.map_or_else(untouched, |a| a.bucket_at(*window, now));
                let wait = bucket.wait_ms();
                let fits = window.capacity > 0 && wait == 0;
                fits.then_some(()).ok_or_else(|| refused(LimitKind::Window, false, wait))
            }
            Resource::Request { day, limit } => {
                let taken = account.map_or(0, |a| a.day(*day).requests);
                (taken < *limit)
                    .then_some(())
                    .ok_or_else(|| refused(LimitKind::RequestsPerDay, false, 0))
            }
            Resource::Tokens { day, least, limit, .. } => {
                let tally = account.map(|a| a.day(*day)).unwrap_or_default();
                let fits = tally.exposure().saturating_add(likely) <= *limit;
                let settled_fits = tally.tokens_used.saturating_add(*least) <= *limit;
                fits.then_some(()).ok_or_else(|| refused(LimitKind::TokensPerDay, settled_fits, 0))
            }
            Resource::Stream { limit } => {
                let open = account.map_or(0, |a| a.streams_open);
                (open < *limit)
                    .then_some(())
                    .ok_or_else(|| refused(LimitKind::ConcurrentStreams, true, 0))
            }
        }
    }

    fn grantable(&self, debit: &Debit) -> Option<u64> {
        let Resource::Tokens { want, least, .. } = debit.resource else { return None };
        self.addable(debit, 0, want, least)
    }

    /// Tokens that can be added to a call with so many `expected`: at most `want`, and at most the debit's
    /// share of what is free, unless `least` is more.
    fn addable(&self, debit: &Debit, expected: u64, want: u64, least: u64) -> Option<u64> {
        let Resource::Tokens { share, .. } = debit.resource else { return None };
        let free = self.free_tokens(debit, expected)?;
        let fair = share.map_or(free, |share| (free / share.max(1)).max(least));
        Some(free.min(want).min(fair))
    }

    /// Tokens that would be free if this call, with its `reserved` tokens, were the only one running.
    fn free_alone(&self, debit: &Debit, reserved: u64) -> Option<u64> {
        let Resource::Tokens { day, limit, .. } = debit.resource else { return None };
        let used = self.accounts.get(&debit.scope).map_or(0, |a| a.day(day).tokens_used);
        Some(limit.saturating_sub(used).saturating_sub(reserved))
    }

    /// Tokens that a call may still get: its own `expected` usage, and what no other call is expected to use.
    fn free_tokens(&self, debit: &Debit, expected: u64) -> Option<u64> {
        let Resource::Tokens { day, limit, .. } = debit.resource else { return None };
        let tally = self.accounts.get(&debit.scope).map_or(Tally::default(), |a| a.day(day));
        let unclaimed = limit.saturating_sub(tally.exposure());
        Some(limit.saturating_sub(tally.taken()).min(unclaimed.saturating_add(expected)))
    }
}

#[cfg(test)]
mod tests;
