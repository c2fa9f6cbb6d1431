//! How accounts and leases are stored in Redis, and those that earlier versions of the gateway stored.

use super::redis_lost_reply::NEED;
use super::redis_rebuild::Lost;
use domain::charge::{Charge, Lease, TokenCount};
use domain::day::Day;
use domain::key::KeyLimits;
use domain::testing::wide_limits;
use jiff::ToSpan;
use quota::backend::{QuotaBackend, TakeOutcome};
use quota::testing::{charge, claim};
use store::Used;

const LONG_AFTER: Option<i64> = Some(i64::MAX / 1_000_000);

impl Lost {
    fn accounts(&self) -> [String; 2] {
        let user = self.caller.user.0.simple();
        let key = &self.caller.key;
        [self.name(&format!("user:{user}")), self.name(&format!("key:{user}:{key}"))]
    }

    fn kind(&self, name: &str) -> String {
        self.redis.command(&["type", name])
    }

    /// Stores the accounts as hashes: yesterday with usage, today with usage and one running call of 30 tokens, 5 of
    /// them expected.
    fn store_old_accounts(&self, lease: &Lease) {
        let today = lease.day;
        let yesterday = Day(today.0.checked_sub(1.day()).unwrap());
        for account in self.accounts() {
            let mut words = vec!["hset".to_owned(), account.clone()];
            let fields = [("u", 70), ("r", 25), ("e", 5), ("q", 4), ("o", 1)];
            words.extend(
                fields.map(|(name, n)| [format!("{today}:{name}"), n.to_string()]).concat(),
            );
            let fields = [("u", 900), ("r", 0), ("q", 9), ("o", 0)];
            let of_yesterday =
                fields.map(|(name, n)| [format!("{yesterday}:{name}"), n.to_string()]);
            words.extend(of_yesterday.concat());
            words.extend(["s", "1", "bu", "0", "bt", "1", "bc", "1", "bs", "1"].map(str::to_owned));
            self.redis.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
            let names = [today, yesterday].map(|day| self.name(&format!("accounts:{day}")));
            for name in names {
                self.redis.command(&["sadd", &name, &account]);
            }
        }
    }

    /// Stores the lease of that call as a hash.
    fn store_old_lease(&self, lease: &Lease) {
        let (day, name) = (lease.day, self.name(&format!("lease:{}", lease.request.0.simple())));
        let debits = format!(
            "u window 1 1\nu request {day} 100\nk request {day} 100\nu tokens {day} 1000 30 1 0 30\n\
             k tokens {day} 9007199254740991 30 1 0 30\nu stream 3\n"
        );
        let abandoned = serde_json::to_string(&Charge::abandoned(lease, TokenCount::default()));
        let words = ["hset", &name, "reserved", "25", "expected", "5", "so_far", "3"];
        let more = ["debits", &debits, "charge", &abandoned.unwrap()];
        self.redis.command(&[&words[..], &more[..]].concat());
        let request = lease.request.0.simple().to_string();
        self.redis.command(&["zadd", &self.name("deadlines"), "1", &request]);
    }

    async fn today(&self, lease: &Lease) -> [(u64, u64, u64); 2] {
        let key = Some(&self.caller.key);
        let seen =
            self.one.usage_snapshot(self.caller.user, key, lease.day, self.now).await.unwrap();
        [seen.user, seen.key].map(|of| (of.tokens_used, of.tokens_reserved, of.requests_used))
    }
}

#[tokio::test]
async fn accounts_of_an_earlier_version_are_read_and_converted() {
    let lost = Lost::new().await;
    let claim = lost.claim();
    lost.store_old_accounts(&claim.lease);
    assert_eq!(lost.today(&claim.lease).await, [(70, 25, 4); 2]);
    let used =
        |rows: Vec<Used>| -> Vec<_> { rows.iter().map(|row| (row.tokens, row.requests)).collect() };
    assert_eq!(used(lost.one.used_on(claim.lease.day).await.unwrap()), [(70, 3); 2]);
    for account in lost.accounts() {
        assert!(lost.kind(&account).contains("hash"), "a report changes nothing");
    }

    assert!(matches!(
        lost.one.take(claim.clone(), lost.now).await.unwrap(),
        TakeOutcome::Granted(_)
    ));
    assert_eq!(lost.today(&claim.lease).await, [(70, 55, 5); 2]);
    for account in lost.accounts() {
        assert!(lost.kind(&account).contains("string"));
        let left = lost.redis.command(&["pttl", &account]);
        let left: i64 = left.trim_start_matches("int(").trim_end_matches(')').parse().unwrap();
        assert!(left > 6 * 24 * 60 * 60 * 1000, "{left}");
    }
    lost.one.settle(charge(&claim.lease, 7, true)).await;
    assert_eq!(lost.today(&claim.lease).await, [(77, 25, 5); 2]);
    let yesterday = Day(claim.lease.day.0.checked_sub(1.day()).unwrap());
    assert_eq!(used(lost.one.used_on(yesterday).await.unwrap()), [(900, 9); 2]);
}

#[tokio::test]
async fn a_lease_of_an_earlier_version_is_settled() {
    let lost = Lost::new().await;
    let lease = Lease { reserved: 25, ..lost.claim().lease };
    lost.store_old_accounts(&lease);
    lost.store_old_lease(&lease);
    // From the spool of the earlier version.
    lost.one.settle(charge(&lease, 7, true)).await;
    assert_eq!(lost.today(&lease).await, [(77, 0, 4); 2]);
    // It is charged once.
    lost.one.reap(LONG_AFTER).await.unwrap();
    assert_eq!(lost.today(&lease).await, [(77, 0, 4); 2]);
}

#[tokio::test]
async fn a_lease_of_an_earlier_version_is_reaped() {
    let lost = Lost::new().await;
    let lease = lost.claim().lease;
    lost.store_old_accounts(&lease);
    lost.store_old_lease(&lease);
    lost.one.reap(LONG_AFTER).await.unwrap();
    assert_eq!(lost.today(&lease).await, [(95, 0, 4); 2]);
}

#[tokio::test]
async fn an_account_keeps_five_days_and_those_with_running_calls() {
    let mut lost = Lost::new().await;
    lost.caller.plan_limits = wide_limits();
    lost.caller.key_limits = KeyLimits::default();
    let mut open = None;
    for days in (0..8).rev() {
        let now = lost.now.checked_sub((24 * days).hours()).unwrap();
        let claim = claim(&lost.caller, NEED, now);
        let taken = lost.one.take(claim.clone(), now).await.unwrap();
        assert!(matches!(taken, TakeOutcome::Granted(_)));
        if days == 7 {
            open = Some(claim);
        } else {
            lost.one.settle(charge(&claim.lease, 5, true)).await;
        }
    }
    let open = open.unwrap();
    let length = |days| format!("int({})", 40 + 48 * days);
    for account in lost.accounts() {
        assert_eq!(lost.redis.command(&["strlen", &account]), length(6));
    }
    assert_eq!(lost.today(&open.lease).await, [(0, 30, 1); 2]);
    lost.one.settle(charge(&open.lease, 9, true)).await;
    assert_eq!(lost.today(&open.lease).await, [(9, 0, 1); 2]);
}
