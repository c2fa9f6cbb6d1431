//! Stores as earlier versions left them.

use super::{Any, at};
use domain::cached_tokens::CachedTokenFraction;
use domain::id::{RequestId, UserId};
use domain::stored_response::StoredResponse;
use sqlx::migrate::Migrator;
use std::path::Path;
use store::UserFilter;
use uuid::Uuid;

/// Users from before usernames were compared: `ID` stands for how a dialect writes an id of which
/// the last digit follows.
const SHARED_USERNAMES: &str = "
    insert into plan (
        id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
        window_refill_seconds, concurrent_streams, time_zone
    )
    values ('basic', 'Basic', 0, 1, 1, 1, 1, 1, 'UTC');

    insert into users (id, email, username, created_at, role, status, plan_id, change_seq)
    values
        (ID0', 'young@b.c', 'ada', 30, 'user', 'active', 'basic', 1),
        (ID1', 'old@b.c', 'Ada', 10, 'user', 'active', 'basic', 2),
        (ID2', 'other@b.c', 'bob', 5, 'user', 'active', 'basic', 3),
        (ID3', 'middle@b.c', 'ADA', 20, 'user', 'active', 'basic', 4),
        (ID4', 'same@b.c', 'BOB', 5, 'user', 'active', 'basic', 5),
        (ID5', 'one@b.c', null, 1, 'user', 'active', 'basic', 6),
        (ID6', 'two@b.c', null, 2, 'user', 'active', 'basic', 7);";

/// Who has which of them afterwards, in the order of ids.
pub const KEPT_USERNAMES: [Option<&str>; 7] =
    [None, Some("Ada"), Some("bob"), None, None, None, None];

/// SQL that makes the users, where ids are written with `before` the hex digits.
pub fn shared_usernames(before: &str) -> String {
    SHARED_USERNAMES.replace("ID", &format!("{before}'0000000000000000000000000000000"))
}

/// SQL that makes a user and a stored response of the version that called it a kept reply. Ids are written
/// with `before` the hex digits.
pub fn kept_reply(before: &str) -> String {
    let id = |digit: u8| format!("{before}'0000000000000000000000000000000{digit}'");
    format!(
        "insert into plan (
             id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, time_zone
         )
         values ('basic', 'Basic', 0, 1, 1, 1, 1, 1, 'UTC');
         insert into users (id, email, created_at, role, status, plan_id, change_seq)
         values ({}, 'a@b.c', 1, 'user', 'active', 'basic', 1);
         insert into kept_reply (id, user_id, upstream, model, tokens, expires_at, unsettled_call)
         values ('resp_1', {}, 'xai', 'grok-4', 7, {}, {});",
        id(1),
        id(1),
        at(1000).as_millisecond(),
        id(2),
    )
}

/// The response of [`kept_reply`] is there, can be claimed, and is deleted once it has expired.
pub async fn a_kept_reply_is_a_stored_response(store: &Any) {
    let expected = StoredResponse {
        id: "resp_1".to_owned(),
        user: UserId(Uuid::from_u128(1)),
        upstream: "xai".to_owned(),
        model: "grok-4".to_owned(),
        tokens: 7,
        unsettled: Some(RequestId(Uuid::from_u128(2))),
        cached_token_fraction: CachedTokenFraction::ONE,
        expires_at: at(1000),
    };
    assert_eq!(store.stored_response("resp_1", at(1)).await.unwrap(), Some(expected.clone()));
    assert!(store.claim_response("resp_1", at(1), at(9)).await.unwrap());
    let other = StoredResponse { id: "resp_2".to_owned(), expires_at: at(9000), ..expected };
    assert!(store.record_response(&other, at(1000)).await.unwrap());
    assert_eq!(store.stored_response("resp_1", at(1)).await.unwrap(), None);
}

/// The usernames of all users, in the order of ids.
pub async fn usernames(store: &Any) -> Vec<Option<String>> {
    let users = store.users(&UserFilter::default(), None, 100).await.unwrap();
    users.into_iter().map(|user| user.username).collect()
}

/// The migrations of a dialect that came before `version`.
pub async fn migrations_before(dialect: &str, version: i64) -> Migrator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(dialect);
    let mut all = Migrator::new(folder).await.unwrap();
    let before = all.iter().filter(|migration| migration.version < version).cloned();
    all.migrations = before.collect::<Vec<_>>().into();
    all
}
