//! Counters in Redis when a gateway is taken for dead, and when Redis forgets.

use super::fixtures::{FAR, SETTINGS, metrics};
use crate::support::redis::Redis;
use domain::caller::Caller;
use domain::id::UserId;
use jiff::Timestamp;
use quota::backend::{Claim, QuotaBackend, TakeOutcome};
use quota::redis::RedisQuota;
use quota::redis::connection::{RedisConn, RedisUrls};
use quota::rules::Demand;
use quota::testing::{caller, charge, claim};
use store::Used;

/// Counters of an empty Redis, and a call that one user has open.
pub(super) struct One {
    pub(super) redis: Redis,
    pub(super) quota: RedisQuota,
    pub(super) caller: Caller,
    pub(super) claim: Claim,
}

impl One {
    pub(super) async fn new() -> Self {
        let redis = Redis::start();
        let connection = RedisConn::open(&RedisUrls::new(vec![redis.url()])).await.unwrap();
        let quota = RedisQuota::new(connection, SETTINGS, metrics());
        quota.begin(&[]).await.unwrap();
        let caller = caller(UserId::new(), 0, 1);
        let need = Demand {
            prompt: 10,
            output: 90,
            least_output: 1,
            likely_output: 90,
            stream: false,
            sliced: false,
        };
        let claim = claim(&caller, need, Timestamp::now());
        let taken = quota.take(claim.clone(), Timestamp::now()).await.unwrap();
        assert!(matches!(taken, TakeOutcome::Granted(_)));
        Self { redis, quota, caller, claim }
    }

    /// Tokens used and reserved, and requests.
    pub(super) async fn usage_snapshot(&self) -> (u64, u64, u64) {
        let (now, key) = (Timestamp::now(), Some(&self.caller.key));
        let day = self.claim.lease.day;
        let snapshot = self.quota.usage_snapshot(self.caller.user, key, day, now).await.unwrap();
        assert_eq!(snapshot.user, snapshot.key);
        let tally = snapshot.user;
        (tally.tokens_used, tally.tokens_reserved, tally.requests_used)
    }

    pub(super) async fn settle(&self, used: u64, counted: bool) {
        self.quota.settle(charge(&self.claim.lease, used, counted)).await;
    }
}

#[tokio::test]
async fn a_late_charge_replaces_the_estimate_of_the_reaper() {
    for (counted, requests) in [(true, 1), (false, 0)] {
        let one = One::new().await;
        assert_eq!(one.usage_snapshot().await, (0, 100, 1));
        one.quota.reap(Some(0)).await.unwrap();
        assert_eq!(one.usage_snapshot().await, (0, 100, 1), "its time has not come");
        one.quota.reap(Some(FAR)).await.unwrap();
        assert_eq!(one.usage_snapshot().await, (100, 0, 1));
        one.settle(30, counted).await;
        assert_eq!(one.usage_snapshot().await, (30, 0, requests));
        one.settle(30, counted).await;
        assert_eq!(one.usage_snapshot().await, (30, 0, requests), "once");
    }
}

#[tokio::test]
async fn counters_of_an_emptied_redis_are_restored() {
    let one = One::new().await;
    one.redis.command(&["flushall"]);
    let again = one.quota.take(one.claim.clone(), Timestamp::now()).await;
    assert!(again.is_err(), "nobody is admitted to counters that are not whole");
    let day = one.claim.lease.day;
    let unknown = one.quota.usage_snapshot(one.caller.user, None, day, Timestamp::now()).await;
    assert!(unknown.is_err(), "usage is unknown, not 0");
    let of = |key| Used { user: one.caller.user, key, day, tokens: 250, requests: 3 };
    one.quota.begin(&[of(None), of(Some(one.caller.key.clone()))]).await.unwrap();
    one.quota.renew().await.unwrap();
    assert_eq!(one.usage_snapshot().await, (250, 100, 4));
    one.quota.renew().await.unwrap();
    one.settle(30, true).await;
    assert_eq!(one.usage_snapshot().await, (280, 0, 4));
}

#[tokio::test]
async fn a_call_whose_lease_is_lost_is_still_charged() {
    let one = One::new().await;
    one.redis.command(&["flushall"]);
    one.quota.begin(&[]).await.unwrap();
    one.settle(30, true).await;
    assert_eq!(one.usage_snapshot().await, (30, 0, 1));
    one.settle(30, true).await;
    assert_eq!(one.usage_snapshot().await, (30, 0, 1), "once");
}
