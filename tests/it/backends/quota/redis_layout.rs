//! How accounts and leases are stored in Redis, and those that earlier versions of the gateway stored.

use super::redis_lost_reply::NEED;
use super::redis_rebuild::{LONG_AFTER, Lost, lease_name, number_of_day};
use domain::charge::{Charge, Lease, TokenCount};
use domain::day::Day;
use domain::key::KeyLimits;
use domain::testing::wide_limits;
use jiff::ToSpan;
use quota::backend::{Claim, Correction, QuotaBackend, TakeOutcome};
use quota::testing::{charge, claim};
use store::Used;

/// Debits of a call as earlier gateways stored them, and as the earliest did.
const OLD_DEBITS: &str = "u window 1 1\nu request DAY 100\nk request DAY 100\nu tokens DAY 1000 30 1 0 30\n\
    k tokens DAY 9007199254740991 30 1 0 30\nu stream 3\n";
const EARLIEST_DEBITS: &str = "u window 1 1\nu request DAY 100\nk request DAY 100\nu tokens DAY 1000 30 1\n\
    k tokens DAY 9007199254740991 30 1\nu stream 3\n";

fn day_before(day: Day) -> Day {
    Day(day.0.checked_sub(1.day()).unwrap())
}

impl Lost {
    fn accounts(&self) -> [String; 2] {
        let (user, key) = (self.caller.user.0.simple(), &self.caller.key);
        [format!("user:{user}"), format!("key:{user}:{key}")]
    }

    fn kind(&self, name: &str) -> String {
        self.redis.command(&["type", &self.name(name)])
    }

    /// Stores the accounts as hashes: yesterday with usage; today with usage and one running call that has 25 tokens
    /// reserved and 5 more expected.
    fn store_old_accounts(&self, today: Day) {
        let yesterday = day_before(today);
        for account in self.accounts() {
            let today_text = "u 70 r 25 e 5 q 4 o 1".split(' ').collect::<Vec<_>>();
            let yesterday_text = "u 900 r 0 q 9 o 0".split(' ').collect::<Vec<_>>();
            let fields = |day: Day, words: &[&str]| -> Vec<String> {
                words
                    .chunks(2)
                    .flat_map(|pair| [format!("{day}:{}", pair[0]), pair[1].to_owned()])
                    .collect()
            };
            let mut words = vec!["hset".to_owned(), self.name(&account)];
            words.extend(fields(today, &today_text));
            words.extend(fields(yesterday, &yesterday_text));
            words.extend("s 1 bu 0 bt 1 bc 1 bs 1".split(' ').map(str::to_owned));
            self.redis.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
            for day in [today, yesterday] {
                let accounts = self.name(&format!("accounts:{day}"));
                self.redis.command(&["sadd", &accounts, &self.name(&account)]);
            }
        }
    }

    /// Stores the lease of that call as a hash.
    fn store_old_lease(&self, claim: &Claim, debits: &str) {
        let lease = &claim.lease;
        let debits = debits.replace("DAY", &lease.day.to_string());
        let abandoned = Charge::abandoned(lease, TokenCount::default());
        let abandoned = serde_json::to_string(&abandoned).unwrap();
        let name = self.name(&lease_name(claim));
        let words = ["hset", &name, "reserved", "25", "expected", "5", "so_far", "3"];
        let more = ["debits", &debits, "charge", &abandoned];
        self.redis.command(&[&words[..], &more[..]].concat());
        let request = lease.request.0.simple().to_string();
        self.redis.command(&["zadd", &self.name("deadlines"), "1", &request]);
    }

    fn store_old_tombstone(&self, lease: &Lease, tombstone: &str) {
        let name = self.old_tombstone(lease);
        self.redis.command(&["set", &name, tombstone, "px", "60000"]);
    }

    fn old_tombstone(&self, lease: &Lease) -> String {
        self.name(&format!("ended:{}", lease.request.0.simple()))
    }

    /// Tokens used, tokens reserved and requests of the user and the key on a day.
    async fn on(&self, day: Day) -> [(u64, u64, u64); 2] {
        let key = Some(&self.caller.key);
        let seen = self.one.usage_snapshot(self.caller.user, key, day, self.now).await.unwrap();
        [seen.user, seen.key].map(|of| (of.tokens_used, of.tokens_reserved, of.requests_used))
    }

    /// Asserts that no account has anything of a running call left.
    fn assert_idle(&self, day: Day) {
        let left = "local account = load(KEYS[1], tonumber(ARGV[1])) \
            return { account[RESERVED], account[EXPECTED], account[OPEN] }";
        for account in self.accounts() {
            let left = self.run(left, &[&account], &[&number_of_day(day)]);
            assert_eq!(left, "array([int(0), int(0), int(0)])", "{account}");
        }
        let streams = "return load(KEYS[1], tonumber(ARGV[1]))[STREAMS]";
        let [user, _] = self.accounts();
        assert_eq!(self.run(streams, &[&user], &[&number_of_day(day)]), "int(0)");
    }

    async fn used_on(&self, day: Day) -> Vec<(u64, u64)> {
        let rows: Vec<Used> = self.one.used_on(day).await.unwrap();
        rows.iter().map(|row| (row.tokens, row.requests)).collect()
    }

    async fn take(&self, claim: &Claim) {
        let taken = self.one.take(claim.clone(), self.now).await.unwrap();
        assert!(matches!(taken, TakeOutcome::Granted(_)));
    }
}

#[tokio::test]
async fn accounts_of_an_earlier_version_are_read_and_converted() {
    let lost = Lost::new().await;
    let claim = lost.claim();
    let day = claim.lease.day;
    lost.store_old_accounts(day);
    assert_eq!(lost.on(day).await, [(70, 25, 4); 2]);
    assert_eq!(lost.used_on(day).await, [(70, 3); 2]);
    for account in lost.accounts() {
        assert!(lost.kind(&account).contains("hash"), "a report changes nothing");
    }

    lost.take(&claim).await;
    assert_eq!(lost.on(day).await, [(70, 55, 5); 2]);
    for account in lost.accounts() {
        assert!(lost.kind(&account).contains("string"));
        let left = lost.redis.command(&["pttl", &lost.name(&account)]);
        let left: i64 = left.trim_start_matches("int(").trim_end_matches(')').parse().unwrap();
        assert!(left > 6 * 24 * 60 * 60 * 1000, "{left}");
    }
    lost.one.settle(charge(&claim.lease, 7, true)).await;
    assert_eq!(lost.on(day).await, [(77, 25, 5); 2]);
    assert_eq!(lost.used_on(day_before(day)).await, [(900, 9); 2]);
}

#[tokio::test]
async fn a_lease_of_an_earlier_version_is_settled_once() {
    for debits in [OLD_DEBITS, EARLIEST_DEBITS] {
        let lost = Lost::new().await;
        let claim = lost.claim();
        let day = claim.lease.day;
        lost.store_old_accounts(day);
        lost.store_old_lease(&claim, debits);
        // From the spool of the earlier version, twice.
        for _ in 0..2 {
            lost.one.settle(charge(&claim.lease, 7, true)).await;
            assert_eq!(lost.on(day).await, [(77, 0, 4); 2]);
        }
        lost.assert_idle(day);
    }
}

#[tokio::test]
async fn a_lease_of_an_earlier_version_is_reaped() {
    let lost = Lost::new().await;
    let claim = lost.claim();
    let day = claim.lease.day;
    lost.store_old_accounts(day);
    lost.store_old_lease(&claim, OLD_DEBITS);
    lost.one.reap(LONG_AFTER).await.unwrap();
    assert_eq!(lost.on(day).await, [(95, 0, 4); 2]);
    lost.assert_idle(day);
    // Its gateway lives after all: the actual charge replaces the estimate.
    lost.one.settle(charge(&claim.lease, 7, true)).await;
    assert_eq!(lost.on(day).await, [(77, 0, 4); 2]);
}

#[tokio::test]
async fn a_tombstone_of_an_earlier_version_is_respected() {
    let lost = Lost::new().await;
    let claim = lost.claim();
    let day = claim.lease.day;
    lost.store_old_accounts(day);
    lost.store_old_tombstone(&claim.lease, "settled");
    lost.one.settle(charge(&claim.lease, 10, true)).await;
    assert_eq!(lost.on(day).await, [(70, 25, 4); 2]);

    lost.store_old_tombstone(&claim.lease, "reaped:40");
    for _ in 0..2 {
        lost.one.settle(charge(&claim.lease, 10, true)).await;
        assert_eq!(lost.on(day).await, [(40, 25, 4); 2], "10 tokens replace 40");
    }
}

#[tokio::test]
async fn a_call_of_an_earlier_version_is_corrected_once() {
    let lost = Lost::new().await;
    let claim = lost.claim();
    let day = claim.lease.day;
    lost.store_old_accounts(day);
    lost.store_old_tombstone(&claim.lease, "reaped:40");
    // As a failover brings it back.
    lost.store_old_lease(&claim, OLD_DEBITS);
    let correction = Correction { charge: charge(&claim.lease, 10, true), before: 40 };
    for _ in 0..2 {
        lost.one.correct(&correction).await.unwrap();
        assert_eq!(lost.on(day).await, [(40, 25, 4); 2]);
    }
    let tombstone = lost.redis.command(&["get", &lost.old_tombstone(&claim.lease)]);
    assert!(
        tombstone.contains("settled"),
        "a gateway that comes back changes nothing: {tombstone}"
    );
}

#[tokio::test]
async fn an_account_keeps_five_days_those_with_running_calls_and_the_day_of_the_call() {
    let mut lost = Lost::new().await;
    lost.caller.plan_limits = wide_limits();
    lost.caller.key_limits = KeyLimits::default();
    let claim_of =
        |ago: i32| claim(&lost.caller, NEED, lost.now.checked_sub((24 * ago).hours()).unwrap());
    let open = claim_of(7);
    lost.take(&open).await;
    // In no order, so that days come before, between and after others.
    for ago in [3, 6, 0, 5, 1, 4, 2] {
        let claim = claim_of(ago);
        lost.take(&claim).await;
        lost.one.settle(charge(&claim.lease, 5, true)).await;
        assert_eq!(lost.on(claim.lease.day).await, [(5, 0, 1); 2]);
    }
    let kept = async |ago| !lost.used_on(claim_of(ago).lease.day).await.is_empty();
    assert_eq!(
        [kept(4).await, kept(5).await, kept(6).await, kept(7).await],
        [true, false, false, true]
    );
    // A charge of a day that was dropped.
    let late = claim_of(6);
    lost.take(&late).await;
    lost.one.settle(charge(&late.lease, 8, true)).await;
    assert_eq!(lost.on(late.lease.day).await, [(8, 0, 1); 2]);
    lost.one.settle(charge(&open.lease, 9, true)).await;
    assert_eq!(lost.on(open.lease.day).await, [(9, 0, 1); 2]);
}
