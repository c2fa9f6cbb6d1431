//! Stores as earlier versions left them.

use super::Any;
use knockx::store::UserFilter;
use sqlx::migrate::Migrator;
use std::path::Path;

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
