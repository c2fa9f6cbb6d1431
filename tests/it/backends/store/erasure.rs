//! Deleted users: what is gone, what stays, and that it happens once.

use super::sessions::{lives, open};
use super::{Any, add_user, at, by, charge, lease, new_key, new_user, server_secret};
use domain::actor::AuditContext;
use domain::cached_tokens::CachedTokenFraction;
use domain::charge::Charge;
use domain::id::UserId;
use domain::second_factor::{SEALED_BYTES, SealedSecret};
use domain::stored_response::StoredResponse;
use domain::user::{LimitOverrides, Role, User, UserStatus, erased_email};
use jiff::SignedDuration;
use store::audit::AuditFilter;
use store::reports::HistoryFilter;
use store::{Entry, Erased, NewUser, PRUNE_BATCH, StoreError, UserChange, all_keys};

async fn erase(store: &Any, user: UserId) -> Erased {
    store.erase_user(user, &server_secret(), &by()).await.unwrap()
}

async fn charged(store: &Any, user: &User, count: u32) -> Vec<Charge> {
    let ended = |number: u32| {
        let lease = lease(user, "key", 10);
        let admitted_at = lease.admitted_at + SignedDuration::from_millis(i64::from(number / 3));
        Charge { admitted_at, ..charge(&lease, 3, 4) }
    };
    let charges: Vec<Charge> = (0..count).map(ended).collect();
    let entries: Vec<Entry> = charges.iter().cloned().map(Entry::Settle).collect();
    for batch in entries.chunks(500) {
        store.write_batch(batch, None).await.unwrap();
    }
    charges
}

/// Ledger rows of a user that still have the caller's own id.
async fn named_rows(store: &Any, user: UserId) -> usize {
    let rows = store.history(user, &HistoryFilter::default(), None, 10_000).await.unwrap();
    rows.iter().filter(|row| row.client_request_id.is_some()).count()
}

pub async fn a_deleted_user_keeps_its_id_and_usage_alone(store: Any) {
    let user = add_user(&store, "ada@b.c").await;
    let change = UserChange {
        username: Some(Some("lovelace".into())),
        password_hash: Some("hash".into()),
        overrides: Some(LimitOverrides { requests_per_day: Some(3), ..LimitOverrides::default() }),
        ..UserChange::default()
    };
    let user = store.change_user(user.id, &change, &by()).await.unwrap().unwrap();
    let key = store.add_key(user.id, &new_key("adas laptop"), &by()).await.unwrap();
    let session = open(&store, user.id).await;
    store.begin_second_factor(user.id, &SealedSecret([1; SEALED_BYTES]), at(2)).await.unwrap();
    let response = StoredResponse {
        id: "resp_1".into(),
        user: user.id,
        upstream: "xai".into(),
        model: "grok-4".into(),
        tokens: 1,
        expires_at: at(1000),
        unsettled: None,
        cached_token_fraction: CachedTokenFraction::ONE,
    };
    store.record_response(&response, at(2)).await.unwrap();
    let charges = charged(&store, &user, 2).await;
    let before = store.changes(0).await.unwrap();

    assert_eq!(erase(&store, user.id).await, Erased::Done);
    let erased = store.user(user.id).await.unwrap().unwrap();
    assert_eq!((erased.status, erased.role), (UserStatus::Deleted, Role::User));
    assert_eq!((erased.email, erased.username), (erased_email(user.id), None));
    assert_eq!((erased.overrides, erased.created_at), (LimitOverrides::default(), user.created_at));
    assert!(store.credentials_of(user.id).await.unwrap().unwrap().password_hash.is_none());
    assert!(store.credentials("ada@b.c").await.unwrap().is_none());
    assert!(!lives(&store, session, at(3)).await);
    assert_eq!(store.second_factor(user.id).await.unwrap(), None);
    assert_eq!(store.stored_response("resp_1", at(3)).await.unwrap(), None);
    let keys = all_keys(&*store, user.id).await.unwrap();
    assert!(keys.iter().all(|key| key.name == "deleted" && key.revoked_at == Some(by().at)));
    assert!(store.caller(&key.id).await.unwrap().unwrap().check(at(3)).is_err());
    let changes = store.changes(before.upto).await.unwrap().users;
    assert!(changes.iter().any(|changed| changed.user == user.id), "its calls end");

    for charge in charges {
        let row = store.charge(charge.request).await.unwrap().unwrap();
        assert_eq!(row, Charge { client_request_id: None, ..charge });
    }
    for subject in [format!("user:{}", user.id), format!("key:{}", key.id)] {
        let filter = AuditFilter { subject: Some(subject), ..AuditFilter::default() };
        let entries = store.audit(&filter, None, 99).await.unwrap();
        assert!(!entries.is_empty());
        assert!(entries.iter().all(|entry| entry.before.is_none() && entry.after.is_none()));
    }
}

pub async fn a_user_is_deleted_once(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    let other = add_user(&store, "d@e.f").await;
    let (one, two) = tokio::join!(erase(&store, user), erase(&store, user));
    let mut outcomes = [one, two];
    outcomes.sort_by_key(|erased| *erased == Erased::Absent);
    assert_eq!(outcomes, [Erased::Done, Erased::Absent]);
    assert_eq!(erase(&store, UserId::new()).await, Erased::Absent);
    let filter = AuditFilter { subject: Some(format!("user:{user}")), ..AuditFilter::default() };
    let entries = store.audit(&filter, None, 9).await.unwrap();
    let deletions = entries.iter().filter(|entry| entry.action == "user.delete").count();
    assert_eq!(deletions, 1);
    assert_eq!(store.user(other.id).await.unwrap(), Some(other), "nobody else");
}

pub async fn a_deleted_user_can_never_be_changed(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    erase(&store, user).await;
    let erased = store.user(user).await.unwrap();
    for change in [
        UserChange { status: Some(UserStatus::Active), ..UserChange::default() },
        UserChange { password_hash: Some("hash".into()), ..UserChange::default() },
        UserChange { email: Some("a@b.c".into()), ..UserChange::default() },
        UserChange { role: Some(Role::Admin), ..UserChange::default() },
    ] {
        assert_eq!(store.change_user(user, &change, &by()).await.unwrap(), None, "{change:?}");
    }
    let refused = store.add_key(user, &new_key("late"), &by()).await;
    assert!(matches!(refused, Err(StoreError::Missing("user"))), "{refused:?}");
    let refused = store.replace_key(user, &new_key("late"), &by()).await;
    assert!(matches!(refused, Err(StoreError::Missing("user"))), "{refused:?}");
    let refused = store.request_upgrade(user, &"basic".into(), &by()).await;
    assert!(matches!(refused, Err(StoreError::Missing("user"))), "{refused:?}");
    assert!(
        store.begin_second_factor(user, &SealedSecret([1; SEALED_BYTES]), at(2)).await.is_err()
    );
    assert_eq!(store.user(user).await.unwrap(), erased);
    let again = add_user(&store, "a@b.c").await;
    assert_ne!(again.id, user, "the address is free");
}

pub async fn the_last_admin_is_not_deleted(store: Any) {
    add_user(&store, "a@b.c").await;
    let admin = |email: &str| NewUser { role: Role::Admin, ..new_user(email, "basic") };
    let one = store.add_user(&admin("1@b.c"), &by()).await.unwrap().id;
    assert_eq!(erase(&store, one).await, Erased::LastAdmin);
    assert_eq!(store.user(one).await.unwrap().unwrap().status, UserStatus::Active);
    let two = store.add_user(&admin("2@b.c"), &by()).await.unwrap().id;
    super::suspend(&store, two).await;
    assert_eq!(erase(&store, one).await, Erased::LastAdmin, "the other is suspended");
    let active = UserChange { status: Some(UserStatus::Active), ..UserChange::default() };
    store.change_user(two, &active, &by()).await.unwrap();
    let (first, second) = tokio::join!(erase(&store, one), erase(&store, two));
    let mut outcomes = [first, second];
    outcomes.sort_by_key(|erased| *erased == Erased::LastAdmin);
    assert_eq!(outcomes, [Erased::Done, Erased::LastAdmin], "one of them stays");
}

pub async fn a_long_history_is_visited_in_steps_and_once_more(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let other = add_user(&store, "d@e.f").await;
    charged(&store, &user, 2 * PRUNE_BATCH + 100).await;
    charged(&store, &other, 3).await;
    let sums = async || {
        store
            .usage_by_day(user.id, super::day("2026-01-02"), super::day("2026-01-02"))
            .await
            .unwrap()
    };
    let before = sums().await;
    let now = AuditContext { at: at(1000), ..by() };
    assert_eq!(store.erase_user(user.id, &server_secret(), &now).await.unwrap(), Erased::Done);
    let left = named_rows(&store, user.id).await;
    assert!(left > 0 && left <= (PRUNE_BATCH + 100) as usize, "{left} of a first step");
    let mut steps = 0;
    while store.prune(at(1001)).await.unwrap() > 0 {
        steps += 1;
    }
    assert!((2..=4).contains(&steps), "{steps}");
    assert_eq!((named_rows(&store, user.id).await, named_rows(&store, other.id).await), (0, 3));
    assert_eq!(sums().await, before, "the sums are the same");

    // A call that is settled after its user was deleted.
    charged(&store, &user, 5).await;
    store.prune(at(2000)).await.unwrap();
    assert_eq!(named_rows(&store, user.id).await, 5, "not due yet");
    let week = SignedDuration::from_hours(24 * 7 + 1);
    while store.prune(at(1000) + week).await.unwrap() > 0 {}
    assert_eq!(named_rows(&store, user.id).await, 0);
    charged(&store, &user, 1).await;
    while store.prune(at(1000) + week + week).await.unwrap() > 0 {}
    assert_eq!(named_rows(&store, user.id).await, 1, "no third visit");
}
