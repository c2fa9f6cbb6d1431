//! Corrections beside the ledger: each counts once, and goes with its batch or not at all.

use super::journal::{no_drift, used, write};
use super::{Any, add_user, at, charge, day, lease};
use domain::charge::{Adjustment, Charge};
use domain::id::{KeyId, RequestId};
use domain::user::User;
use store::{Entry, StoreError};

pub fn adjustment(
    user: &User,
    reset: RequestId,
    key: &str,
    tokens: i64,
    requests: i64,
) -> Adjustment {
    Adjustment {
        reset,
        user: user.id,
        key: KeyId::from(key),
        day: day("2026-01-02"),
        tokens,
        requests,
        at: at(9),
        by: "operator".to_owned(),
    }
}

pub async fn an_adjustment_counts_once(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let settle = |key| Entry::Settle(charge(&lease(&user, key, 10), 3, 4));
    write(&store, &[settle("a"), settle("a"), settle("b")]).await;
    let (one, two) = (RequestId::new(), RequestId::new());
    let adjust = |reset, key, tokens, requests| {
        Entry::Adjust(adjustment(&user, reset, key, tokens, requests))
    };
    // The same reset again, and with other numbers: neither changes anything.
    let batch = [adjust(one, "a", -10, -1), adjust(one, "b", -8, -1), adjust(one, "a", -1, 0)];
    for _ in 0..2 {
        write(&store, &batch).await;
        assert_eq!(used(&store, user.id).await, (6, 1));
    }
    write(&store, &[adjust(two, "a", 2, 0)]).await;
    assert_eq!(used(&store, user.id).await, (8, 1));
    no_drift(&store).await;
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 3, "the ledger stays");
    let other = Adjustment { day: day("2026-01-01"), ..adjustment(&user, two, "b", -5, 0) };
    write(&store, &[Entry::Adjust(other)]).await;
    assert_eq!(used(&store, user.id).await, (8, 1), "another day is another matter");
}

/// Not even for one key, so that the others' numbers stand.
pub async fn sums_never_go_below_zero(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    write(&store, &[Entry::Settle(charge(&lease(&user, "a", 10), 3, 4))]).await;
    let too_much = adjustment(&user, RequestId::new(), "b", -100, -3);
    write(&store, &[Entry::Adjust(too_much)]).await;
    assert_eq!(used(&store, user.id).await, (8, 1));
    write(&store, &[Entry::Settle(charge(&lease(&user, "b", 10), 30, 40))]).await;
    assert_eq!(used(&store, user.id).await, (8, 1));
    write(&store, &[Entry::Settle(charge(&lease(&user, "b", 10), 30, 40))]).await;
    assert_eq!(used(&store, user.id).await, (8 + 42, 1));
}

pub async fn an_adjustment_commits_with_its_batch(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let settled = lease(&user, "a", 10);
    let batch = [
        Entry::Adjust(adjustment(&user, RequestId::new(), "a", -5, 0)),
        Entry::Settle(charge(&settled, 3, 4)),
    ];
    write(&store, &batch).await;
    write(&store, &batch).await;
    assert_eq!(used(&store, user.id).await, (3, 1));

    let dear = |cost| Charge { cost_micro_dollars: cost, ..charge(&lease(&user, "a", 10), 3, 4) };
    let batch = [
        Entry::Adjust(adjustment(&user, RequestId::new(), "a", -1, 0)),
        Entry::Settle(dear(i64::MIN)),
        Entry::Settle(dear(i64::MIN)),
    ];
    let refused = store.write_batch(&batch, None).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    assert_eq!(used(&store, user.id).await, (3, 1));
}

pub async fn adjustments_are_listed_by_key_and_day(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let late = Adjustment { at: at(20), ..adjustment(&user, RequestId::new(), "a", -2, 0) };
    let early = adjustment(&user, RequestId::new(), "a", -10, -1);
    let others = [
        adjustment(&user, early.reset, "b", -3, 0),
        Adjustment { day: day("2026-01-03"), ..adjustment(&user, RequestId::new(), "a", -1, 0) },
    ];
    let batch = [&late, &early, &others[0], &others[1]].map(|one| Entry::Adjust(one.clone()));
    write(&store, &batch).await;
    let (key, on) = (KeyId::from("a"), day("2026-01-02"));
    let listed = store.adjustments(user.id, &key, on).await.unwrap();
    assert_eq!(listed, [early, late]);
    assert_eq!(store.adjustments(domain::id::UserId::new(), &key, on).await.unwrap(), []);
}
