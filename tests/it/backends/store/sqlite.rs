//! The suite over `SQLite`, and what only a file can do.

use super::older_schemas::{
    KEPT_USERNAMES, a_kept_reply_is_a_stored_response, kept_reply, migrations_before,
    shared_usernames, usernames,
};
use super::random_ledger::{migrations_until, older_ledger};
use super::reports::sums_match_the_older_ledger;
use super::{Any, add_user, by, changed, charge, day, lease, suite};
use domain::charge::Status;
use knockx::config::{Database, Durability};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::{self, CommitStamp, Entry, UserChange};
use tempfile::TempDir;

suite!(fresh);

async fn fresh() -> (Any, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deeper/knockx.db");
    (open(&path).await, folder)
}

pub async fn open(path: &Path) -> Any {
    let database = Database::Sqlite { path: path.to_owned(), durability: Durability::Process };
    store::open(&database).await.unwrap()
}

#[tokio::test]
async fn a_second_process_may_change_what_the_first_relies_on() {
    let (gateway, folder) = fresh().await;
    let user = add_user(&gateway, "a@b.c").await;
    let command = open(&folder.path().join("deeper/knockx.db")).await;
    command.change_user(user.id, &UserChange::default(), &by()).await.unwrap();
    let told = gateway.changes(0).await.unwrap();
    assert_eq!(told.users, [changed(&user, 1)]);
}

/// Each commit of any process moves it, and nothing else does.
#[tokio::test]
async fn every_commit_changes_the_commit_stamp() {
    let (gateway, folder) = fresh().await;
    let user = add_user(&gateway, "a@b.c").await;
    let path = folder.path().join("deeper/knockx.db");
    let command = open(&path).await;
    let mut stamps = vec![gateway.commit_stamp()];
    for _ in 0..200 {
        command.change_user(user.id, &UserChange::default(), &by()).await.unwrap();
        let stamp = gateway.commit_stamp();
        assert!(matches!(stamp, CommitStamp::At(_)));
        gateway.changes(0).await.unwrap();
        assert_eq!(gateway.commit_stamp(), stamp, "reading commits nothing");
        stamps.push(stamp);
    }
    assert!(stamps.iter().enumerate().all(|(n, stamp)| !stamps[..n].contains(stamp)));
    command.close().await;
    let last = gateway.commit_stamp();
    let other = open(&path).await;
    other.change_user(user.id, &UserChange::default(), &by()).await.unwrap();
    assert_ne!(gateway.commit_stamp(), last);
}

/// A database of the version before, whose process was killed.
#[tokio::test]
async fn leases_of_an_older_file_are_charged_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knockx.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut past = options.connect().await.unwrap();
    migrations_before("sqlite", 20_261_126_950_000).await.run(&mut past).await.unwrap();
    let (open, ended) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    let lease = |id: uuid::Uuid| {
        format!(
            "insert into lease values (x'{}', zeroblob(16), 'key', 1, 'grok-4', '2026-01-02', 70, 1000);",
            id.simple()
        )
    };
    let row = format!(
        "insert into usage_event values (x'{}', zeroblob(16), 'key', 'grok-4', 'xai', '2026-01-02', 1000,
             1, 0, 2, 0, 0, 'complete', 'reported', 1, null, 0, null)",
        ended.simple()
    );
    past.execute(AssertSqlSafe([lease(open), lease(ended), row].concat())).await.unwrap();
    past.close().await.unwrap();
    for _ in 0..2 {
        let store = self::open(&path).await;
        let charges = store.charges(day("2026-01-02")).await.unwrap();
        let told: Vec<_> = charges.iter().map(|row| (row.status, row.tokens.total())).collect();
        assert_eq!(told, [(Status::Abandoned, 70), (Status::Complete, 3)]);
        assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
        store.close().await;
    }
}

/// An older gateway may still write while the new one, which has migrated the file, takes over from it.
#[tokio::test]
async fn rows_of_an_older_program_are_added_to_the_rollups() {
    let (store, folder) = fresh().await;
    let user = add_user(&store, "a@b.c").await;
    let options = SqliteConnectOptions::new().filename(folder.path().join("deeper/knockx.db"));
    let mut older = options.connect().await.unwrap();
    let row = |n: u128| {
        format!(
            "insert into usage_event (
                 request, user_id, key_id, model, upstream, day, admitted_at, prompt, cached, completion,
                 reasoning, cost_micro_dollars, status, source, counted, total_ms
             )
             values (
                 x'{}', x'{}', 'key', 'grok-4', 'xai', '2026-01-02', 1000, 3, 0, 5, 0, 0, 'complete',
                 'reported', 1, 0
             );",
            uuid::Uuid::from_u128(n).simple(),
            user.id.0.simple()
        )
    };
    older.execute(AssertSqlSafe(row(1))).await.unwrap();
    let own = [Entry::Settle(charge(&lease(&user, "key", 10), 3, 4))];
    store.write_batch(&own, None).await.unwrap();
    older.execute(AssertSqlSafe(row(2))).await.unwrap();
    assert_eq!(super::journal::used(&store, user.id).await, (24, 3));
    assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
}

#[tokio::test]
async fn two_processes_that_start_at_once_both_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knockx.db");
    let stores = futures_util::future::join_all((0..8).map(|_| open(&path))).await;
    for store in stores {
        assert_eq!(store.plans().await.unwrap(), []);
    }
}

/// `.cargo/config.toml` sets them, which a build from another folder or environment misses.
#[tokio::test]
async fn sqlite_is_built_without_memory_counters_and_a_shared_page_cache() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let options: Vec<String> =
        sqlx::query_scalar("pragma compile_options").fetch_all(&mut connection).await.unwrap();
    assert!(options.iter().any(|option| option == "DEFAULT_MEMSTATUS=0"), "{options:?}");
    for slow in ["ENABLE_MEMORY_MANAGEMENT", "ENABLE_API_ARMOR"] {
        assert!(!options.iter().any(|option| option == slow), "{options:?}");
    }
}

#[tokio::test]
async fn committed_rows_survive_a_close() {
    let (store, folder) = fresh().await;
    let user = add_user(&store, "a@b.c").await;
    let lease = lease(&user, "key", 10);
    let settled = charge(&lease, 3, 4);
    store.write_batch(&[Entry::Settle(settled.clone())], None).await.unwrap();
    store.close().await;
    let store = open(&folder.path().join("deeper/knockx.db")).await;
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap(), [settled]);
    assert_eq!(store.user_by_email("a@b.c").await.unwrap(), Some(user));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knockx.db");
    std::fs::write(&path, "not a database, but long enough to be asked about it").unwrap();
    let database = Database::Sqlite { path, durability: Durability::Power };
    let Err(error) = store::open(&database).await else { panic!("it opened") };
    let text = error.to_string();
    assert!(text.contains("not a database") && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let (store, folder) = fresh().await;
    add_user(&store, "a@b.c").await;
    for file in std::fs::read_dir(folder.path().join("deeper")).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn the_oldest_of_users_with_one_username_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knockx.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut past = SqliteConnection::connect_with(&options).await.unwrap();
    migrations_before("sqlite", 20_261_123_000_000).await.run(&mut past).await.unwrap();
    past.execute(AssertSqlSafe(shared_usernames("x"))).await.unwrap();
    past.close().await.unwrap();
    assert_eq!(
        usernames(&open(&path).await).await,
        KEPT_USERNAMES.map(|name| name.map(str::to_owned))
    );
}

#[tokio::test]
async fn the_rollups_of_an_older_file_are_filled_from_its_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knockx.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut past = options.connect().await.unwrap();
    let older = migrations_until("sqlite", "20261122180800_usage_dead.sql");
    Migrator::new(older.path()).await.unwrap().run(&mut past).await.unwrap();
    let id = |id: uuid::Uuid| format!("x'{}'", id.simple());
    let (users, rows) = older_ledger(id, |flag| u8::from(flag).to_string());
    sqlx::query(AssertSqlSafe(rows)).execute(&mut past).await.unwrap();
    past.close().await.unwrap();
    sums_match_the_older_ledger(&open(&path).await, users).await;
}

#[tokio::test]
async fn stored_responses_of_an_older_file_keep_their_owners() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("knockx.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut past = options.connect().await.unwrap();
    migrations_before("sqlite", 20_261_126_960_000).await.run(&mut past).await.unwrap();
    past.execute(AssertSqlSafe(kept_reply("x"))).await.unwrap();
    past.close().await.unwrap();
    a_kept_reply_is_a_stored_response(&open(&path).await).await;
}
