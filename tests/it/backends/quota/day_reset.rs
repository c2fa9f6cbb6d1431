//! A user's day begun anew: nothing is used, running calls go on, and the ledger follows.

use super::fixtures::metrics;
use super::redis_data_loss::One;
use crate::backends::store::sqlite;
use crate::backends::store::{Any, add_user};
use crate::support::SOON;
use crate::support::journal;
use crate::support::redis::Redis;
use crate::support::soon;
use domain::caller::Caller;
use domain::charge::{Charge, Source, Status};
use domain::day::Day;
use jiff::Timestamp;
use quota::backend::{Claim, Correction, QuotaBackend, RemovedUsage, TakeOutcome};
use quota::redis::connection::{RedisConn, RedisUrls};
use quota::redis::{Clock, ClusterView, HealthPoller, OutboxDrainer, RedisQuota, Settings};
use quota::rules::Demand;
use quota::testing::{caller, charge, claim, reset};
use std::sync::Arc;
use std::time::Duration;
use store::Used;
use system::supervisor::Supervisor;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a user may use in a day, by the plan of the tests' callers.
const LIMIT: u64 = 700;

/// Counters over a store, and a user with two keys, of which the second has no limits of its own.
struct Setup {
    quota: Arc<dyn QuotaBackend>,
    store: Any,
    callers: Vec<Caller>,
    now: Timestamp,
    _folder: TempDir,
}

impl Setup {
    async fn new<C: QuotaBackend>(count: impl AsyncFnOnce(&Any) -> Arc<C>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite::open(&folder.path().join("knockx.db")).await;
        let user = add_user(&store, "a@b.c").await;
        let callers = (0..2).map(|key| {
            let mut caller = caller(user.id, 0, key);
            caller.version = user.version;
            caller.plan_limits.window.capacity = 1_000;
            caller
        });
        let callers = callers.collect();
        let quota = count(&store).await;
        // The ledger keeps milliseconds.
        let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
        Self { quota, store, callers, now, _folder: folder }
    }

    async fn take(&self, key: usize, prompt: u64, output: u64) -> Claim {
        let need = Demand {
            prompt,
            output,
            least_output: 1,
            likely_output: output,
            stream: false,
            sliced: false,
        };
        let claim = claim(&self.callers[key], need, self.now);
        let taken = self.quota.take(claim.clone(), self.now).await.unwrap();
        let TakeOutcome::Granted(grant) = taken else { panic!("{taken:?}") };
        assert_eq!(grant.tokens, prompt + output);
        claim
    }

    async fn settle(&self, claim: &Claim, used: u64) {
        assert_eq!(self.quota.settle(charge(&claim.lease, used, true)).await, 0);
    }

    fn day(&self) -> Day {
        Day::at(self.now, &self.callers[0].plan_limits.time_zone)
    }

    /// Tokens used and reserved, and requests.
    async fn usage_snapshot(&self) -> (u64, u64, u64) {
        self.known_usage().await.unwrap()
    }

    /// The same; `None` during a rebuild.
    async fn known_usage(&self) -> Option<(u64, u64, u64)> {
        let user = self.callers[0].user;
        let tally = self.quota.usage_snapshot(user, None, self.day(), self.now).await.ok()?.user;
        Some((tally.tokens_used, tally.tokens_reserved, tally.requests_used))
    }

    /// Counters, ledger and rollups say the same.
    async fn books_agree(&self) {
        let sorted = |mut rows: Vec<Used>| {
            rows.retain(|row| (row.tokens, row.requests) != (0, 0));
            rows.sort_by_key(|row| row.key.clone());
            rows
        };
        let counted = sorted(self.quota.used_on(self.day()).await.unwrap());
        soon("the ledger has all of it", || async {
            sorted(self.store.ledger_totals(self.day()).await.unwrap()) == counted
        })
        .await;
        assert_eq!(sorted(self.store.used_since(self.day()).await.unwrap()), counted);
        assert_eq!(self.store.rollup_drift(self.day()).await.unwrap(), []);
    }

    /// What every back end must do.
    async fn plays(&self) -> Claim {
        for key in [0, 1] {
            let ended = self.take(key, 10, 90).await;
            self.settle(&ended, 100).await;
        }
        let running = self.take(0, 10, 40).await;
        assert_eq!(self.usage_snapshot().await, (200, 50, 3));

        let reset_now = reset(&self.callers, self.now);
        let removed = RemovedUsage { tokens: 200, requests: 2 };
        for _ in 0..2 {
            assert_eq!(self.quota.reset(&reset_now).await.unwrap(), removed);
            assert_eq!(self.usage_snapshot().await, (0, 50, 1));
        }
        let another = reset(&self.callers, self.now);
        assert_eq!(self.quota.reset(&another).await.unwrap(), RemovedUsage::default());

        self.settle(&running, 30).await;
        assert_eq!(self.usage_snapshot().await, (30, 0, 1));
        assert_eq!(self.quota.reset(&reset_now).await.unwrap(), removed);
        assert_eq!(
            self.usage_snapshot().await,
            (30, 0, 1),
            "what came later is not a repeated reset's"
        );

        let rest = self.take(1, 10, LIMIT - 30 - 10).await;
        let need = Demand {
            prompt: 1,
            output: 0,
            least_output: 0,
            likely_output: 0,
            stream: false,
            sliced: false,
        };
        let more = claim(&self.callers[1], need, self.now);
        let refused = self.quota.take(more, self.now).await.unwrap();
        assert!(matches!(refused, TakeOutcome::Refused(_)), "{refused:?}");
        self.settle(&rest, 400).await;
        let snapshot = (430, 0, 2);
        assert_eq!(self.usage_snapshot().await, snapshot);
        self.books_agree().await;
        let calls = self.store.charges(self.day()).await.unwrap();
        assert_eq!(calls.len(), 4, "the ledger tells of every call all the same");
        self.take(0, 10, 40).await
    }

    /// What was charged by an estimate is set right once, up or down, in counters and ledger.
    async fn sets_right(&self) {
        for used in [90, 5] {
            let (before, claim) = (self.usage_snapshot().await, self.take(1, 10, 90).await);
            let (status, source) = (Status::CutByClient, Source::Estimated);
            let estimate = Charge { status, source, ..charge(&claim.lease, 40, true) };
            self.quota.settle(estimate.clone()).await;
            let charge = Charge { status, ..charge(&claim.lease, used, true) };
            let correction = Correction { charge: charge.clone(), before: 40 };
            for _ in 0..2 {
                self.quota.correct(&correction).await.unwrap();
                let snapshot = (before.0 + used, before.1, before.2 + 1);
                assert_eq!(self.usage_snapshot().await, snapshot);
            }
            let row = || self.store.charge(charge.request);
            let is_reported =
                || async { row().await.unwrap().is_some_and(|row| row.source == Source::Reported) };
            soon("the ledger has it", is_reported).await;
            assert_eq!(row().await.unwrap(), Some(charge.clone()));
            self.books_agree().await;
        }
    }
}

#[tokio::test]
async fn a_reset_clears_the_day_in_memory() {
    let (workers, stop) = (Supervisor::default(), CancellationToken::new());
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let on = (&workers, &stop);
    let count = async |store: &Any| Arc::new(journal::quota(store, &[], &one, on).await);
    let mut setup = Setup::new(count).await;
    let running = setup.plays().await;
    setup.settle(&running, 20).await;

    setup.quota.used_on(setup.day()).await.unwrap();
    let used = setup.store.used_since(setup.day()).await.unwrap();
    setup.quota = Arc::new(journal::quota(&setup.store, &used, &two, on).await);
    assert_eq!(setup.usage_snapshot().await, (450, 0, 3), "after a restart");
    setup.books_agree().await;
    let again = reset(&setup.callers, setup.now);
    let removed = RemovedUsage { tokens: 450, requests: 3 };
    assert_eq!(setup.quota.reset(&again).await.unwrap(), removed);
    assert_eq!(setup.usage_snapshot().await, (0, 0, 0));
    setup.books_agree().await;
    setup.sets_right().await;
    let last = reset(&setup.callers, setup.now);
    setup.quota.reset(&last).await.unwrap();

    stop.cancel();
    tokio::time::timeout(SOON, workers.wait()).await.unwrap();
    let late = reset(&setup.callers, setup.now);
    setup.quota.reset(&late).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_clears_the_day_in_redis() {
    let (workers, stop, redis) = (Supervisor::default(), CancellationToken::new(), Redis::start());
    let mut views = None;
    let count = async |store: &Any| {
        let connection = RedisConn::open(&RedisUrls::new(vec![redis.url()])).await.unwrap();
        let second = Duration::from_secs(1);
        let lease = Duration::from_secs(60);
        let settings =
            Settings { clock: Clock::Redis, lease, max_backlog: u64::MAX, compare: second };
        let quota = Arc::new(RedisQuota::new(connection, settings, metrics()));
        let (changed, tasks) = (Arc::new(Notify::new()), TaskTracker::new());
        let poller = HealthPoller::new(Arc::clone(&quota), metrics(), changed, tasks);
        let (store, all) = (Arc::clone(store), poller.views());
        let drainer = OutboxDrainer::new(Arc::clone(&quota), store, metrics(), poller.views());
        views = Some(all);
        workers.spawn("poller", poller.run(stop.clone()));
        workers.spawn("drainer", drainer.run(stop.clone()));
        quota
    };
    let setup = Setup::new(count).await;
    let mut views = views.unwrap();
    let whole = tokio::time::timeout(SOON, views.wait_for(ClusterView::is_open)).await;
    drop(whole.unwrap().unwrap());
    let running = setup.plays().await;
    assert_eq!(setup.usage_snapshot().await, (430, 50, 3));

    redis.command(&["flushall"]);
    let rebuilt = Some((430, 50, 3));
    soon("the counters are rebuilt", || async { setup.known_usage().await == rebuilt }).await;
    let whole = tokio::time::timeout(SOON, views.wait_for(ClusterView::is_open)).await;
    drop(whole.unwrap().unwrap());
    setup.settle(&running, 20).await;
    assert_eq!(setup.usage_snapshot().await, (450, 0, 3));
    setup.books_agree().await;

    let again = reset(&setup.callers, setup.now);
    let removed = RemovedUsage { tokens: 450, requests: 3 };
    assert_eq!(setup.quota.reset(&again).await.unwrap(), removed);
    setup.books_agree().await;
    assert_eq!(setup.usage_snapshot().await, (0, 0, 0));

    setup.sets_right().await;

    // What cannot be read is kept for a person to look at, and holds up nothing.
    let partition = setup.callers[0].user.0.as_bytes()[15] % 64;
    let name = |rest: &str| format!("kx:{{{partition}}}:{rest}");
    let number = redis.command(&["incr", &name("settled")]);
    let entry = ["xadd", &name("outbox"), "*", "adjust", "{}", "n", &number];
    redis.command(&entry);
    soon("it is buried", || async { setup.store.count_dead_letters().await.unwrap() == 1 }).await;
    let last = setup.take(1, 10, 10).await;
    setup.settle(&last, 20).await;
    setup.books_agree().await;
    stop.cancel();
    tokio::time::timeout(SOON, workers.wait()).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_lost_its_data_rejects_a_reset() {
    let one = One::new().await;
    one.settle(30, true).await;
    one.redis.command(&["flushall"]);
    let reset = reset(std::slice::from_ref(&one.caller), Timestamp::now());
    one.quota.reset(&reset).await.unwrap_err();
    let of = |key| Used {
        user: one.caller.user,
        key,
        day: one.claim.lease.day,
        tokens: 30,
        requests: 1,
    };
    one.quota.begin(&[of(None), of(Some(one.caller.key.clone()))]).await.unwrap();
    let removed = RemovedUsage { tokens: 30, requests: 1 };
    assert_eq!(one.quota.reset(&reset).await.unwrap(), removed);
    assert_eq!(one.usage_snapshot().await, (0, 0, 0));
}
