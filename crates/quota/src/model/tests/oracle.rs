//! The oracle: it stores no sums, remembers every call, and counts again each time.

use crate::backend::Claim;
use crate::rules::{Demand, SLICE_SHARE, Scope};
use crate::testing::{BEGINNING, KEYS, USERS, caller};
use domain::caller::Caller;
use domain::day::Day;
use domain::id::{RequestId, UserId};
use domain::limit::LimitKind;
use domain::plan::Window;
use jiff::Timestamp;
use std::collections::BTreeMap;

pub const CALLS: usize = 24;

/// What the oracle knows of a call.
#[derive(Debug, Clone)]
pub struct Call {
    pub caller: Caller,
    pub claim: Claim,
    pub need: Demand,
    pub held: u64,
    /// Tokens it was likely to take when it was admitted, of what was left then.
    pub likely: u64,
    /// Tokens used and whether it counts, once it has ended.
    pub ended: Option<(u64, bool)>,
    /// It had ended when its user's day was reset.
    pub forgiven: bool,
}

impl Call {
    /// Tokens used and whether it counts, once it has ended and unless it is forgiven.
    pub fn settled(&self) -> Option<(u64, bool)> {
        self.ended.filter(|_| !self.forgiven)
    }

    /// The limits of its user's day and its key's day, as they were when it was admitted.
    pub fn limits(&self) -> [(Scope, u64); 2] {
        token_limits(&self.caller)
    }

    pub fn draws_on(&self, scope: &Scope) -> bool {
        match scope {
            Scope::User(user) => self.caller.user == *user,
            Scope::Key(key) => self.caller.key == *key,
        }
    }
}

pub fn token_limits(caller: &Caller) -> [(Scope, u64); 2] {
    let key = caller.key_limits.tokens_per_day.unwrap_or(u64::MAX);
    [
        (Scope::User(caller.user), caller.plan_limits.tokens_per_day),
        (Scope::Key(caller.key.clone()), key),
    ]
}

/// Requests of a window as a queue that drains: the length that is still to drain, in units of
/// which a request is `refill_ms` and a millisecond drains `capacity`.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    pub window: Window,
    pub length: i128,
    pub at: i64,
}

impl Queue {
    pub fn room(window: Window) -> i128 {
        i128::from(window.capacity) * i128::from(window.refill_seconds) * 1000
    }

    pub fn at(self, window: Window, now: i64) -> Self {
        let mut length = self.length;
        if window != self.window {
            let (old, new) = (Self::room(self.window), Self::room(window));
            length = new - (old - length) * new / old.max(1);
        }
        let now = now.max(self.at);
        let drained = i128::from(now - self.at) * i128::from(window.capacity);
        Self { window, length: (length - drained).max(0), at: now }
    }

    pub fn fits(&self) -> bool {
        let request = i128::from(self.window.refill_seconds) * 1000;
        self.window.capacity > 0 && self.length + request <= Self::room(self.window)
    }
}

pub struct Oracle {
    pub callers: Vec<Vec<Caller>>,
    pub calls: BTreeMap<usize, Call>,
    pub ids: Vec<RequestId>,
    pub queues: BTreeMap<usize, Queue>,
    /// When requests were let through the window, as long as it stayed the same.
    pub admitted: BTreeMap<usize, Vec<i64>>,
    pub now: i64,
}

fn callers(user: usize) -> Vec<Caller> {
    let id = UserId(uuid::Uuid::from_u128(user as u128));
    (0..KEYS).map(|key| caller(id, user, key)).collect()
}

impl Oracle {
    pub fn new() -> Self {
        Self {
            callers: (0..USERS).map(callers).collect(),
            calls: BTreeMap::new(),
            ids: (0..CALLS).map(|n| RequestId(uuid::Uuid::from_u128(n as u128))).collect(),
            queues: BTreeMap::new(),
            admitted: BTreeMap::new(),
            now: BEGINNING,
        }
    }

    pub fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now).unwrap()
    }

    pub fn of(&self, scope: &Scope, day: Day) -> impl Iterator<Item = &Call> {
        let scope = scope.clone();
        self.calls.values().filter(move |c| c.claim.lease.day == day && c.draws_on(&scope))
    }

    pub fn used(&self, scope: &Scope, day: Day) -> u64 {
        self.of(scope, day).filter_map(|call| Some(call.settled()?.0)).sum()
    }

    pub fn reserved(&self, scope: &Scope, day: Day) -> u64 {
        self.of(scope, day).filter(|call| call.ended.is_none()).map(|call| call.held).sum()
    }

    /// What running calls hold, or will once each has taken what it is likely to.
    pub fn exposed(&self, scope: &Scope, day: Day) -> u64 {
        let open = self.of(scope, day).filter(|call| call.ended.is_none());
        open.map(|call| call.held.max(call.likely)).sum()
    }

    /// What a call is likely to take of what is left, were it the only one running.
    pub fn likely(&self, caller: &Caller, need: Demand, day: Day) -> u64 {
        let left = |(scope, limit): (Scope, u64)| limit.saturating_sub(self.used(&scope, day));
        let left = token_limits(caller).map(left).into_iter().min().unwrap();
        let least = need.prompt + need.least_output;
        left.min(need.prompt + need.likely_output).max(least)
    }

    pub fn requests(&self, scope: &Scope, day: Day) -> u64 {
        let counts = |call: &&Call| match call.ended {
            None => true,
            Some((_, counted)) => counted && !call.forgiven,
        };
        self.of(scope, day).filter(counts).count() as u64
    }

    pub fn streams(&self, user: UserId) -> u64 {
        let open = |call: &&Call| call.ended.is_none() && call.need.stream;
        self.calls.values().filter(open).filter(|call| call.caller.user == user).count() as u64
    }

    pub fn queue(&self, user: usize) -> Queue {
        let window = self.callers[user][0].plan_limits.window;
        let empty = Queue { window, length: 0, at: self.now };
        self.queues.get(&user).copied().unwrap_or(empty).at(window, self.now)
    }

    /// What `call` may still get; it may be new.
    pub fn free(&self, call: &Call, scope: &Scope, limit: u64) -> u64 {
        let day = call.claim.lease.day;
        let taken = self.used(scope, day) + self.reserved(scope, day);
        let exposed = self.used(scope, day) + self.exposed(scope, day);
        let own = call.likely.saturating_sub(call.held);
        limit.saturating_sub(taken).min(limit.saturating_sub(exposed) + own)
    }

    /// The limit that refuses, and whether only running calls are in its way.
    pub fn verdict(
        &self,
        user: usize,
        caller: &Caller,
        need: Demand,
        day: Day,
    ) -> Option<(LimitKind, bool)> {
        let least = need.prompt + need.least_output;
        let key = Scope::Key(caller.key.clone());
        let requests = [
            (Scope::User(caller.user), caller.plan_limits.requests_per_day),
            (key, caller.key_limits.requests_per_day.unwrap_or(u64::MAX)),
        ];
        if requests.iter().any(|(scope, limit)| self.requests(scope, day) >= *limit) {
            return Some((LimitKind::RequestsPerDay, false));
        }
        for (scope, limit) in token_limits(caller) {
            let likely = self.likely(caller, need, day);
            if self.used(&scope, day) + self.exposed(&scope, day) + likely > limit {
                let alone = self.used(&scope, day) + least <= limit;
                return Some((LimitKind::TokensPerDay, alone));
            }
        }
        if !self.queue(user).fits() {
            return Some((LimitKind::Window, false));
        }
        let streams = u64::from(caller.plan_limits.concurrent_streams);
        if need.stream && self.streams(caller.user) >= streams {
            return Some((LimitKind::ConcurrentStreams, true));
        }
        None
    }

    /// Tokens that a call would get.
    pub fn amount(&self, call: &Call, want: u64, least: u64) -> u64 {
        let part = |(scope, limit): &(Scope, u64)| {
            let free = self.free(call, scope, *limit);
            let fair = if call.need.sliced { (free / SLICE_SHARE).max(least) } else { free };
            free.min(want).min(fair)
        };
        call.limits().iter().map(part).min().unwrap()
    }

    /// Never more through the window than it holds at once and what drained in the meantime.
    pub fn check_window(&self, user: usize) {
        let Some(times) = self.admitted.get(&user) else { return };
        let window = self.callers[user][0].plan_limits.window;
        let last = times[times.len() - 1];
        for (at, first) in times.iter().enumerate() {
            let drained = i128::from(last - first) * i128::from(window.capacity)
                / (i128::from(window.refill_seconds) * 1000);
            let admitted = (times.len() - at) as i128;
            assert!(admitted <= i128::from(window.capacity) + drained, "{times:?} in {window:?}");
        }
    }
}
