//! The numbers of quota as a plain value: no I/O, no clock, no locks.
//!
//! A [`QuotaState`] is also the model that any other back end is tested against.

mod open_state;

use super::backend::{
    Claim, Correction, DayTally, ExtendOutcome, Grant, QuotaRefusal, RemovedUsage, Reset, Standing,
};
use super::rules::{Debit, Resource, Scope};
use domain::charge::{Adjustment, Charge, Lease};
use domain::day::Day;
use domain::id::{IdMap, KeyId, RequestId, UserId};
use domain::limit::LimitKind;
use domain::plan::Window;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::Used;

/// Everything used and held, by user and by key.
#[derive(Debug, Default)]
pub struct QuotaState {
    accounts: IdMap<Scope, Account>,
    leases: IdMap<RequestId, OpenLease>,
}

/// One user's or one key's numbers.
#[derive(Debug, Default)]
struct Account {
    /// The newest few days; see [`Account::day_mut`].
    days: Vec<(Day, Tally)>,
    bucket: Option<Bucket>,
    streams_open: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    tokens_used: u64,
    tokens_reserved: u64,
    /// What running calls are likely to take beyond what they hold.
    tokens_expected: u64,
    /// Admitted calls, running ones too; a call that does not count is taken off when it settles.
    requests: u64,
    /// Those of them that run.
    open: u64,
}

/// An open lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OpenLease {
    reserved: u64,
    /// Tokens it is likely to take beyond those.
    expected: u64,
    debits: Vec<Debit>,
}

/// A token bucket in integer units: a request costs `refill_ms` units, and each millisecond adds
/// `capacity` of them, so that nothing is ever rounded.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Bucket {
    window: Window,
    units: u64,
    at_ms: i64,
}

pub use open_state::OpenState;

/// What settling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Tokens past a limit: used beyond what was reserved, with no room left for them.
    pub overshoot: u64,
}

impl QuotaState {
    /// Returns a state that includes what was used before this process started.
    #[must_use]
    pub fn rebuilt(used: &[Used]) -> Self {
        let mut state = Self::default();
        for row in used {
            let scope = row.key.clone().map_or(Scope::User(row.user), Scope::Key);
            let tally = state.accounts.entry(scope).or_default().day_mut(row.day);
            tally.tokens_used = row.tokens;
            tally.requests = row.requests;
        }
        state
    }

    /// Takes every debit or none. A claim whose request already has a lease gets the same grant.
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
            let held =
                OpenLease { reserved: tokens, expected: likely.saturating_sub(tokens), debits };
            for debit in &claim.debits {
                self.accounts.entry(debit.scope.clone()).or_default().apply(
                    &debit.resource,
                    (held.reserved, held.expected),
                    now,
                );
            }
            self.leases.insert(lease.request, held);
        }
        let (reserved, expected) =
            self.leases.get(&lease.request).map_or((0, 0), |held| (held.reserved, held.expected));
        let free = claim.debits.iter().filter_map(|debit| self.free_tokens(debit, expected)).min();
        Ok(Grant {
            tokens: reserved,
            free: free.unwrap_or(0),
            standing: self.standing(lease.user, Some(&lease.key), lease.day, now),
        })
    }

    /// Undoes a take as if it had never been: for a claim that could not be made durable.
    pub fn undo(&mut self, request: RequestId) {
        let Some(held) = self.leases.remove(&request) else { return };
        for debit in &held.debits {
            let account = self.accounts.entry(debit.scope.clone()).or_default();
            account.release(&debit.resource, &held, 0, false);
            account.refund_window(&debit.resource);
        }
    }

    /// Reserves up to `want` more tokens for a running call, or none when fewer than `least` are
    /// free. Returns what came of it and what the call now holds in all.
    pub fn extend(&mut self, request: RequestId, want: u64, least: u64) -> (ExtendOutcome, u64) {
        let Some(held) = self.leases.get(&request) else { return (ExtendOutcome::Exhausted, 0) };
        let addable = |debit| self.addable(debit, held.expected, want, least);
        let added = held.debits.iter().filter_map(addable).min();
        let Some(added) = added.filter(|added| *added >= least.max(1)) else {
            let alone =
                held.debits.iter().filter_map(|debit| self.free_alone(debit, held.reserved)).min();
            let room = alone.unwrap_or(0) >= least.max(1);
            return (
                if room { ExtendOutcome::Blocked } else { ExtendOutcome::Exhausted },
                held.reserved,
            );
        };
        // What was expected of the call is now held by it.
        let come = held.expected.min(added);
        for debit in &held.debits {
            if let Resource::Tokens { day, .. } = debit.resource {
                let account = self.accounts.entry(debit.scope.clone()).or_default();
                let tally = account.day_mut(day);
                tally.tokens_reserved += added;
                tally.tokens_expected = tally.tokens_expected.saturating_sub(come);
            }
        }
        let total = held.reserved + added;
        if let Some(held) = self.leases.get_mut(&request) {
            held.reserved = total;
            held.expected -= come;
        }
        (ExtendOutcome::Added(added), total)
    }

    /// Ends a lease; `None` when there is none (already settled).
    pub fn settle(&mut self, charge: &Charge) -> Option<Settled> {
        let held = self.leases.remove(&charge.request)?;
        let used = charge.tokens.total();
        let mut overshoot = 0;
        for debit in &held.debits {
            let account = self.accounts.entry(debit.scope.clone()).or_default();
            account.release(&debit.resource, &held, used, charge.counted);
            if let Resource::Tokens { day, limit, .. } = debit.resource {
                let excess = used.saturating_sub(held.reserved);
                let past = account.day(day).taken().saturating_sub(limit);
                overshoot = overshoot.max(excess.min(past));
            }
        }
        Some(Settled { overshoot })
    }

    /// Replaces what a call that has ended was charged. Of a day that is not counted any more only the
    /// ledger tells.
    pub fn correct(&mut self, correction: &Correction) {
        let Correction { charge, before } = correction;
        for scope in [Scope::User(charge.user), Scope::Key(charge.key.clone())] {
            let account = self.accounts.get_mut(&scope);
            let days = account.map(|account| account.days.iter_mut()).into_iter().flatten();
            for (_, tally) in days.filter(|(day, _)| *day == charge.day) {
                let others = tally.tokens_used.saturating_sub(*before);
                tally.tokens_used = others.saturating_add(charge.tokens.total());
            }
        }
    }

    /// Takes away what a user's keys have used on a day; running calls keep what they hold, and
    /// their request. Returns what follows into the ledger.
    pub fn reset(&mut self, reset: &Reset) -> Vec<Adjustment> {
        let mut adjustments = Vec::new();
        for key in &reset.keys {
            let account = self.accounts.get_mut(&Scope::Key(key.clone()));
            let removed = account.map(|account| account.begin_anew(reset.day)).unwrap_or_default();
            if removed == RemovedUsage::default() {
                continue;
            }
            if let Some(user) = self.accounts.get_mut(&Scope::User(reset.user)) {
                user.take_off(reset.day, removed);
            }
            adjustments.push(reset.adjustment(key, removed));
        }
        adjustments
    }

    /// A user's numbers on `day`, and those of one of its keys.
    #[must_use]
    pub fn standing(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Standing {
        let tally = |account: Option<&Account>| account.map_or(Tally::default(), |a| a.day(day));
        let of_key = key.and_then(|key| self.accounts.get(&Scope::Key(key.clone())));
        let key = tally(of_key).told();
        let Some(account) = self.accounts.get(&Scope::User(user)) else {
            return Standing { key, ..Standing::default() };
        };
        let bucket = account.bucket.map(|b| b.at(now));
        Standing {
            user: account.day(day).told(),
            key,
            streams_open: account.streams_open,
            window_left: bucket.map(|b| b.left()),
            window_full_in_ms: bucket.map_or(0, |b| b.full_in_ms()),
        }
    }

    /// What users and keys have used on `day`, running calls' reservations left out.
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

    /// Open leases.
    #[must_use]
    pub fn open_leases(&self) -> u64 {
        self.leases.len() as u64
    }

    /// What a call is likely to take, so much of it as is left for it were it the only one running,
    /// but never less than it needs.
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

    /// Whether a debit fits; `likely` is what the call will take in the end.
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
            standing: self.standing(lease.user, Some(&lease.key), lease.day, now),
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
                let fits = tally.exposed().saturating_add(likely) <= *limit;
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

    /// Up to `want` of what is free for a call of which so much is `expected`, and no more than the
    /// debit's share of it unless `least` is.
    fn addable(&self, debit: &Debit, expected: u64, want: u64, least: u64) -> Option<u64> {
        let Resource::Tokens { share, .. } = debit.resource else { return None };
        let free = self.free_tokens(debit, expected)?;
        let fair = share.map_or(free, |share| (free / share.max(1)).max(least));
        Some(free.min(want).min(fair))
    }

    /// What would be free if this call, holding `reserved`, were the only one running.
    fn free_alone(&self, debit: &Debit, reserved: u64) -> Option<u64> {
        let Resource::Tokens { day, limit, .. } = debit.resource else { return None };
        let used = self.accounts.get(&debit.scope).map_or(0, |a| a.day(day).tokens_used);
        Some(limit.saturating_sub(used).saturating_sub(reserved))
    }

    /// What a call may still get: its own `expected` usage, and what no other call is expected to use.
    fn free_tokens(&self, debit: &Debit, expected: u64) -> Option<u64> {
        let Resource::Tokens { day, limit, .. } = debit.resource else { return None };
        let tally = self.accounts.get(&debit.scope).map_or(Tally::default(), |a| a.day(day));
        let of_nobody = limit.saturating_sub(tally.exposed());
        Some(limit.saturating_sub(tally.taken()).min(of_nobody.saturating_add(expected)))
    }
}

impl Account {
    fn day(&self, day: Day) -> Tally {
        self.days.iter().find(|(d, _)| *d == day).map(|(_, tally)| *tally).unwrap_or_default()
    }

    /// The day's tally, made when new. A plan's time zone may change, so a day or two either way
    /// stay, and all that the ledger may tell of; older ones with nothing reserved go, so that an
    /// account never grows with uptime.
    fn day_mut(&mut self, day: Day) -> &mut Tally {
        const KEPT: usize = 5;
        if let Some(at) = self.days.iter().position(|(d, _)| *d == day) {
            return &mut self.days[at].1;
        }
        if self.days.len() >= KEPT {
            self.days.sort_unstable_by_key(|(d, _)| std::cmp::Reverse(*d));
            let mut place = 0;
            self.days.retain(|(_, tally)| {
                place += 1;
                place < KEPT || tally.tokens_reserved > 0 || tally.tokens_expected > 0
            });
        }
        self.days.push((day, Tally::default()));
        let last = self.days.len() - 1;
        &mut self.days[last].1
    }

    fn bucket_at(&self, window: Window, now: Timestamp) -> Bucket {
        self.bucket.unwrap_or(Bucket::full(window, now)).resized(window).at(now)
    }

    /// Takes what a debit says; of tokens so many to be held, and so many that are expected.
    fn apply(&mut self, resource: &Resource, (reserved, expected): (u64, u64), now: Timestamp) {
        match resource {
            Resource::Window(window) => self.bucket = Some(self.bucket_at(*window, now).less_one()),
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

    /// Gives back what `apply` took and records what was used. The window keeps its request.
    fn release(&mut self, resource: &Resource, held: &OpenLease, used: u64, counted: bool) {
        match resource {
            Resource::Window(_) => {}
            Resource::Request { day, .. } => {
                let tally = self.day_mut(*day);
                tally.requests = tally.requests.saturating_sub(u64::from(!counted));
                tally.open = tally.open.saturating_sub(1);
            }
            Resource::Tokens { day, .. } => {
                let tally = self.day_mut(*day);
                tally.tokens_reserved = tally.tokens_reserved.saturating_sub(held.reserved);
                tally.tokens_expected = tally.tokens_expected.saturating_sub(held.expected);
                tally.tokens_used = tally.tokens_used.saturating_add(used);
            }
            Resource::Stream { .. } => self.streams_open = self.streams_open.saturating_sub(1),
        }
    }

    /// Takes off all that was settled on `day`.
    fn begin_anew(&mut self, day: Day) -> RemovedUsage {
        let tally = self.day(day);
        let requests = tally.requests.saturating_sub(tally.open);
        let removed = RemovedUsage { tokens: tally.tokens_used, requests };
        self.take_off(day, removed);
        removed
    }

    fn take_off(&mut self, day: Day, removed: RemovedUsage) {
        if let Some((_, tally)) = self.days.iter_mut().find(|(d, _)| *d == day) {
            tally.tokens_used = tally.tokens_used.saturating_sub(removed.tokens);
            tally.requests = tally.requests.saturating_sub(removed.requests);
        }
    }

    fn refund_window(&mut self, resource: &Resource) {
        if let (Resource::Window(_), Some(bucket)) = (resource, &mut self.bucket) {
            bucket.units = (bucket.units + bucket.cost()).min(bucket.brim());
        }
    }
}

impl Tally {
    fn told(self) -> DayTally {
        DayTally {
            tokens_used: self.tokens_used,
            tokens_reserved: self.tokens_reserved,
            requests_used: self.requests,
        }
    }

    fn taken(&self) -> u64 {
        self.tokens_used.saturating_add(self.tokens_reserved)
    }

    /// What is used once every running call has taken what is expected of it.
    fn exposed(&self) -> u64 {
        self.taken().saturating_add(self.tokens_expected)
    }
}

impl Bucket {
    fn full(window: Window, now: Timestamp) -> Self {
        let bucket = Self { window, units: 0, at_ms: now.as_millisecond() };
        Self { units: bucket.brim(), ..bucket }
    }

    /// Units of one request; a window that refills in no time costs nothing.
    fn cost(&self) -> u64 {
        u64::from(self.window.refill_seconds) * 1000
    }

    fn brim(&self) -> u64 {
        self.cost() * u64::from(self.window.capacity)
    }

    /// The bucket at `now`; a clock that went back adds nothing.
    fn at(self, now: Timestamp) -> Self {
        let now_ms = now.as_millisecond().max(self.at_ms);
        let passed = u64::try_from(now_ms - self.at_ms).unwrap_or(0);
        let gained = passed.saturating_mul(u64::from(self.window.capacity));
        Self { units: self.units.saturating_add(gained).min(self.brim()), at_ms: now_ms, ..self }
    }

    /// As full, in proportion, under another window: a plan change is no refill.
    fn resized(self, window: Window) -> Self {
        if window == self.window {
            return self;
        }
        let resized = Self { window, ..self };
        let share =
            u128::from(self.units) * u128::from(resized.brim()) / u128::from(self.brim().max(1));
        Self { units: u64::try_from(share).unwrap_or(u64::MAX).min(resized.brim()), ..resized }
    }

    fn less_one(self) -> Self {
        Self { units: self.units.saturating_sub(self.cost()), ..self }
    }

    fn left(&self) -> u64 {
        self.units.checked_div(self.cost()).unwrap_or(u64::from(self.window.capacity))
    }

    /// Milliseconds until one request fits.
    fn wait_ms(&self) -> u64 {
        let short = self.cost().saturating_sub(self.units);
        short.div_ceil(u64::from(self.window.capacity.max(1)))
    }

    fn full_in_ms(&self) -> u64 {
        (self.brim() - self.units).div_ceil(u64::from(self.window.capacity.max(1)))
    }
}

#[cfg(test)]
#[path = "../tests/model.rs"]
mod tests;
