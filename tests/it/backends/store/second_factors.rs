//! Second factors: what enables them, and that each code is good once.

use super::sessions::{lives, open};
use super::{Any, add_user, at, by, suspend};
use domain::id::{SessionId, UserId};
use domain::second_factor::{CodeDigest, SEALED_BYTES, SealedSecret};
use store::audit::AuditFilter;
use store::second_factors::{Enabling, SecondFactor};

fn secret(byte: u8) -> SealedSecret {
    SealedSecret([byte; SEALED_BYTES])
}

fn code(byte: u8) -> CodeDigest {
    [byte; 32]
}

fn enabling(user: UserId, byte: u8) -> Enabling {
    Enabling {
        user,
        secret: secret(byte),
        step: 10,
        recovery_codes: vec![code(1), code(2), code(3)],
        session: SessionId::new(),
    }
}

async fn begin(store: &Any, user: UserId, byte: u8) -> bool {
    store.begin_second_factor(user, &secret(byte), at(2)).await.unwrap()
}

async fn enable(store: &Any, user: UserId, byte: u8) -> bool {
    store.enable_second_factor(&enabling(user, byte), &by()).await.unwrap()
}

/// A user with an enabled second factor.
pub async fn with_factor(store: &Any, email: &str) -> UserId {
    let user = add_user(store, email).await.id;
    with_factor_of(store, user).await;
    user
}

/// Enables a second factor of the user.
pub async fn with_factor_of(store: &Any, user: UserId) {
    assert!(begin(store, user, 7).await && enable(store, user, 7).await);
}

async fn uses(store: &Any, user: UserId, byte: u8) -> bool {
    store.accept_recovery_code(user, &code(byte), &by()).await.unwrap()
}

async fn left(store: &Any, user: UserId) -> Option<u32> {
    store.second_factor(user).await.unwrap().map(|factor| factor.recovery_codes)
}

pub async fn a_second_factor_is_enabled_by_the_secret_that_was_begun(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    assert_eq!(store.second_factor(user).await.unwrap(), None);
    assert!(!enable(&store, user, 1).await, "nothing was begun");
    assert!(begin(&store, user, 1).await && begin(&store, user, 2).await);
    let begun = SecondFactor { secret: secret(2), enabled_at: None, recovery_codes: 0 };
    assert_eq!(store.second_factor(user).await.unwrap(), Some(begun.clone()));
    assert!(!store.accept_totp(user, 99).await.unwrap(), "not enabled yet");
    assert!(!enable(&store, user, 1).await, "another set-up has begun since");
    assert!(enable(&store, user, 2).await);
    let enabled = SecondFactor { enabled_at: Some(by().at), recovery_codes: 3, ..begun };
    assert_eq!(store.second_factor(user).await.unwrap(), Some(enabled.clone()));
    assert!(!enable(&store, user, 2).await && !begin(&store, user, 3).await, "enabled already");
    assert_eq!(store.second_factor(user).await.unwrap(), Some(enabled));
}

pub async fn enabling_ends_the_other_sessions(store: Any) {
    let (user, other) = (add_user(&store, "a@b.c").await.id, add_user(&store, "d@e.f").await.id);
    let (kept, ended) = (open(&store, user).await, open(&store, user).await);
    let of_other = open(&store, other).await;
    begin(&store, user, 1).await;
    let enabling = Enabling { session: kept, ..enabling(user, 1) };
    assert!(store.enable_second_factor(&enabling, &by()).await.unwrap());
    assert!(lives(&store, kept, at(3)).await && lives(&store, of_other, at(3)).await);
    assert!(!lives(&store, ended, at(3)).await);
}

pub async fn a_time_step_is_accepted_once(store: Any) {
    let user = with_factor(&store, "a@b.c").await;
    for (step, is_accepted) in
        [(10, false), (9, false), (12, true), (12, false), (11, false), (13, true)]
    {
        assert_eq!(store.accept_totp(user, step).await.unwrap(), is_accepted, "step {step}");
    }
    let (one, two) = tokio::join!(store.accept_totp(user, 20), store.accept_totp(user, 20));
    assert!(one.unwrap() != two.unwrap(), "of two at once one is accepted");
    assert!(!store.accept_totp(UserId::new(), 20).await.unwrap());
}

pub async fn a_recovery_code_is_accepted_once_from_its_user(store: Any) {
    let user = with_factor(&store, "a@b.c").await;
    let other = add_user(&store, "d@e.f").await.id;
    assert!(!uses(&store, other, 1).await, "it is another user's");
    assert!(!uses(&store, user, 9).await, "there is none");
    assert!(uses(&store, user, 1).await && !uses(&store, user, 1).await);
    assert_eq!(left(&store, user).await, Some(2));
    let (one, two) = tokio::join!(uses(&store, user, 2), uses(&store, user, 2));
    assert!(one != two, "of two at once one is accepted");
    assert_eq!(left(&store, user).await, Some(1));
}

pub async fn recovery_codes_are_replaced_together(store: Any) {
    let user = with_factor(&store, "a@b.c").await;
    assert!(uses(&store, user, 1).await);
    let new = [code(1), code(4)];
    assert!(store.replace_recovery_codes(user, &new, &by()).await.unwrap());
    assert_eq!(left(&store, user).await, Some(2));
    assert!(!uses(&store, user, 2).await, "an old one");
    assert!(uses(&store, user, 1).await, "new again");
    let other = add_user(&store, "d@e.f").await.id;
    assert!(!store.replace_recovery_codes(other, &new, &by()).await.unwrap());
    assert!(begin(&store, other, 1).await);
    assert!(!store.replace_recovery_codes(other, &new, &by()).await.unwrap(), "not enabled");
    assert_eq!(left(&store, other).await, Some(0));
}

pub async fn a_removed_second_factor_is_gone(store: Any) {
    let (user, other) = (with_factor(&store, "a@b.c").await, with_factor(&store, "d@e.f").await);
    assert!(store.remove_second_factor(user, &by()).await.unwrap());
    assert!(!store.remove_second_factor(user, &by()).await.unwrap());
    assert_eq!(store.second_factor(user).await.unwrap(), None);
    assert!(!store.accept_totp(user, 99).await.unwrap() && !uses(&store, user, 1).await);
    assert_eq!(left(&store, other).await, Some(3));
    assert!(begin(&store, user, 8).await);
    assert!(!store.remove_second_factor(user, &by()).await.unwrap(), "it was not enabled");
    assert_eq!(store.second_factor(user).await.unwrap(), None, "nor is its set-up left");
}

pub async fn a_suspended_user_sets_up_none(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    suspend(&store, user).await;
    for user in [user, UserId::new()] {
        let begun = store.begin_second_factor(user, &secret(1), at(2)).await;
        assert!(matches!(begun, Err(store::StoreError::Missing("user"))), "{begun:?}");
        assert_eq!(store.second_factor(user).await.unwrap(), None);
    }
}

pub async fn second_factors_are_audited(store: Any) {
    let user = with_factor(&store, "a@b.c").await;
    uses(&store, user, 1).await;
    uses(&store, user, 1).await;
    store.replace_recovery_codes(user, &[code(5)], &by()).await.unwrap();
    store.remove_second_factor(user, &by()).await.unwrap();
    store.remove_second_factor(user, &by()).await.unwrap();
    let subject = Some(format!("user:{user}"));
    let filter = AuditFilter { subject, ..AuditFilter::default() };
    let entries = store.audit(&filter, None, 9).await.unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| &*entry.action).collect();
    let expected = [
        "second_factor.disable",
        "second_factor.new_recovery_codes",
        "second_factor.use_recovery_code",
        "second_factor.enable",
        "user.add",
    ];
    assert_eq!(actions, expected);
    assert!(entries[..4].iter().all(|entry| entry.before.is_none() && entry.after.is_none()));
}
