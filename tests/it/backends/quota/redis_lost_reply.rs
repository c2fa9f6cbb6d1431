//! What becomes of a call whose gateway and Redis did not hear each other for a while.

use super::fixtures::metrics;
use crate::support::redis::Redis;
use crate::support::soon;
use domain::id::UserId;
use jiff::Timestamp;
use quota::backend::{QuotaBackend, TakeOutcome, UsageSnapshot};
use quota::redis::connection::{RedisConn, RedisUrls};
use quota::redis::{Clock, HealthPoller, RedisQuota, Settings};
use quota::rules::Demand;
use quota::testing::{caller, charge, claim};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) const SETTINGS: Settings = Settings {
    clock: Clock::Redis,
    lease: Duration::from_millis(100),
    max_backlog: u64::MAX,
    compare: Duration::from_secs(60),
};

async fn gateway(redis: &Redis) -> Arc<RedisQuota> {
    gateway_with(redis, SETTINGS).await
}

pub(super) async fn gateway_with(redis: &Redis, settings: Settings) -> Arc<RedisQuota> {
    let connection = RedisConn::open(&RedisUrls::new(vec![redis.url()])).await.unwrap();
    let quota = Arc::new(RedisQuota::new(connection, settings, metrics()));
    quota.begin(&[]).await.unwrap();
    quota
}

/// Keeps the calls of `counters` until `done`.
pub(super) async fn keep_until<F: Future<Output = bool>>(
    quota: &Arc<RedisQuota>,
    what: &str,
    done: impl Fn() -> F,
) {
    let stop = CancellationToken::new();
    let changed = Arc::new(Notify::new());
    let poller = HealthPoller::new(Arc::clone(quota), metrics(), changed, TaskTracker::new());
    let mut views = poller.views();
    let keeping = tokio::spawn(poller.run(stop.clone()));
    views.changed().await.unwrap();
    soon(what, done).await;
    stop.cancel();
    keeping.await.unwrap();
}

pub(super) const NEED: Demand = Demand {
    prompt: 10,
    output: 20,
    least_output: 1,
    likely_output: 20,
    stream: true,
    sliced: false,
};

#[tokio::test]
async fn a_lost_charge_is_resent_although_its_number_was_reused() {
    let redis = Redis::start();
    let (one, two) = (gateway(&redis).await, gateway(&redis).await);
    let (caller, now) = (caller(UserId::new(), 0, 0), Timestamp::now());
    let call = async |quota: &RedisQuota, used| {
        let claim = claim(&caller, NEED, now);
        assert!(matches!(quota.take(claim.clone(), now).await.unwrap(), TakeOutcome::Granted(_)));
        quota.settle(charge(&claim.lease, used, true)).await;
        claim.lease.day
    };
    let day = call(&one, 5).await;
    keep_until(&one, "a look", || async { true }).await;

    redis.command(&["flushall"]);
    two.begin(&[]).await.unwrap();
    // The first of the new epoch, as the other was of the old.
    call(&two, 7).await;
    let used = || async {
        two.usage_snapshot(caller.user, None, day, now).await.unwrap().user.tokens_used == 12
    };
    keep_until(&one, "the charge comes back", used).await;
}

#[tokio::test]
async fn a_rejected_call_costs_nothing_after_an_unconfirmed_take_was_reaped() {
    let redis = Redis::start();
    // The one whose take goes unheard has no poller: it hangs for longer than its lease.
    let (unheard, other) = (gateway(&redis).await, gateway(&redis).await);
    let (caller, now) = (caller(UserId::new(), 0, 0), Timestamp::now());
    let claim = claim(&caller, NEED, now);
    assert!(matches!(unheard.take(claim.clone(), now).await.unwrap(), TakeOutcome::Granted(_)));
    let day = claim.lease.day;
    let snapshot =
        || async { other.usage_snapshot(caller.user, Some(&caller.key), day, now).await.unwrap() };

    keep_until(&other, "the call is charged", || async { snapshot().await.user.tokens_used == 30 })
        .await;

    for _ in 0..2 {
        unheard.rollback_take(&claim.lease).await.unwrap();
        let UsageSnapshot { user, key, streams_open, .. } = snapshot().await;
        assert_eq!((user.tokens_used, user.tokens_reserved, user.requests_used), (0, 0, 0));
        assert_eq!((key.tokens_used, key.tokens_reserved, key.requests_used), (0, 0, 0));
        assert_eq!(streams_open, 0);
    }
    assert_eq!(unheard.open_leases(), 0);
}

#[tokio::test]
async fn a_take_confirmed_after_it_was_reaped_costs_nothing() {
    let redis = Redis::start();
    let (unheard, other) = (gateway(&redis).await, gateway(&redis).await);
    let (caller, now) = (caller(UserId::new(), 0, 0), Timestamp::now());
    let claim = claim(&caller, NEED, now);
    assert!(matches!(unheard.take(claim.clone(), now).await.unwrap(), TakeOutcome::Granted(_)));
    let day = claim.lease.day;
    let used = || async {
        let UsageSnapshot { user, .. } =
            other.usage_snapshot(caller.user, None, day, now).await.unwrap();
        (user.tokens_used, user.tokens_reserved, user.requests_used)
    };
    keep_until(&other, "the call is charged", || async { used().await == (30, 0, 1) }).await;

    // As a gateway does that was frozen for so long: nothing had come, so it asks once more.
    let awake = gateway(&redis).await;
    assert!(awake.take(claim.clone(), now).await.is_err());
    keep_until(&awake, "it is taken back", || async { used().await == (0, 0, 0) }).await;
    assert_eq!(awake.open_leases(), 0);
}
