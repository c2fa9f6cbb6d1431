use super::*;
use domain::id::UserId;
use jiff::ToSpan;
use jiff::tz::TimeZone;

fn caller(zone: &str) -> Caller {
    let mut caller = domain::testing::caller(UserId::new(), "key");
    let limits = &mut caller.plan_limits;
    (limits.tokens_per_day, limits.requests_per_day) = (1_000, 10);
    limits.window = Window { capacity: 3, refill_seconds: 60 };
    limits.time_zone = TimeZone::get(zone).unwrap();
    caller
}

const NEED: Demand = Demand {
    prompt: 30,
    output: 200,
    least_output: 2,
    likely_output: 150,
    stream: false,
    sliced: false,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Scope, limit kind and limit of each debit, in order.
fn summary(debits: &[Debit]) -> Vec<(bool, LimitKind, u64)> {
    let row = |debit: &Debit| {
        let limit = match debit.resource {
            Resource::Window(window) => u64::from(window.capacity),
            Resource::Request { limit, .. }
            | Resource::Tokens { limit, .. }
            | Resource::Stream { limit } => limit,
        };
        (matches!(debit.scope, Scope::User(_)), debit.resource.kind(), limit)
    };
    debits.iter().map(row).collect()
}

#[test]
fn the_day_is_checked_before_what_a_short_wait_would_heal() {
    let (_, debits) =
        debits(&caller("UTC"), Demand { stream: true, ..NEED }, at("2026-01-02T03:04:05Z"));
    let user = |kind, limit| (true, kind, limit);
    let key = |kind| (false, kind, u64::MAX);
    assert_eq!(
        summary(&debits),
        [
            user(LimitKind::RequestsPerDay, 10),
            key(LimitKind::RequestsPerDay),
            user(LimitKind::TokensPerDay, 1_000),
            key(LimitKind::TokensPerDay),
            user(LimitKind::Window, 3),
            user(LimitKind::ConcurrentStreams, 2),
        ]
    );
}

#[test]
fn only_streams_take_a_stream_and_only_slices_a_share() {
    let now = at("2026-01-02T03:04:05Z");
    for (stream, sliced) in [(false, false), (true, false), (true, true)] {
        let (_, debits) = debits(&caller("UTC"), Demand { stream, sliced, ..NEED }, now);
        assert_eq!(debits.iter().any(|d| matches!(d.resource, Resource::Stream { .. })), stream);
        for debit in &debits {
            if let Resource::Tokens { want, least, likely, share, .. } = debit.resource {
                assert_eq!((want, least, likely), (230, 32, 180));
                assert_eq!(share, sliced.then_some(SLICE_SHARE));
            }
        }
    }
}

#[test]
fn a_keys_own_limits_are_its_own_counters() {
    let mut caller = caller("UTC");
    caller.key_limits.tokens_per_day = Some(0);
    caller.key_limits.requests_per_day = Some(7);
    let (_, debits) = debits(&caller, NEED, at("2026-01-02T03:04:05Z"));
    let of_key: Vec<_> = summary(&debits).into_iter().filter(|(is_user, ..)| !is_user).collect();
    assert_eq!(
        of_key,
        [(false, LimitKind::RequestsPerDay, 7), (false, LimitKind::TokensPerDay, 0)]
    );
    assert!(debits.iter().filter(|d| d.scope == Scope::Key(caller.key.clone())).count() == 2);
}

#[test]
fn huge_wishes_do_not_wrap_around() {
    let need = Demand {
        prompt: u64::MAX,
        output: u64::MAX,
        least_output: u64::MAX,
        likely_output: u64::MAX,
        ..NEED
    };
    let (_, debits) = debits(&caller("UTC"), need, at("2026-01-02T03:04:05Z"));
    for debit in &debits {
        if let Resource::Tokens { want, least, likely, .. } = debit.resource {
            assert_eq!((want, least, likely), (u64::MAX, u64::MAX, u64::MAX));
        }
    }
}

#[test]
fn a_call_belongs_to_the_day_of_its_plans_zone() {
    for (zone, now, day) in [
        ("UTC", "2026-01-01T23:59:59.999Z", "2026-01-01"),
        ("UTC", "2026-01-02T00:00:00Z", "2026-01-02"),
        ("Pacific/Auckland", "2026-01-01T10:59:59Z", "2026-01-01"),
        ("Pacific/Auckland", "2026-01-01T11:00:00Z", "2026-01-02"),
        ("America/Los_Angeles", "2026-01-02T07:59:59Z", "2026-01-01"),
        ("America/Los_Angeles", "2026-01-02T08:00:00Z", "2026-01-02"),
        ("Asia/Kathmandu", "2026-01-01T18:14:59Z", "2026-01-01"),
        ("Asia/Kathmandu", "2026-01-01T18:15:00Z", "2026-01-02"),
    ] {
        let (found, debits) = debits(&caller(zone), NEED, at(now));
        assert_eq!(found.to_string(), day, "{zone} at {now}");
        for debit in debits {
            if let Resource::Request { day, .. } | Resource::Tokens { day, .. } = debit.resource {
                assert_eq!(day, found);
            }
        }
    }
}

#[test]
fn days_on_which_clocks_change_have_23_or_25_hours() {
    for (zone, day, minutes) in [
        ("Europe/Berlin", "2026-03-29", 23 * 60),
        ("Europe/Berlin", "2026-10-25", 25 * 60),
        ("America/New_York", "2026-03-08", 23 * 60),
        ("Australia/Lord_Howe", "2026-04-05", 24 * 60 + 30),
        // Midnight itself is skipped: the day begins at one.
        ("Asia/Beirut", "2026-03-29", 23 * 60),
        ("UTC", "2026-03-29", 24 * 60),
    ] {
        let caller = caller(zone);
        let before = at(&format!("{day}T00:00:00Z")) - 30.hours();
        let falls_on =
            |minute: i64| debits(&caller, NEED, before + minute.minutes()).0.to_string() == day;
        let on_day = (0..90 * 60).filter(|minute| falls_on(*minute)).count();
        assert_eq!(on_day, minutes, "{day} in {zone}");
    }
}
