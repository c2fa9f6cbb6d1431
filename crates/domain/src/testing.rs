//! Plain values for tests and benchmarks: each replaces the fields that it is about.

use crate::cached_tokens::CachedTokenFraction;
use crate::caller::Caller;
use crate::charge::{Charge, Lease, Source, Status, TokenCount};
use crate::day::Day;
use crate::id::{KeyId, PlanId, RequestId, UserId};
use crate::key::{KeyDigest, KeyLimits};
use crate::plan::{PlanLimits, RequestPolicy, Window};
use crate::second_factor::totp::TotpSecret;
use crate::user::UserStatus;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// An active caller on a small plan in UTC, whose key has no limits of its own: 700 tokens and 9 requests a day, 3
/// requests in 2 seconds, 2 streams.
pub fn caller(user: UserId, key: &str) -> Caller {
    Caller {
        user,
        key: KeyId::from(key),
        digest: KeyDigest([0; 32]),
        user_status: UserStatus::Active,
        must_verify_email: false,
        key_revoked: false,
        key_expires_at: None,
        key_limits: KeyLimits::default(),
        plan: PlanId::from("plan"),
        plan_limits: PlanLimits {
            tokens_per_day: 700,
            cached_token_fraction: CachedTokenFraction::ONE,
            requests_per_day: 9,
            window: Window { capacity: 3, refill_seconds: 2 },
            concurrent_streams: 2,
            models: None,
            time_zone: TimeZone::UTC,
            policy: RequestPolicy::default(),
        },
        version: 1,
    }
}

/// The secret that an authenticator app reads from this text in base32.
pub fn totp_secret(base32: &str) -> TotpSecret {
    let bytes = data_encoding::BASE32_NOPAD.decode(base32.as_bytes());
    TotpSecret::from_bytes(bytes.ok().and_then(|bytes| bytes.try_into().ok()).unwrap_or_default())
}

/// The limits of a plan that no test or benchmark reaches.
pub fn wide_limits() -> PlanLimits {
    PlanLimits {
        tokens_per_day: 1 << 52,
        cached_token_fraction: CachedTokenFraction::ONE,
        requests_per_day: 1 << 52,
        window: Window { capacity: 1_000_000, refill_seconds: 1 },
        concurrent_streams: u32::MAX,
        models: None,
        time_zone: TimeZone::UTC,
        policy: RequestPolicy::default(),
    }
}

/// The lease of a new call that has reserved nothing yet.
pub fn lease(user: UserId, key: &str, day: Day, admitted_at: Timestamp) -> Lease {
    Lease {
        request: RequestId::new(),
        user,
        key: KeyId::from(key),
        version: 1,
        model: "grok-4.3".into(),
        day,
        reserved: 0,
        admitted_at,
    }
}

/// The charge of a call that is complete, and whose upstream reported these tokens.
pub fn charge(lease: &Lease, tokens: TokenCount) -> Charge {
    Charge {
        request: lease.request,
        user: lease.user,
        key: lease.key.clone(),
        model: lease.model.clone(),
        upstream: "xai".into(),
        day: lease.day,
        admitted_at: lease.admitted_at,
        tokens,
        uncounted: 0,
        cost_micro_dollars: 1_500,
        status: Status::Complete,
        source: Source::Reported,
        counted: true,
        first_token_ms: Some(200),
        total_ms: 900,
        client_request_id: None,
    }
}
