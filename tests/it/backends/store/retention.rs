//! Old days taken out of the ledger, and what stays.

use super::journal::write;
use super::{Any, add_user, at, charge, day, lease};
use domain::charge::{Charge, Lease};
use domain::id::RequestId;
use domain::user::User;
use store::{Entry, Used};

/// A charge of a day.
fn charge_of(user: &User, text: &str) -> Charge {
    charge(&Lease { day: day(text), ..lease(user, "key", 10) }, 3, 4)
}

/// What was used on each day, by the rollups.
async fn sums(store: &Any) -> Vec<Used> {
    let mut sums = store.used_since(day("2025-11-01")).await.unwrap();
    sums.sort_by_key(|used| (used.day, used.key.is_some()));
    sums
}

pub async fn pruned_days_keep_their_rollups_and_are_recorded(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    // Of days with a partition of their own, where there are such, and of days without one.
    store.create_partitions(day("2026-01-01")).await.unwrap();
    for text in ["2025-11-30", "2026-01-01", "2026-01-02", "2026-01-03"] {
        let charges = (0..3).map(|_| Entry::Settle(charge_of(&user, text)));
        write(&store, &charges.collect::<Vec<_>>()).await;
    }
    let before = sums(&store).await;
    assert!(!store.is_ledger_pruned(day("2026-01-02")).await.unwrap());

    assert_eq!(store.prune_ledger(day("2026-01-02"), at(1)).await.unwrap(), 6);
    for (text, rows, pruned) in [
        ("2025-11-30", 0, true),
        ("2026-01-01", 0, true),
        ("2026-01-02", 3, false),
        ("2026-01-03", 3, false),
    ] {
        assert_eq!(store.charges(day(text)).await.unwrap().len(), rows, "{text}");
        assert_eq!(store.is_ledger_pruned(day(text)).await.unwrap(), pruned, "{text}");
    }
    assert_eq!(sums(&store).await, before, "counters are built from rollups");
    assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
    assert_eq!(store.prune_ledger(day("2026-01-02"), at(2)).await.unwrap(), 0);
    // What comes late for a pruned day is taken all the same.
    write(&store, &[Entry::Settle(charge_of(&user, "2026-01-01"))]).await;
    assert_eq!(store.prune_ledger(day("2026-01-03"), at(3)).await.unwrap(), 4);
    assert!(store.is_ledger_pruned(day("2026-01-02")).await.unwrap());
}

pub async fn more_rows_than_a_batch_are_pruned(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let charges = (0..2_500).map(|_| Entry::Settle(charge_of(&user, "2026-01-01")));
    write(&store, &charges.collect::<Vec<_>>()).await;
    assert_eq!(store.prune_ledger(day("2026-01-02"), at(1)).await.unwrap(), 2_500);
    assert_eq!(store.charges(day("2026-01-01")).await.unwrap(), []);
}

pub async fn recorded_charges_are_distinguished_from_others(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let (known, other) = (charge_of(&user, "2026-01-02"), charge_of(&user, "2026-01-02"));
    write(&store, &[Entry::Settle(known.clone())]).await;
    let asked =
        [(known.request, known.day), (other.request, other.day), (RequestId::new(), known.day)];
    let recorded = store.recorded(&asked).await.unwrap();
    assert_eq!(recorded.into_iter().collect::<Vec<_>>(), [known.request]);
    assert!(store.recorded(&[]).await.unwrap().is_empty());
}
