//! Log-ins and their sessions.

use super::{Any, add_user, at, by, new_key, new_user, second_factors, suspend};
use domain::id::{SessionId, UserId};
use domain::user::{LimitOverrides, Role, UserStatus};
use jiff::Timestamp;
use store::sessions::{NewSession, Rotated, Rotation, SessionClient, SessionInfo, SessionKind};
use store::{NewUser, StoreError, UserChange};

/// A session from the first second to the hundredth, with the token 1.
pub async fn open(store: &Any, user: UserId) -> SessionId {
    open_between(store, user, at(1), at(100)).await
}

async fn open_between(store: &Any, user: UserId, from: Timestamp, to: Timestamp) -> SessionId {
    let id = SessionId::new();
    store.open_session(&session(store, id, user, from, to).await).await.unwrap();
    id
}

/// A session that may begin.
async fn session(
    store: &Any,
    id: SessionId,
    user: UserId,
    created_at: Timestamp,
    expires_at: Timestamp,
) -> NewSession {
    let found = store.credentials_of(user).await.unwrap();
    let password_hash = found.and_then(|found| found.password_hash);
    NewSession {
        id,
        user,
        digest: [1; 32],
        password_hash,
        has_passed_factor: false,
        kind: SessionKind::Api,
        client: SessionClient::default(),
        created_at,
        expires_at,
    }
}

/// An exchange in the fiftieth second that ends a hundred later.
fn exchange(session: SessionId, presented: u8, next: u8) -> Rotation {
    let (presented, next) = ([presented; 32], [next; 32]);
    let client = SessionClient::default();
    Rotation { session, presented, next, client, now: at(50), expires_at: at(150) }
}

async fn rotate(store: &Any, session: SessionId, presented: u8, next: u8) -> Rotated {
    store.rotate_session(&exchange(session, presented, next)).await.unwrap()
}

pub async fn lives(store: &Any, session: SessionId, now: Timestamp) -> bool {
    store.session_user(session, now).await.unwrap().is_some()
}

pub async fn credentials_hold_the_hash(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let found = store.credentials("a@b.c").await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash), (user.clone(), None));
    let with_hash = NewUser { password_hash: Some("hash".into()), ..new_user("d@e.f", "basic") };
    let other = store.add_user(&with_hash, &by()).await.unwrap();
    let found = store.credentials("d@e.f").await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.as_deref()), (other.clone(), Some("hash")));
    let found = store.credentials_of(other.id).await.unwrap().unwrap();
    assert_eq!((found.user, found.password_hash.as_deref()), (other, Some("hash")));

    let change = UserChange { password_hash: Some("new".into()), ..UserChange::default() };
    store.change_user(user.id, &change, &by()).await.unwrap();
    let change = UserChange { role: Some(Role::Admin), ..UserChange::default() };
    store.change_user(user.id, &change, &by()).await.unwrap();
    let found = store.credentials_of(user.id).await.unwrap().unwrap();
    assert_eq!((found.user.role, found.password_hash.as_deref()), (Role::Admin, Some("new")));
}

pub async fn a_hash_is_replaced_unless_it_was_changed(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let hash = async || store.credentials_of(user.id).await.unwrap().unwrap().password_hash;
    store.rehash(user.id, "", "new").await.unwrap();
    assert_eq!(hash().await, None);
    let change = UserChange { password_hash: Some("old".into()), ..UserChange::default() };
    store.change_user(user.id, &change, &by()).await.unwrap();
    let (session, before) = (open(&store, user.id).await, store.changes(0).await.unwrap());
    for (old, expected) in [("other", "old"), ("old", "new"), ("old", "new")] {
        store.rehash(user.id, old, "new").await.unwrap();
        assert_eq!(hash().await.as_deref(), Some(expected));
    }
    assert!(lives(&store, session, at(2)).await);
    assert_eq!(store.changes(0).await.unwrap(), before);
}

pub async fn a_session_lives_until_it_ends(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let (one, two) = (open(&store, user.id).await, open(&store, user.id).await);
    assert_eq!(store.session_user(one, at(99)).await.unwrap(), Some(user.clone()));
    assert!(!lives(&store, one, at(100)).await);
    for _ in 0..2 {
        store.end_session(one).await.unwrap();
        assert!(!lives(&store, one, at(2)).await);
        assert!(lives(&store, two, at(2)).await);
    }
    assert!(matches!(rotate(&store, one, 1, 2).await, Rotated::Unknown));
    let nobody = NewSession {
        id: SessionId::new(),
        user: UserId::new(),
        digest: [1; 32],
        password_hash: None,
        has_passed_factor: false,
        kind: SessionKind::Api,
        client: SessionClient::default(),
        created_at: at(1),
        expires_at: at(100),
    };
    let opened = store.open_session(&nobody).await;
    assert!(matches!(opened, Err(StoreError::Missing("user"))), "{opened:?}");
    let again = NewSession { id: two, user: user.id, ..nobody };
    store.open_session(&again).await.unwrap();
    assert!(lives(&store, two, at(2)).await);
}

pub async fn a_factor_that_was_enabled_during_a_log_in_is_needed(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    let without = session(&store, SessionId::new(), user, at(1), at(100)).await;
    second_factors::with_factor_of(&store, user).await;
    let begun = store.open_session(&without).await;
    assert!(matches!(begun, Err(StoreError::Missing("user"))), "{begun:?}");
    let with = NewSession { has_passed_factor: true, ..without };
    store.open_session(&with).await.unwrap();
    assert!(lives(&store, with.id, at(2)).await);
}

pub async fn a_console_session_is_found_by_its_cookie_alone(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let api = open(&store, user.id).await;
    let console = SessionId::new();
    let new = session(&store, console, user.id, at(1), at(100)).await;
    store.open_session(&NewSession { kind: SessionKind::Console, ..new }).await.unwrap();

    let found = |id, digest, now| store.console_session(id, digest, now);
    let session = found(console, [1; 32], at(99)).await.unwrap().unwrap();
    assert_eq!((session.user, session.seen_at, session.confirmed_at), (user.clone(), at(1), at(1)));
    assert!(found(console, [2; 32], at(2)).await.unwrap().is_none());
    assert!(found(console, [1; 32], at(100)).await.unwrap().is_none());
    assert!(found(api, [1; 32], at(2)).await.unwrap().is_none());
    // A cookie is no refresh token, and trying does not end the session.
    assert!(matches!(rotate(&store, console, 1, 2).await, Rotated::Unknown));
    assert!(matches!(rotate(&store, console, 7, 2).await, Rotated::Unknown));

    store.extend_session(console, at(90), at(200)).await.unwrap();
    store.confirm_session(console, at(95)).await.unwrap();
    let session = found(console, [1; 32], at(150)).await.unwrap().unwrap();
    assert_eq!((session.seen_at, session.confirmed_at), (at(90), at(95)));
    suspend(&store, user.id).await;
    assert!(found(console, [1; 32], at(150)).await.unwrap().is_none());
}

pub async fn a_session_needs_the_password_that_was_checked(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let change =
        |hash: &str| UserChange { password_hash: Some(hash.to_owned()), ..UserChange::default() };
    store.change_user(user.id, &change("old"), &by()).await.unwrap();
    let checked = session(&store, SessionId::new(), user.id, at(1), at(100)).await;
    store.change_user(user.id, &change("new"), &by()).await.unwrap();
    let opened = store.open_session(&checked).await;
    assert!(matches!(opened, Err(StoreError::Missing("user"))), "{opened:?}");
    assert!(!lives(&store, checked.id, at(2)).await);
    let checked = session(&store, SessionId::new(), user.id, at(1), at(100)).await;
    suspend(&store, user.id).await;
    let opened = store.open_session(&checked).await;
    assert!(matches!(opened, Err(StoreError::Missing("user"))), "{opened:?}");
}

pub async fn a_session_continues_with_each_new_refresh_token(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let session = open(&store, user.id).await;
    for token in 1..5 {
        let rotated = rotate(&store, session, token, token + 1).await;
        assert!(matches!(&rotated, Rotated::Done(same) if *same == user), "{rotated:?}");
    }
    assert!(lives(&store, session, at(149)).await);
    assert!(!lives(&store, session, at(150)).await);
    let late = Rotation { now: at(150), ..exchange(session, 5, 6) };
    let rotated = store.rotate_session(&late).await.unwrap();
    assert!(matches!(rotated, Rotated::Unknown), "{rotated:?}");
    let late = Rotation { now: at(150), ..exchange(session, 1, 6) };
    let rotated = store.rotate_session(&late).await.unwrap();
    assert!(matches!(rotated, Rotated::Unknown), "{rotated:?}");
}

pub async fn a_token_used_twice_ends_the_session(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    for wrong in [1, 3, 9] {
        let (session, other) = (open(&store, user.id).await, open(&store, user.id).await);
        assert!(matches!(rotate(&store, session, 1, 2).await, Rotated::Done(_)));
        let reused = rotate(&store, session, wrong, 4).await;
        assert!(matches!(reused, Rotated::Reused(id) if id == user.id), "{reused:?}");
        assert!(!lives(&store, session, at(50)).await);
        assert!(lives(&store, other, at(50)).await);
        for token in [1, 2, 4] {
            assert!(matches!(rotate(&store, session, token, 5).await, Rotated::Unknown));
        }
    }
}

pub async fn of_two_concurrent_exchanges_one_ends_the_session(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    for _ in 0..10 {
        let session = open(&store, user.id).await;
        let (one, two) = tokio::join!(rotate(&store, session, 1, 2), rotate(&store, session, 1, 3));
        let is_right = matches!(
            (&one, &two),
            (Rotated::Done(_), Rotated::Reused(_)) | (Rotated::Reused(_), Rotated::Done(_))
        );
        assert!(is_right, "{one:?} {two:?}");
        assert!(!lives(&store, session, at(50)).await);
    }
}

pub async fn a_token_exchange_with_a_lost_reply_can_be_repeated(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let session = open(&store, user.id).await;
    for _ in 0..2 {
        assert!(matches!(rotate(&store, session, 1, 2).await, Rotated::Done(_)));
    }
    assert!(matches!(rotate(&store, session, 2, 3).await, Rotated::Done(_)));
    assert!(matches!(rotate(&store, session, 1, 2).await, Rotated::Reused(_)));
}

pub async fn a_new_password_or_a_suspension_ends_sessions(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let theirs = open(&store, other.id).await;
    let none = UserChange::default();
    let harmless = [
        none.clone(),
        UserChange { role: Some(Role::Admin), ..none.clone() },
        UserChange { status: Some(UserStatus::Active), ..none.clone() },
        UserChange { email: Some("3@b.c".into()), ..none.clone() },
        UserChange { overrides: Some(LimitOverrides::default()), ..none.clone() },
    ];
    let ending = [
        UserChange { password_hash: Some("hash".into()), ..none.clone() },
        UserChange { status: Some(UserStatus::Suspended), ..none },
    ];
    for change in ending {
        let sessions = [open(&store, user.id).await, open(&store, user.id).await];
        for harmless in &harmless {
            store.change_user(user.id, harmless, &by()).await.unwrap();
        }
        store.add_key(user.id, &new_key("laptop"), &by()).await.unwrap();
        assert!(lives(&store, sessions[0], at(2)).await);
        store.change_user(user.id, &change, &by()).await.unwrap();
        for session in sessions {
            assert!(!lives(&store, session, at(2)).await, "{change:?}");
            assert!(matches!(rotate(&store, session, 1, 2).await, Rotated::Unknown));
        }
    }
    assert!(lives(&store, theirs, at(2)).await);
}

pub async fn a_user_has_a_hundred_sessions(store: Any) {
    let (user, other) = (add_user(&store, "1@b.c").await, add_user(&store, "2@b.c").await);
    let theirs = open(&store, other.id).await;
    let mut sessions = Vec::new();
    for second in 0..103 {
        sessions.push(open_between(&store, user.id, at(second), at(1_000)).await);
    }
    for (n, session) in sessions.into_iter().enumerate() {
        assert_eq!(lives(&store, session, at(103)).await, n >= 3, "{n}");
    }
    assert!(lives(&store, theirs, at(50)).await);
}

pub async fn sessions_that_expired_make_room(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let old = open_between(&store, user.id, at(0), at(1_000)).await;
    for _ in 0..99 {
        open_between(&store, user.id, at(1), at(2)).await;
    }
    let new = open_between(&store, user.id, at(2), at(1_000)).await;
    assert!(lives(&store, old, at(3)).await && lives(&store, new, at(3)).await);
    let past = Rotation { now: at(1), ..exchange(old, 9, 2) };
    assert!(matches!(store.rotate_session(&past).await.unwrap(), Rotated::Reused(_)));
}

pub async fn sessions_are_listed_with_their_clients(store: Any) {
    let (user, other) = (add_user(&store, "a@b.c").await, add_user(&store, "d@e.f").await);
    let client = |address: &str| SessionClient {
        address: Some(address.to_owned()),
        user_agent: Some("<b>\u{1f600}'; drop table session".to_owned()),
    };
    let mut expected = Vec::new();
    for (second, kind) in [(1, SessionKind::Api), (2, SessionKind::Console)] {
        let id = SessionId::new();
        let new = session(&store, id, user.id, at(second), at(100)).await;
        let new = NewSession { kind, client: client("192.0.2.1"), ..new };
        store.open_session(&new).await.unwrap();
        expected.push(SessionInfo {
            id,
            kind,
            created_at: at(second),
            seen_at: at(second),
            expires_at: at(100),
            client: new.client,
        });
    }
    open(&store, other.id).await;
    let expired = open_between(&store, user.id, at(3), at(4)).await;
    let listed = async |now| store.sessions_of(user.id, now).await.unwrap();
    assert_eq!(listed(at(3)).await[0].id, expired);
    expected.reverse();
    assert_eq!(listed(at(50)).await, expected);

    let refreshed = Rotation { client: client("203.0.113.9"), ..exchange(expected[1].id, 1, 2) };
    assert!(matches!(store.rotate_session(&refreshed).await.unwrap(), Rotated::Done(_)));
    let after = &listed(at(60)).await[1];
    let client_after = refreshed.client.clone();
    let (seen_at, expires_at) = (at(50), at(150));
    assert_eq!(
        *after,
        SessionInfo { seen_at, expires_at, client: client_after, ..expected[1].clone() }
    );
    // What is not known leaves what was.
    assert!(matches!(rotate(&store, expected[1].id, 2, 3).await, Rotated::Done(_)));
    assert_eq!(listed(at(60)).await[1].client, refreshed.client);
    assert_eq!(listed(at(200)).await, []);
}

pub async fn sessions_are_ended_by_their_user_alone(store: Any) {
    let (user, other) = (add_user(&store, "a@b.c").await, add_user(&store, "d@e.f").await);
    let sessions =
        [open(&store, user.id).await, open(&store, user.id).await, open(&store, user.id).await];
    let theirs = open(&store, other.id).await;
    assert!(!store.end_session_of(other.id, sessions[0]).await.unwrap());
    assert!(lives(&store, sessions[0], at(2)).await);
    assert!(store.end_session_of(user.id, sessions[0]).await.unwrap());
    assert!(!store.end_session_of(user.id, sessions[0]).await.unwrap());
    assert!(!lives(&store, sessions[0], at(2)).await && lives(&store, sessions[1], at(2)).await);
    assert_eq!(store.end_other_sessions(user.id, sessions[1]).await.unwrap(), 1);
    assert_eq!(store.end_other_sessions(user.id, sessions[1]).await.unwrap(), 0);
    assert!(lives(&store, sessions[1], at(2)).await && !lives(&store, sessions[2], at(2)).await);
    assert!(lives(&store, theirs, at(2)).await, "not those of others");
}
