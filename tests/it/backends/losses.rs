//! Counters in Redis when a gateway is taken for dead, and when Redis forgets.

use super::counters::{FAR, SETTINGS, caller, charge, claim, metrics};
use crate::support::redis::Redis;
use domain::caller::Caller;
use domain::id::UserId;
use jiff::Timestamp;
use quota::counters::{Claim, Counters, Taken};
use quota::redis::RedisCounters;
use quota::redis::connection::{RedisConn, RedisUrls};
use quota::rules::Need;
use store::Used;

/// Counters of an empty Redis, and a call that one user has open.
pub(super) struct One {
    pub(super) redis: Redis,
    pub(super) counters: RedisCounters,
    pub(super) caller: Caller,
    pub(super) claim: Claim,
}

impl One {
    pub(super) async fn new() -> Self {
        let redis = Redis::start();
        let connection = RedisConn::open(&RedisUrls::new(vec![redis.url()])).await.unwrap();
        let counters = RedisCounters::new(connection, SETTINGS, metrics());
        counters.begin(&[]).await.unwrap();
        let caller = caller(UserId::new(), 0, 1);
        let need = Need {
            prompt: 10,
            output: 90,
            least_output: 1,
            likely_output: 90,
            stream: false,
            sliced: false,
        };
        let claim = claim(&caller, need, Timestamp::now());
        let taken = counters.take(claim.clone(), Timestamp::now()).await.unwrap();
        assert!(matches!(taken, Taken::Granted(_)));
        Self { redis, counters, caller, claim }
    }

    /// Tokens used and reserved, and requests.
    pub(super) async fn standing(&self) -> (u64, u64, u64) {
        let (now, key) = (Timestamp::now(), Some(&self.caller.key));
        let day = self.claim.lease.day;
        let standing = self.counters.standing(self.caller.user, key, day, now).await.unwrap();
        assert_eq!(standing.user, standing.key);
        let tally = standing.user;
        (tally.tokens_used, tally.tokens_reserved, tally.requests_used)
    }

    pub(super) async fn settle(&self, used: u64, counted: bool) {
        self.counters.settle(charge(&self.claim.lease, used, counted)).await;
    }
}

#[tokio::test]
async fn a_charge_that_comes_late_takes_the_place_of_the_estimate() {
    for (counted, requests) in [(true, 1), (false, 0)] {
        let one = One::new().await;
        assert_eq!(one.standing().await, (0, 100, 1));
        one.counters.reap(Some(0)).await.unwrap();
        assert_eq!(one.standing().await, (0, 100, 1), "its time has not come");
        one.counters.reap(Some(FAR)).await.unwrap();
        assert_eq!(one.standing().await, (100, 0, 1));
        one.settle(30, counted).await;
        assert_eq!(one.standing().await, (30, 0, requests));
        one.settle(30, counted).await;
        assert_eq!(one.standing().await, (30, 0, requests), "once");
    }
}

#[tokio::test]
async fn what_an_emptied_redis_has_forgotten_comes_back() {
    let one = One::new().await;
    one.redis.command(&["flushall"]);
    let again = one.counters.take(one.claim.clone(), Timestamp::now()).await;
    assert!(again.is_err(), "nobody is admitted to counters that are not whole");
    let day = one.claim.lease.day;
    let of = |key| Used { user: one.caller.user, key, day, tokens: 250, requests: 3 };
    one.counters.begin(&[of(None), of(Some(one.caller.key.clone()))]).await.unwrap();
    one.counters.renew().await.unwrap();
    assert_eq!(one.standing().await, (250, 100, 4));
    one.counters.renew().await.unwrap();
    one.settle(30, true).await;
    assert_eq!(one.standing().await, (280, 0, 4));
}

#[tokio::test]
async fn a_call_whose_lease_is_lost_is_charged_all_the_same() {
    let one = One::new().await;
    one.redis.command(&["flushall"]);
    one.counters.begin(&[]).await.unwrap();
    one.settle(30, true).await;
    assert_eq!(one.standing().await, (30, 0, 1));
    one.settle(30, true).await;
    assert_eq!(one.standing().await, (30, 0, 1), "once");
}
