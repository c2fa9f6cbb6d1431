//! Callers, claims and charges of quota tests.

use domain::caller::Caller;
use domain::charge::{Charge, Lease, Source, Status, TokenCount};
use domain::day::Day;
use domain::id::{KeyId, PlanId, RequestId, UserId};
use domain::key::{KeyDigest, KeyLimits};
use domain::plan::{PlanLimits, RequestPolicy, Window};
use domain::user::UserStatus;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use quota::backend::{Claim, ObservedTokens, Reset};
use quota::redis::{Clock, Settings};
use quota::rules::{self, Demand};
use std::sync::Arc;
use std::time::Duration;
use telemetry::metrics::Metrics;

pub fn caller(id: UserId, user: usize, key: usize) -> Caller {
    let zone = if user == 0 { TimeZone::UTC } else { TimeZone::get("Europe/Berlin").unwrap() };
    Caller {
        user: id,
        key: KeyId::from(format!("{}-{key}", id.0.simple()).as_str()),
        digest: KeyDigest([0; 32]),
        user_status: UserStatus::Active,
        key_revoked: false,
        key_expires_at: None,
        key_limits: KeyLimits {
            tokens_per_day: (key == 0).then_some(300),
            requests_per_day: (key == 0).then_some(5),
            models: None,
        },
        plan: PlanId::from("plan"),
        plan_limits: PlanLimits {
            tokens_per_day: 700,
            requests_per_day: 9,
            window: Window { capacity: 3, refill_seconds: 2 },
            concurrent_streams: 2,
            models: None,
            time_zone: zone,
            policy: RequestPolicy::default(),
        },
        version: 1,
    }
}

pub fn claim(caller: &Caller, need: Demand, now: Timestamp) -> Claim {
    let (day, debits) = rules::debits(caller, need, now);
    let lease = Lease {
        request: RequestId::new(),
        user: caller.user,
        key: caller.key.clone(),
        version: caller.version,
        model: "m".into(),
        day,
        reserved: 0,
        admitted_at: now,
    };
    Claim { lease, debits, observed: ObservedTokens::default() }
}

/// Today of a user with these callers, begun anew.
pub fn reset(callers: &[Caller], now: Timestamp) -> Reset {
    Reset {
        id: RequestId::new(),
        user: callers[0].user,
        keys: callers.iter().map(|caller| caller.key.clone()).collect(),
        day: Day::at(now, &callers[0].plan_limits.time_zone),
        at: now,
        by: "operator".to_owned(),
    }
}

pub fn charge(lease: &Lease, used: u64, counted: bool) -> Charge {
    Charge {
        request: lease.request,
        user: lease.user,
        key: lease.key.clone(),
        model: "m".into(),
        upstream: "u".into(),
        day: lease.day,
        admitted_at: lease.admitted_at,
        tokens: TokenCount { completion: used, ..TokenCount::default() },
        cost_micro_dollars: 0,
        status: Status::Complete,
        source: Source::Reported,
        counted,
        first_token_ms: None,
        total_ms: 1,
        client_request_id: None,
    }
}

/// Milliseconds since 1970, after every deadline.
pub const FAR: i64 = 4_000_000_000_000;

pub const SETTINGS: Settings = Settings {
    clock: Clock::Given,
    lease: Duration::from_secs(60),
    max_backlog: u64::MAX,
    compare: Duration::from_secs(60),
};

pub fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&[], &[]))
}
