//! What is brought back to a Redis that has lost it, and when counters may be built from the ledger.
//! Where it matters what comes between two steps, scripts are run one by one.

use super::redis_lost_reply::{NEED, SETTINGS, gateway_with, keep_until};
use crate::backends::store::sqlite;
use crate::support::redis::Redis;
use domain::caller::Caller;
use domain::charge::Charge;
use domain::day::Day;
use domain::id::UserId;
use jiff::{Timestamp, ToSpan};
use quota::backend::{Claim, ExtendOutcome, QuotaBackend, QuotaUnavailable, TakeOutcome};
use quota::redis::{RedisQuota, Settings};
use quota::testing::{caller, charge, claim};
use std::sync::Arc;
use std::time::Duration;
use store::Used;
use store::change_notifier::ChangeNotifier;

const PARTS: &str = concat!(
    include_str!("../../../../crates/quota/src/redis/prelude.lua"),
    include_str!("../../../../crates/quota/src/redis/account.lua"),
    include_str!("../../../../crates/quota/src/redis/lease.lua")
);
const PARTITION_STATE: &str =
    include_str!("../../../../crates/quota/src/redis/partition_state.lua");
const LOAD_ACCOUNTS: &str = include_str!("../../../../crates/quota/src/redis/load_accounts.lua");
const OPEN_PARTITION: &str = include_str!("../../../../crates/quota/src/redis/open_partition.lua");
const RESTORING: &str = include_str!("../../../../crates/quota/src/redis/restoring.lua");
const ACK_OUTBOX: &str = include_str!("../../../../crates/quota/src/redis/ack_outbox.lua");

/// A time at which every lease has expired, in ms.
pub(super) const LONG_AFTER: Option<i64> = Some(i64::MAX / 1_000_000);

async fn gateway(redis: &Redis) -> Arc<RedisQuota> {
    gateway_with(redis, Settings { lease: Duration::from_secs(60), ..SETTINGS }).await
}

pub(super) fn lease_name(claim: &Claim) -> String {
    format!("lease:{}", claim.lease.request.0.simple())
}

/// The day as scripts take it.
pub(super) fn number_of_day(day: Day) -> String {
    day.to_string().replace('-', "")
}

/// A user of a gateway whose Redis loses what it has.
pub(super) struct Lost {
    pub(super) redis: Redis,
    pub(super) one: Arc<RedisQuota>,
    pub(super) caller: Caller,
    pub(super) now: Timestamp,
}

impl Lost {
    pub(super) async fn new() -> Self {
        let redis = Redis::start();
        let one = gateway(&redis).await;
        Self { redis, one, caller: caller(UserId::new(), 0, 0), now: Timestamp::now() }
    }

    pub(super) fn claim(&self) -> Claim {
        claim(&self.caller, NEED, self.now)
    }

    async fn open(&self, quota: &RedisQuota) -> Claim {
        let claim = self.claim();
        let taken = quota.take(claim.clone(), self.now).await.unwrap();
        assert!(matches!(taken, TakeOutcome::Granted(_)));
        claim
    }

    /// A call of `one` that is over.
    async fn call(&self) -> Charge {
        let charge = charge(&self.open(&self.one).await.lease, 5, true);
        self.one.settle(charge.clone()).await;
        charge
    }

    /// A name in the user's partition.
    pub(super) fn name(&self, rest: &str) -> String {
        format!("kx:{{{}}}:{rest}", self.caller.user.0.as_bytes()[15] % 64)
    }

    fn lease(&self, claim: &Claim) -> String {
        self.name(&lease_name(claim))
    }

    fn deadline(&self, claim: &Claim) -> String {
        let request = claim.lease.request.0.simple().to_string();
        self.redis.command(&["zscore", &self.name("deadlines"), &request])
    }

    pub(super) fn run(&self, script: &str, names: &[&str], arguments: &[&str]) -> String {
        let text = format!("#!lua\n{PARTS}\n{script}");
        let names: Vec<String> = names.iter().map(|name| self.name(name)).collect();
        let count = names.len().to_string();
        let names = names.iter().map(String::as_str);
        let words: Vec<&str> = ["eval", &text, &count]
            .into_iter()
            .chain(names)
            .chain(arguments.iter().copied())
            .collect();
        self.redis.command(&words)
    }

    /// Epoch, number and what waits.
    fn state(&self) -> String {
        self.run(PARTITION_STATE, &["epoch", "settled", "outbox"], &[])
    }

    fn load(&self, epoch: &str, number: &str) -> String {
        let day = Day::at(self.now, &jiff::tz::TimeZone::UTC);
        let account = format!("user:{}", self.caller.user.0.simple());
        let names = ["epoch", "settled", &format!("accounts:{day}"), &account];
        self.run(LOAD_ACCOUNTS, &names, &[&number_of_day(day), epoch, number, "0", "0"])
    }

    fn begin(&self, number: &str) -> String {
        self.run(OPEN_PARTITION, &["epoch", "settled", "bringing"], &["abc", number])
    }

    /// The ids of the charges that wait.
    fn ids(&self) -> Vec<String> {
        const IDS: &str = "local ids = {} \
            for _, one in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do ids[#ids + 1] = one[1] end \
            return table.concat(ids, ' ')";
        let told = self.run(IDS, &["outbox"], &[]);
        let ids = told.split('"').nth(1).unwrap();
        ids.split(' ').map(str::to_owned).collect()
    }

    /// Another gateway has written these.
    fn write(&self, ids: &[String]) {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.run(ACK_OUTBOX, &["outbox", "written", "settled"], &ids);
    }

    fn waits(&self) -> bool {
        !self.redis.command(&["xlen", &self.name("outbox")]).contains("int(0)")
    }

    fn number(&self, name: &str) -> u64 {
        let text = self.redis.command(&["get", &self.name(name)]);
        text.split('"').nth(1).map_or(0, |number| number.parse().unwrap())
    }

    /// Tokens used and reserved; `None` during a rebuild.
    async fn usage_snapshot(&self) -> Option<(u64, u64)> {
        let day = self.claim().lease.day;
        let snapshot = self.one.usage_snapshot(self.caller.user, None, day, self.now).await.ok()?;
        Some((snapshot.user.tokens_used, snapshot.user.tokens_reserved))
    }
}

#[tokio::test]
async fn a_ledger_snapshot_older_than_a_charge_is_not_used() {
    let lost = Lost::new().await;
    let open = lost.open(&lost.one).await;
    lost.redis.command(&["flushall"]);
    let before = lost.state();
    assert!(before.contains("int(0), int(0)"), "{before}");
    // The ledger is read now; then the call ends, and another gateway writes its charge.
    lost.one.settle(charge(&open.lease, 5, true)).await;
    let between = lost.state();
    assert!(between.contains("int(1), int(1)"), "what waits is not in the ledger: {between}");
    assert!(lost.load("", "0").contains("again"));
    lost.write(&lost.ids());
    assert!(lost.load("", "0").contains("again"));
    assert!(lost.begin("0").contains("again"));
    assert!(lost.load("", "1").contains("loaded"));
    assert!(lost.begin("1").contains("open"));
    assert!(lost.load("", "1").contains("again"), "one who is late sets nothing");
    assert!(lost.load("abc", "1").contains("loaded"));
    lost.call().await;
    lost.write(&lost.ids());
    assert!(lost.load("abc", "1").contains("again"));
}

#[tokio::test]
async fn no_call_is_admitted_before_every_gateway_restored_its_leases() {
    let lost = Lost::new().await;
    lost.redis.command(&["flushall"]);
    let say = |gateway, ms| lost.run(RESTORING, &["bringing"], &[gateway, ms]);
    say("one", "60000");
    say("two", "60000");
    assert!(lost.begin("0").contains("again"));
    say("one", "0");
    assert!(lost.begin("0").contains("again"));
    // One that dies is waited for no longer than it said.
    say("two", "1");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(lost.begin("0").contains("open"));
}

#[tokio::test]
async fn a_gateway_announces_when_its_restore_is_complete() {
    let lost = Lost::new().await;
    lost.call().await;
    let open = lost.open(&lost.one).await;
    lost.redis.command(&["flushall"]);
    let is_back = || async {
        let lease = lost.redis.command(&["exists", &lost.lease(&open)]).contains("int(1)");
        let brought = lost.redis.command(&["zcard", &lost.name("bringing")]).contains("int(0)");
        lease && lost.waits() && brought
    };
    keep_until(&lost.one, "all is back and said", is_back).await;
}

#[tokio::test]
async fn charges_are_resent_each_time_redis_loses_them() {
    let lost = Lost::new().await;
    lost.call().await;
    keep_until(&lost.one, "a look", || async { true }).await;
    for _ in 0..2 {
        // Without an epoch: they go to the ledger before counters are built from it.
        lost.redis.command(&["flushall"]);
        keep_until(&lost.one, "the charge waits again", || async { lost.waits() }).await;
    }
    lost.write(&lost.ids());
    lost.one.begin(&[]).await.unwrap();
    keep_until(&lost.one, "a look", || async { true }).await;
    assert_eq!(lost.number("settled"), 1, "known again, it is not sent once more");
}

#[tokio::test]
async fn counters_that_lost_a_charge_are_rebuilt_from_the_ledger() {
    let lost = Lost::new().await;
    let charge = lost.call().await;
    lost.write(&lost.ids());
    keep_until(&lost.one, "two looks", || async { lost.number("written") == 1 }).await;
    // Redis comes back as it was before the call.
    let tombstone = format!("lease:{}", charge.request.0.simple());
    let account = format!("user:{}", charge.user.0.simple());
    for name in [&*tombstone, &account, "settled", "written"] {
        lost.redis.command(&["del", &lost.name(name)]);
    }
    keep_until(&lost.one, "it is counted", || async {
        lost.usage_snapshot().await.is_some_and(|(used, _)| used == 5)
    })
    .await;
}

#[tokio::test]
async fn a_partly_lost_lease_is_restored() {
    let lost = Lost::new().await;
    lost.call().await;
    let open = lost.open(&lost.one).await;
    assert_eq!(lost.one.extend(open.lease.request, 10, 1).await.unwrap(), ExtendOutcome::Added(10));
    keep_until(&lost.one, "a look", || async { lost.usage_snapshot().await == Some((5, 40)) })
        .await;
    // Redis comes back as it was before the latest slice and the charge.
    let (user, key) = (lost.caller.user, &lost.caller.key);
    let day = number_of_day(open.lease.day);
    let less = "local account = load(KEYS[1], tonumber(ARGV[1])) \
        account[RESERVED] = account[RESERVED] - 10 \
        save(account)";
    for account in [format!("user:{}", user.0.simple()), format!("key:{}:{key}", user.0.simple())] {
        lost.run(less, &[&account], &[&day]);
    }
    lost.run("change_lease(KEYS[1], 30, 0)", &[&lease_name(&open)], &[]);
    lost.redis.command(&["del", &lost.name("settled")]);
    assert_eq!(lost.usage_snapshot().await, Some((5, 30)));
    keep_until(&lost.one, "all is held", || async { lost.usage_snapshot().await == Some((5, 40)) })
        .await;
    lost.one.settle(charge(&open.lease, 7, true)).await;
    assert_eq!(lost.usage_snapshot().await, Some((12, 0)));
}

#[tokio::test]
async fn acknowledging_an_outbox_entry_twice_counts_it_once() {
    let lost = Lost::new().await;
    lost.call().await;
    let first = lost.ids();
    lost.call().await;
    lost.call().await;
    let all = lost.ids();
    assert_eq!(all.len(), 3);
    lost.write(&first);
    assert_eq!(lost.number("written"), 1);
    lost.write(&all);
    assert_eq!(lost.number("written"), 3);
}

#[tokio::test]
async fn a_lease_whose_charge_cannot_be_read_is_kept() {
    let lost = Lost::new().await;
    let open = lost.open(&lost.one).await;
    let other = gateway(&lost.redis).await;
    let lease = lost.lease(&open);
    let copy = lost.name("copy");
    lost.redis.command(&["copy", &lease, &copy]);
    let unreadable = "local reserved, expected, day, debits = decode_lease(redis.call('GET', KEYS[1])) \
        redis.call('SET', KEYS[1], encode_lease(reserved, expected, 0, day, debits, ARGV[1]))";
    lost.run(unreadable, &[&lease_name(&open)], &["{\"version\":2}"]);
    for _ in 0..2 {
        other.reap(LONG_AFTER).await.unwrap();
        assert!(!lost.deadline(&open).contains("nil"));
        assert_eq!(lost.usage_snapshot().await, Some((0, 30)));
    }
    // Another version of the gateway can read it.
    lost.redis.command(&["rename", &copy, &lease]);
    gateway(&lost.redis).await.reap(LONG_AFTER).await.unwrap();
    assert_eq!(lost.usage_snapshot().await, Some((30, 0)));
}

#[tokio::test]
async fn a_deadline_exists_exactly_as_long_as_its_lease() {
    let lost = Lost::new().await;
    let open = lost.open(&lost.one).await;
    let other = gateway(&lost.redis).await;
    let request = open.lease.request.0.simple().to_string();
    // Lost: it comes back with the next renewal.
    lost.redis.command(&["zrem", &lost.name("deadlines"), &request]);
    lost.one.renew().await.unwrap();
    assert!(!lost.deadline(&open).contains("nil"));
    // Without a lease it goes.
    lost.redis.command(&["del", &lost.lease(&open)]);
    other.reap(LONG_AFTER).await.unwrap();
    assert!(lost.deadline(&open).contains("nil"));
}

#[tokio::test]
async fn a_renewal_reports_the_tokens_so_far() {
    let lost = Lost::new().await;
    let open = lost.open(&lost.one).await;
    open.observed.set(123);
    lost.one.renew().await.unwrap();
    let observed =
        "local _, _, _, _, observed = decode_lease(redis.call('GET', KEYS[1])) return observed";
    assert_eq!(lost.run(observed, &[&lease_name(&open)], &[]), "int(123)");
}

#[tokio::test]
async fn a_reaper_leaves_a_tombstone_of_its_charge() {
    let lost = Lost::new().await;
    let open = lost.open(&lost.one).await;
    let reaper = gateway(&lost.redis).await;
    reaper.reap(LONG_AFTER).await.unwrap();
    let seconds = lost.redis.command(&["ttl", &lost.lease(&open)]);
    let seconds: u64 = seconds.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    assert!(seconds > 60 * 60, "its gateway may sleep for long, and come back");
    keep_until(&reaper, "a look", || async { true }).await;
    lost.redis.command(&["flushall"]);
    keep_until(&reaper, "the charge waits again", || async { lost.waits() }).await;
    // Its gateway lives after all.
    lost.one.settle(charge(&open.lease, 7, true)).await;
    let charges = lost.redis.command(&["xlen", &lost.name("outbox")]);
    assert!(charges.contains("int(2)"), "the true charge follows the estimate: {charges}");
}

#[tokio::test]
async fn a_call_that_resumes_after_being_reaped_is_not_reaped_again() {
    let lost = Lost::new().await;
    let open = lost.open(&lost.one).await;
    let reaper = gateway(&lost.redis).await;
    reaper.reap(LONG_AFTER).await.unwrap();
    keep_until(&reaper, "a look", || async { true }).await;
    lost.redis.command(&["flushall"]);
    lost.one.renew().await.unwrap();
    keep_until(&reaper, "all is said", || async {
        lost.redis.command(&["zcard", &lost.name("bringing")]).contains("int(0)")
    })
    .await;
    lost.one.renew().await.unwrap();
    lost.one.begin(&[]).await.unwrap();
    assert_eq!(lost.usage_snapshot().await, Some((0, 30)));
    lost.one.settle(charge(&open.lease, 7, true)).await;
    assert_eq!(lost.usage_snapshot().await, Some((7, 0)));
}

#[tokio::test]
async fn a_stream_whose_lease_was_lost_continues() {
    let lost = Lost::new().await;
    let request = lost.open(&lost.one).await.lease.request;
    lost.redis.command(&["flushall"]);
    let extended = lost.one.extend(request, 10, 1).await;
    assert_eq!(extended, Err(QuotaUnavailable), "what is used is not known yet");
    lost.one.begin(&[]).await.unwrap();
    assert_eq!(lost.one.extend(request, 10, 1).await.unwrap(), ExtendOutcome::Added(10));
    assert_eq!(lost.usage_snapshot().await, Some((0, 40)));
}

#[tokio::test]
async fn redis_accepts_every_day_of_the_ledger() {
    let lost = Lost::new().await;
    lost.redis.command(&["flushall"]);
    let today = Day::at(lost.now, &jiff::tz::TimeZone::UTC);
    // East of Greenwich tomorrow has begun.
    let days: Vec<Day> = (-2..=1).map(|n| Day(today.0.saturating_add(n.days()))).collect();
    let of = |day: &Day| {
        let (user, key) = (lost.caller.user, None);
        Used { user, key, day: *day, tokens: 9, requests: 1 }
    };
    let used: Vec<Used> = days.iter().map(of).collect();
    lost.one.begin(&used).await.unwrap();
    lost.open(&lost.one).await;
    for row in &used {
        let mut told = lost.one.used_on(row.day).await.unwrap();
        told.retain(|row| row.key.is_none());
        assert_eq!(told, std::slice::from_ref(row));
    }
}

#[tokio::test]
async fn a_failed_notification_is_sent_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut redis = Redis::start_durable();
    let one = gateway(&redis).await;
    let store = sqlite::open(&folder.path().join("knockx.db")).await;
    let publisher = one.change_notifier(store);
    redis.kill();
    assert!(publisher.notify(None).await.is_err());
    redis.restart();
    let is_told = || async { redis.command(&["get", "kx:changes"]).contains('1') };
    keep_until(&one, "it is told", is_told).await;
}
