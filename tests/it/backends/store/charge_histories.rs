//! Random histories of charges and adjustments, cut into random batches, with repeats and dead processes:
//! every call is charged exactly once, whatever happened.

use super::adjustments::adjustment;
use super::{Any, add_user, charge, day, lease};
use super::{postgres, sqlite};
use crate::support::postgres::fresh as fresh_database;
use domain::charge::{Charge, Lease, Status};
use domain::id::{KeyId, RequestId};
use domain::user::User;
use proptest::prelude::*;
use std::collections::BTreeMap;
use store::{Entry, Used};

/// What happens to the calls; each names a call by its number.
#[derive(Debug, Clone)]
enum Step {
    Settle(usize, u64),
    /// Its gateway was taken for dead; the true charge may come before or after.
    Abandon(usize, u64),
    /// A correction of a key under a reset, each by its number.
    Adjust {
        reset: usize,
        key: usize,
        tokens: i64,
        requests: i64,
    },
    /// What was given so far is written, and may be written again.
    Commit {
        again: bool,
    },
    /// What was given but not written is lost, and a new process starts.
    Die,
}

const CALLS: usize = 12;
const KEYS: [&str; 3] = ["a", "b", "c"];
const RESETS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..CALLS, 0..1_000_u64).prop_map(|(call, held)| Step::Abandon(call, held)),
        5 => (0..CALLS, 0..1_000_u64).prop_map(|(call, used)| Step::Settle(call, used)),
        1 => (0..RESETS, 0..KEYS.len(), -1_500..100_i64, -3..1_i64).prop_map(
            |(reset, key, tokens, requests)| Step::Adjust { reset, key, tokens, requests }
        ),
        3 => any::<bool>().prop_map(|again| Step::Commit { again }),
        1 => Just(Step::Die),
    ]
}

/// What the ledger must hold in the end.
struct Model {
    calls: Vec<Lease>,
    charged: BTreeMap<usize, Charge>,
    resets: Vec<RequestId>,
    /// Tokens and requests, by reset and key.
    adjusted: BTreeMap<(RequestId, KeyId), (i64, i64)>,
    batch: Vec<(usize, Entry)>,
}

impl Model {
    fn new(user: &User) -> Self {
        Self {
            calls: (0..CALLS).map(|n| lease(user, KEYS[n % KEYS.len()], 0)).collect(),
            charged: BTreeMap::new(),
            resets: (0..RESETS).map(|_| RequestId::new()).collect(),
            adjusted: BTreeMap::new(),
            batch: Vec::new(),
        }
    }

    fn give(&mut self, call: usize, entry: Entry) {
        self.batch.push((call, entry));
    }

    fn commit(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (call, entry) in std::mem::take(&mut self.batch) {
            match &entry {
                Entry::Settle(charge) => {
                    // An estimate makes room for what comes late and is true.
                    let known = self.charged.get(&call);
                    let is_true = charge.status != Status::Abandoned;
                    if known.is_none_or(|known| is_true && known.status == Status::Abandoned) {
                        self.charged.insert(call, charge.clone());
                    }
                }
                Entry::Adjust(adjustment) => {
                    let name = (adjustment.reset, adjustment.key.clone());
                    let numbers = (adjustment.tokens, adjustment.requests);
                    self.adjusted.entry(name).or_insert(numbers);
                }
            }
            entries.push(entry);
        }
        entries
    }

    /// What a key, or all keys, have used: charges and adjustments, but never less than nothing.
    fn used(&self, key: &str) -> (u64, u64) {
        let charges = self.charged.values().filter(|charge| charge.key.as_str() == key);
        let charges = charges.map(|charge| (i64::try_from(charge.counted_tokens()).unwrap(), 1));
        let adjusted = self.adjusted.iter().filter(|((_, k), _)| k.as_str() == key);
        let parts = charges.chain(adjusted.map(|(_, numbers)| *numbers));
        let (tokens, requests) = parts.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        (tokens.max(0).unsigned_abs(), requests.max(0).unsigned_abs())
    }
}

async fn play(open: impl AsyncFn() -> Any, steps: Vec<Step>) {
    let mut store = open().await;
    let user = add_user(&store, "a@b.c").await;
    let mut model = Model::new(&user);
    for step in steps.into_iter().chain([Step::Commit { again: false }, Step::Die]) {
        match step {
            Step::Abandon(call, held) => {
                let mut abandoned = charge(&model.calls[call], 0, held);
                abandoned.status = Status::Abandoned;
                abandoned.tokens.reasoning = 0;
                model.give(call, Entry::Settle(abandoned));
            }
            Step::Settle(call, used) => {
                let charge = charge(&model.calls[call], used, used / 2);
                let charge = Charge { uncounted: used / 3, ..charge };
                model.give(call, Entry::Settle(charge));
            }
            Step::Adjust { reset, key, tokens, requests } => {
                let reset = model.resets[reset];
                let adjusted = adjustment(&user, reset, KEYS[key], tokens, requests);
                model.give(0, Entry::Adjust(adjusted));
            }
            Step::Commit { again } => {
                let entries = model.commit();
                for _ in 0..=u8::from(again) {
                    store.write_batch(&entries, None).await.unwrap();
                }
            }
            Step::Die => {
                model.batch.clear();
                store.close().await;
                store = open().await;
            }
        }
    }
    check(&store, &model).await;
}

async fn check(store: &Any, model: &Model) {
    let on = day("2026-01-02");
    assert_eq!(store.rollup_drift(on).await.unwrap(), []);
    let mut left = store.charges(on).await.unwrap();
    for (call, expected) in &model.charged {
        let request = model.calls[*call].request;
        let at = left.iter().position(|charge| charge.request == request);
        let charged = left.swap_remove(at.expect("each call is charged"));
        assert_eq!(charged.status, expected.status);
        assert_eq!(charged.tokens, expected.tokens);
    }
    assert_eq!(left, [], "and none twice");
    let expected = KEYS.map(|key| (key, model.used(key)));
    let all = expected.iter().fold((0, 0), |sum, (_, it)| (sum.0 + it.0, sum.1 + it.1));
    for used in [store.used_since(on).await.unwrap(), store.ledger_totals(on).await.unwrap()] {
        let of = |key: Option<&str>| {
            let mut mine = used.iter().filter(|row| row.key.as_ref().map(KeyId::as_str) == key);
            let told =
                mine.next().map_or((0, 0), |Used { tokens, requests, .. }| (*tokens, *requests));
            assert_eq!(mine.next(), None);
            told
        };
        assert_eq!(of(None), all);
        for (key, numbers) in expected {
            assert_eq!(of(Some(key)), numbers, "{key}");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..60)
}

fn run(history: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(history);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_call_is_charged_exactly_once(steps in steps()) {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("knockx.db");
            play(async || sqlite::open(&path).await, steps).await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_call_is_charged_exactly_once_on_postgres(steps in steps()) {
        run(async {
            let fresh = fresh_database().await;
            play(async || postgres::open(&fresh).await, steps).await;
        });
    }
}
