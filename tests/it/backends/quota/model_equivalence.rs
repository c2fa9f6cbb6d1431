//! One random history for the model and every back end: the same answers, the same numbers.
//!
//! The model is [`QuotaState`], which has an oracle of its own.

use super::fixtures::{FAR, SETTINGS, metrics};
use crate::backends::store::sqlite;
use crate::support::journal;
use crate::support::redis::Redis;
use domain::caller::Caller;
use domain::day::Day;
use domain::id::{RequestId, UserId};
use domain::plan::Window;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use quota::backend::{Claim, ExtendOutcome, QuotaBackend, RemovedUsage, TakeOutcome};
use quota::model::QuotaState;
use quota::redis::RedisQuota;
use quota::redis::connection::{RedisConn, RedisUrls};
use quota::rules::{Demand, Scope};
use quota::testing::{
    BEGINNING, KEYS, USERS, any_demand, any_window, caller, charge, claim, reset,
};
use std::collections::HashMap;
use system::supervisor::Supervisor;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const CALLS: usize = 16;
/// On each of the two Redis set-ups; `KNOCKX_HISTORIES` sets another number.
const CASES: u32 = 400;
/// In memory: each reset waits for the ledger.
const MEMORY_CASES: u32 = 250;

#[derive(Debug, Clone)]
enum Step {
    Take {
        call: usize,
        user: usize,
        key: usize,
        need: Demand,
    },
    /// The same command again, as after a lost answer.
    TakeAgain {
        call: usize,
    },
    Extend {
        call: usize,
        want: u64,
        least: u64,
    },
    /// Carried out, but the answer is lost; then another is asked for.
    ExtendUnheard {
        call: usize,
        want: u64,
        least: u64,
    },
    Settle {
        call: usize,
        used: u64,
        counted: bool,
    },
    Withdraw {
        call: usize,
    },
    /// The user's day begins anew; the command is sent twice.
    Reset {
        user: usize,
    },
    /// Deadlines are put off: no number changes.
    Renew,
    /// All gateways are taken for dead; then they come back and say that the estimates were right.
    Reap,
    Wait {
        ms: i64,
    },
    /// The clock of another process may be behind.
    Back {
        ms: i64,
    },
    ChangePlan {
        user: usize,
        tokens: u64,
        requests: u64,
        window: Window,
        streams: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let call = 0..CALLS;
    prop_oneof![
        32 => (call.clone(), 0..USERS, 0..KEYS, any_demand())
            .prop_map(|(call, user, key, need)| Step::Take { call, user, key, need }),
        4 => call.clone().prop_map(|call| Step::TakeAgain { call }),
        16 => (call.clone(), 0..150_u64, 0..20_u64)
            .prop_map(|(call, want, least)| Step::Extend { call, want, least }),
        4 => (call.clone(), 0..150_u64, 0..20_u64)
            .prop_map(|(call, want, least)| Step::ExtendUnheard { call, want, least }),
        24 => (call.clone(), 0..250_u64, any::<bool>())
            .prop_map(|(call, used, counted)| Step::Settle { call, used, counted }),
        4 => call.prop_map(|call| Step::Withdraw { call }),
        2 => (0..USERS).prop_map(|user| Step::Reset { user }),
        4 => Just(Step::Renew),
        // Looks at all partitions.
        1 => Just(Step::Reap),
        24 => (0..1_500_i64).prop_map(|ms| Step::Wait { ms }),
        4 => (0..86_400_000_i64).prop_map(|ms| Step::Wait { ms }),
        4 => (0..2_000_i64).prop_map(|ms| Step::Back { ms }),
        4 => (0..USERS, 0..900_u64, 0..12_u64, any_window(0..4), 0..4_u32).prop_map(
            |(user, tokens, requests, window, streams)| {
                Step::ChangePlan { user, tokens, requests, window, streams }
            }
        ),
    ]
}

/// The model and a back end side by side, with users of their own.
struct Pair<'a> {
    model: QuotaState,
    quota: &'a dyn QuotaBackend,
    /// Absent for counters in memory, which lose no answers and have no other gateways.
    redis: Option<RedisSide<'a>>,
    callers: Vec<Vec<Caller>>,
    calls: HashMap<usize, Claim>,
    /// Tokens that each call holds.
    held: HashMap<RequestId, u64>,
    now: i64,
}

/// What only counters in Redis do.
struct RedisSide<'a> {
    quota: &'a RedisQuota,
    /// Another handle, which receives answers that the first does not.
    other: RedisQuota,
}

impl<'a> Pair<'a> {
    fn new(quota: &'a dyn QuotaBackend, redis: Option<RedisSide<'a>>) -> Self {
        let callers = (0..USERS).map(|user| {
            let id = UserId::new();
            (0..KEYS).map(|key| caller(id, user, key)).collect()
        });
        let callers = callers.collect();
        let (model, calls, held) = (QuotaState::default(), HashMap::new(), HashMap::new());
        Self { model, quota, redis, callers, calls, held, now: BEGINNING }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now).unwrap()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Take { call, .. } if self.calls.contains_key(&call) => {}
            Step::Take { call, user, key, need } => {
                let claim = claim(&self.callers[user][key], need, self.time());
                if self.take(&claim).await {
                    self.calls.insert(call, claim);
                }
            }
            Step::TakeAgain { call } => {
                if let Some(claim) = self.calls.get(&call).cloned() {
                    assert!(self.take(&claim).await, "taken before");
                }
            }
            Step::ExtendUnheard { call, want, least } if self.redis.is_some() => {
                self.unheard(call, want, least).await;
            }
            Step::Extend { call, want, least } | Step::ExtendUnheard { call, want, least } => {
                self.extend(call, want, least).await;
            }
            Step::Settle { call, used, counted } => self.settle(call, used, counted).await,
            Step::Withdraw { call } => self.withdraw(call).await,
            Step::Reset { user } => self.reset(user).await,
            Step::Renew => {
                if let Some(redis) = &self.redis {
                    redis.quota.renew().await.unwrap();
                }
            }
            Step::Reap => self.reap().await,
            Step::Wait { ms } => self.now += ms,
            Step::Back { ms } => self.now -= ms,
            Step::ChangePlan { user, tokens, requests, window, streams } => {
                for caller in &mut self.callers[user] {
                    let plan = &mut caller.plan_limits;
                    plan.tokens_per_day = tokens;
                    plan.requests_per_day = requests;
                    plan.concurrent_streams = streams;
                    plan.window = window;
                    caller.version += 1;
                }
            }
        }
    }

    async fn take(&mut self, claim: &Claim) -> bool {
        let now = self.time();
        let got = self.quota.take(claim.clone(), now).await.unwrap();
        match self.model.take(claim, now) {
            Ok(grant) => {
                assert_eq!(got, TakeOutcome::Granted(grant));
                self.held.insert(claim.lease.request, grant.tokens);
                true
            }
            Err(refused) => {
                assert_eq!(got, TakeOutcome::Refused(refused));
                false
            }
        }
    }

    async fn extend(&mut self, call: usize, want: u64, least: u64) {
        let Some(claim) = self.calls.get(&call) else { return };
        let request = claim.lease.request;
        let expected = self.model.extend(request, want, least).0;
        let got = self.quota.extend(request, want, least).await.unwrap();
        assert_eq!(got, expected);
        self.raise(request, expected);
    }

    async fn withdraw(&mut self, call: usize) {
        let Some(redis) = &self.redis else { return };
        let Some(claim) = self.calls.remove(&call) else { return };
        self.model.undo(claim.lease.request);
        redis.quota.rollback_take(&claim.lease).await.unwrap();
        redis.quota.rollback_take(&claim.lease).await.unwrap();
    }

    async fn unheard(&mut self, call: usize, want: u64, least: u64) {
        let (Some(redis), Some(claim)) = (&self.redis, self.calls.get(&call).cloned()) else {
            return;
        };
        let request = claim.lease.request;
        let again = redis.other.take(claim, self.time()).await.unwrap();
        assert!(matches!(again, TakeOutcome::Granted(_)));
        let expected = self.model.extend(request, want, least).0;
        assert_eq!(redis.other.extend(request, want, least).await.unwrap(), expected);
        if let ExtendOutcome::Added(tokens) = expected {
            let heard = self.quota.extend(request, 9, 1).await.unwrap();
            assert_eq!(heard, ExtendOutcome::Added(tokens), "what was added unheard, and no more");
            self.raise(request, expected);
        }
    }

    fn raise(&mut self, request: RequestId, extended: ExtendOutcome) {
        if let ExtendOutcome::Added(tokens) = extended {
            *self.held.get_mut(&request).unwrap() += tokens;
        }
    }

    async fn reset(&mut self, user: usize) {
        let reset = reset(&self.callers[user], self.time());
        let adjustments = self.model.reset(&reset);
        let expected = RemovedUsage {
            tokens: adjustments.iter().map(|one| one.tokens.unsigned_abs()).sum(),
            requests: adjustments.iter().map(|one| one.requests.unsigned_abs()).sum(),
        };
        for _ in 0..2 {
            assert_eq!(self.quota.reset(&reset).await.unwrap(), expected);
        }
    }

    async fn reap(&mut self) {
        if let Some(redis) = &self.redis {
            redis.quota.reap(Some(FAR)).await.unwrap();
        }
        for (_, claim) in std::mem::take(&mut self.calls) {
            let charge = charge(&claim.lease, self.held[&claim.lease.request], true);
            self.model.settle(&charge).unwrap();
            self.quota.settle(charge).await;
        }
    }

    async fn settle(&mut self, call: usize, used: u64, counted: bool) {
        let Some(claim) = self.calls.remove(&call) else { return };
        let charge = charge(&claim.lease, used, counted);
        let expected = self.model.settle(&charge).unwrap();
        assert_eq!(self.quota.settle(charge.clone()).await, expected.overshoot);
        assert_eq!(self.quota.settle(charge).await, 0, "a second settlement changes nothing");
    }

    async fn compare(&self) {
        for keys in &self.callers {
            let (user, zone) = (keys[0].user, &keys[0].plan_limits.time_zone);
            let day = Day::at(self.time(), zone);
            let key = Some(&keys[1].key);
            let got = self.quota.usage_snapshot(user, key, day, self.time()).await.unwrap();
            assert_eq!(got, self.model.usage_snapshot(user, key, day, self.time()));
        }
    }

    /// The report of a day, as `usage verify` reads it.
    async fn compare_reports(&self) {
        let owner = |scope: &Scope| match scope {
            Scope::User(user) => Some(*user),
            Scope::Key(key) => {
                let mut all = self.callers.iter().flatten();
                all.find(|caller| caller.key == *key).map(|caller| caller.user)
            }
        };
        let day = Day::at(self.time(), &TimeZone::UTC);
        let mut expected = self.model.used_on(day, owner);
        let mut got = self.quota.used_on(day).await.unwrap();
        got.retain(|row| self.callers.iter().any(|keys| keys[0].user == row.user));
        expected.sort_by_key(|row| (row.user, row.key.clone()));
        got.sort_by_key(|row| (row.user, row.key.clone()));
        assert_eq!(got, expected);
    }
}

/// Plays `cases` histories on `connection`.
fn play_redis(runtime: &Runtime, connection: &RedisConn, cases: u32) {
    let quota = RedisQuota::new(connection.clone(), SETTINGS, metrics());
    runtime.block_on(quota.begin(&[])).unwrap();
    let side = || RedisSide {
        quota: &quota,
        other: RedisQuota::new(connection.clone(), SETTINGS, metrics()),
    };
    play(runtime, &quota, || Some(side()), cases);
}

/// Plays `cases` histories on `counters`.
fn play<'a>(
    runtime: &Runtime,
    quota: &'a dyn QuotaBackend,
    redis: impl Fn() -> Option<RedisSide<'a>>,
    cases: u32,
) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let played = std::cell::Cell::new(0_u32);
    proptest!(config, |(steps in prop::collection::vec(step(), 1..40))| {
        runtime.block_on(async {
            let mut pair = Pair::new(quota, redis());
            // Most answers tell the numbers too, so looking now and then is enough.
            for (number, step) in steps.into_iter().enumerate() {
                pair.step(step).await;
                if number % 8 == 7 {
                    pair.compare().await;
                }
            }
            pair.compare().await;
            played.set(played.get() + 1);
            if played.get() % 100 == 1 {
                pair.compare_reports().await;
            }
            for call in 0..CALLS {
                pair.settle(call, 7, true).await;
            }
            pair.compare().await;
        });
    });
    assert_eq!(quota.open_leases(), 0);
}

fn redis_cases() -> u32 {
    std::env::var("KNOCKX_HISTORIES").map_or(CASES, |number| number.parse().unwrap())
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn redis_matches_the_model() {
    let (redis, runtime) = (Redis::start(), runtime());
    let urls = RedisUrls::new(vec![redis.url()]);
    let connection = runtime.block_on(RedisConn::open(&urls)).unwrap();
    play_redis(&runtime, &connection, redis_cases());
}

#[test]
fn a_redis_cluster_matches_the_model() {
    let (redis, runtime) = (Redis::start_cluster(), runtime());
    let urls = RedisUrls::new(vec![redis.url()]);
    let connection = runtime.block_on(RedisConn::open_cluster(&urls)).unwrap();
    play_redis(&runtime, &connection, redis_cases());
}

#[test]
fn memory_counters_match_the_model() {
    let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
    let (workers, stop) = (Supervisor::default(), CancellationToken::new());
    let quota = runtime.block_on(async {
        let store = sqlite::open(&folder.path().join("knockx.db")).await;
        journal::quota(&store, &[], &folder.path().join("journal"), (&workers, &stop)).await
    });
    play(&runtime, &quota, || None, MEMORY_CASES);
    stop.cancel();
    runtime.block_on(workers.wait());
}
