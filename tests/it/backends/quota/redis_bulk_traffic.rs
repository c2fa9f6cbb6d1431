//! Bulk work in Redis, which must not delay takes.

use super::redis_lost_reply::{NEED, SETTINGS, gateway_with};
use crate::support::redis::Redis;
use domain::day::Day;
use domain::id::UserId;
use jiff::Timestamp;
use quota::backend::{QuotaBackend, TakeOutcome};
use quota::redis::Settings;
use quota::testing::{caller, claim};
use std::time::Duration;

/// The last command of each connection, but for the one that asks.
fn last_commands(redis: &Redis) -> Vec<String> {
    let clients = redis.command(&["client", "list"]);
    let words = clients.split_whitespace().filter_map(|word| word.strip_prefix("cmd="));
    words.filter(|command| *command != "client|list").map(str::to_owned).collect()
}

#[tokio::test]
async fn reports_and_takes_go_over_different_connections() {
    let redis = Redis::start();
    let settings = Settings { lease: Duration::from_secs(60), ..SETTINGS };
    let quota = gateway_with(&redis, settings).await;
    // Not of the last partition, so that the report ends with a scan of a later one.
    let user =
        std::iter::repeat_with(UserId::new).find(|user| user.0.as_bytes()[15] % 64 < 63).unwrap();
    let (caller, now) = (caller(user, 0, 0), Timestamp::now());
    for _ in 0..2 {
        let taken = quota.take(claim(&caller, NEED, now), now).await.unwrap();
        assert!(matches!(taken, TakeOutcome::Granted(_)));
    }

    let day = Day::at(now, &jiff::tz::TimeZone::UTC);
    assert_eq!(quota.used_on(day).await.unwrap().len(), 2, "the user and its key");
    let mut last = last_commands(&redis);
    last.sort_unstable();
    let [take, report] = &*last else { panic!("two connections: {last:?}") };
    // The first run of the report's script would show as `eval` on the connection of the takes.
    assert_eq!((take.as_str(), report.as_str()), ("evalsha", "sscan"));
}

#[tokio::test]
async fn keys_of_a_day_in_redis_expire() {
    let redis = Redis::start();
    let settings = Settings { lease: Duration::from_secs(60), ..SETTINGS };
    let quota = gateway_with(&redis, settings).await;
    let (caller, now) = (caller(UserId::new(), 0, 0), Timestamp::now());
    for _ in 0..2 {
        let taken = quota.take(claim(&caller, NEED, now), now).await.unwrap();
        assert!(matches!(taken, TakeOutcome::Granted(_)));
    }
    for kind in ["user", "key", "accounts"] {
        let names = redis.command(&["keys", &format!("kx:*:{kind}:*")]);
        let name = names.split('"').nth(1).unwrap();
        let left = redis.command(&["pttl", name]);
        let left: i64 = left.trim_start_matches("int(").trim_end_matches(')').parse().unwrap();
        // Beyond the five days of which numbers may still be asked for.
        assert!(left > 6 * 24 * 60 * 60 * 1000, "{name}: {left}");
    }
}
