//! The suite over Postgres, and what only a server can do.

use super::adjustments::adjustment;
use super::journal::used;
use super::older_schemas::{
    KEPT_USERNAMES, a_kept_reply_is_a_stored_response, kept_reply, migrations_before,
    shared_usernames, usernames,
};
use super::random_ledger::{migrations_until, older_ledger};
use super::reports::sums_match_the_older_ledger;
use super::{Any, add_user, by, charge, day, lease, new_user, suite};
use crate::support::journal;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Fresh, Server, database, fresh as fresh_database};
use crate::support::{SOON, soon};
use ::journal::Journal;
use domain::charge::{Charge, Lease, Status};
use domain::user::User;
use knockx::config::Database;
use quota::user_versions::UserVersions;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::sync::Arc;
use store::invalidation::Confirmation;
use store::{self, Entry, Mark, StoreError};
use system::supervisor::Supervisor;
use telemetry::metrics::Metrics;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

suite!(fresh);

async fn fresh() -> (Any, Fresh) {
    let fresh = fresh_database().await;
    (open(&fresh).await, fresh)
}

pub async fn open(fresh: &Fresh) -> Any {
    store::open(&fresh.database()).await.unwrap()
}

/// A journal over a store, ended in good order by `end`.
struct Writing {
    journal: Journal,
    tasks: Supervisor,
    charges: TaskTracker,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Writing {
    async fn to(store: &Any) -> Self {
        let (tasks, stop) = (Supervisor::default(), CancellationToken::new());
        let folder = tempfile::tempdir().unwrap();
        let journal = journal::start(store, &folder.path().join("journal"), &tasks, &stop).await;
        Self { journal, tasks, charges: TaskTracker::new(), stop, _folder: folder }
    }

    /// Settles in the background; the task ends when the charge is durable.
    fn settle(&self, charge: Charge) {
        let journal = self.journal.clone();
        self.charges.spawn(async move { journal.settle(charge).await });
    }

    async fn end(self) -> u64 {
        self.charges.close();
        tokio::time::timeout(SOON, self.charges.wait()).await.expect("all is answered");
        tokio::time::timeout(SOON, self.journal.wait_projected()).await.expect("the ledger has it");
        self.stop.cancel();
        tokio::time::timeout(SOON, self.tasks.wait()).await.expect("all is written");
        self.journal.dead_letters()
    }
}

fn settled(user: &User, key: &str) -> Charge {
    charge(&lease(user, key, 10), 3, 4)
}

fn said(refused: Result<impl Sized, StoreError>) -> String {
    match refused {
        Err(StoreError::Unavailable(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[tokio::test]
async fn the_oldest_of_users_with_one_username_keeps_it() {
    let fresh = fresh_database().await;
    let mut past = fresh.connection().await;
    migrations_before("postgres", 20_261_123_000_000).await.run(&mut past).await.unwrap();
    past.execute(AssertSqlSafe(shared_usernames(""))).await.unwrap();
    assert_eq!(
        usernames(&open(&fresh).await).await,
        KEPT_USERNAMES.map(|name| name.map(str::to_owned))
    );
}

/// A gateway of the previous version, which a rolling upgrade has not replaced yet, goes on beside this one.
#[tokio::test]
async fn stored_responses_of_an_older_database_keep_their_owners() {
    let fresh = fresh_database().await;
    let mut past = fresh.connection().await;
    migrations_before("postgres", 20_261_126_960_000).await.run(&mut past).await.unwrap();
    past.execute(AssertSqlSafe(kept_reply(""))).await.unwrap();
    let store = open(&fresh).await;
    sqlx::query(
        "insert into kept_reply (id, user_id, upstream, model, tokens, expires_at, unsettled_call)
         select id, user_id, upstream, model, 3, expires_at, unsettled_call from kept_reply
         on conflict (id) do update set
             tokens = greatest(kept_reply.tokens, excluded.tokens),
             is_ambiguous = kept_reply.is_ambiguous or kept_reply.user_id <> excluded.user_id",
    )
    .execute(&mut past)
    .await
    .unwrap();
    sqlx::query(
        "delete from kept_reply
         where id in (
             select id from kept_reply where expires_at <= 1 limit 2 for update skip locked
         )",
    )
    .execute(&mut past)
    .await
    .unwrap();
    a_kept_reply_is_a_stored_response(&store).await;
}

/// Cuts the connections of this database that hold an advisory lock, or that ran the journal.
async fn cut_writers(connection: &mut PgConnection) {
    let cut: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
           and (query like '%project(%' or pid in (
               select pid from pg_locks where locktype = 'advisory'
           ))",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    assert!(!cut.is_empty() && cut.iter().all(|cut| *cut), "{cut:?}");
}

#[tokio::test]
async fn the_rollups_of_an_older_database_are_filled_from_its_ledger() {
    let fresh = fresh_database().await;
    let mut past = fresh.connection().await;
    let older = migrations_until("postgres", "20261122180800_usage_dead.sql");
    Migrator::new(older.path()).await.unwrap().run(&mut past).await.unwrap();
    sqlx::query("select prepare_usage_event('2026-01-01', 3)").execute(&mut past).await.unwrap();
    let (users, rows) = older_ledger(|id| format!("'{id}'"), |flag| flag.to_string());
    sqlx::query(AssertSqlSafe(rows)).execute(&mut past).await.unwrap();
    let store = open(&fresh).await;
    store.create_partitions(day("2026-01-04")).await.unwrap();
    sums_match_the_older_ledger(&store, users).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_all_start() {
    let fresh = fresh_database().await;
    let stores = futures_util::future::join_all((0..6).map(|_| open(&fresh))).await;
    for store in stores {
        assert_eq!(store.plans().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_no_batch() {
    let (store, fresh) = fresh().await;
    store.acquire_instance_lock().await.unwrap();
    let user = add_user(&store, "a@b.c").await;
    let mut past = fresh.connection().await;
    for n in 1..4 {
        let lease = lease(&user, "key", 10);
        store.journal(&[Entry::Settle(charge(&lease, 3, 4))], None).await.unwrap();
        assert_eq!(store.charges(lease.day).await.unwrap().len(), n);
        cut_writers(&mut past).await;
    }
    // The lock was taken again with the new connection.
    store.journal(&[], None).await.unwrap();
    assert!(said(open(&fresh).await.acquire_instance_lock().await).contains("another knockx"));
}

/// Stands for a network that swallows answers: the batch may be done, and is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_is_lost_is_written_once() {
    let (store, fresh) = fresh().await;
    let user = add_user(&store, "a@b.c").await;
    store.journal(&[], None).await.unwrap();
    let mut past = fresh.connection().await;
    for sql in [
        "create function cut() returns trigger language plpgsql as $$
         begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$",
        "create constraint trigger cut after insert on usage_adjustment deferrable initially deferred
         for each row execute function cut()",
    ] {
        sqlx::query(sql).execute(&mut past).await.unwrap();
    }
    let adjust = Entry::Adjust(adjustment(&user, lease(&user, "key", 1).request, "key", -2, 0));
    let batch = [Entry::Settle(settled(&user, "key")), adjust];
    let mark = Some(Mark { log: uuid::Uuid::from_u128(1), position: 9 });
    said(store.journal(&batch, mark).await);
    assert_eq!(store.latest_mark().await.unwrap(), None);
    sqlx::query("drop trigger cut on usage_adjustment").execute(&mut past).await.unwrap();
    for _ in 0..2 {
        store.journal(&batch, mark).await.unwrap();
        assert_eq!(used(&store, user.id).await, (6, 1));
        assert_eq!(store.latest_mark().await.unwrap(), mark);
    }
}

/// A database of the version before, whose process was killed.
#[tokio::test(flavor = "multi_thread")]
async fn leases_of_an_older_database_are_charged_once() {
    let fresh = fresh_database().await;
    let mut past = fresh.connection().await;
    migrations_before("postgres", 20_261_126_950_000).await.run(&mut past).await.unwrap();
    let user = uuid::Uuid::nil();
    for id in [1, 2].map(uuid::Uuid::from_u128) {
        past.execute(AssertSqlSafe(format!(
            "insert into lease values ('{id}', '{user}', 'key', 1, 'grok-4', '2026-01-02', 70, 1000)"
        )))
        .await
        .unwrap();
    }
    let ended = uuid::Uuid::from_u128(2);
    past.execute(AssertSqlSafe(format!(
        "insert into usage_event values ('{ended}', '{user}', 'key', 'grok-4', 'xai', '2026-01-02', 1000,
             1, 0, 2, 0, 0, 'complete', 'reported', true, null, 0, null)"
    )))
    .await
    .unwrap();
    for _ in 0..2 {
        let store = open(&fresh).await;
        let charges = store.charges(day("2026-01-02")).await.unwrap();
        let told: Vec<_> = charges.iter().map(|row| (row.status, row.tokens.total())).collect();
        assert_eq!(told, [(Status::Abandoned, 70), (Status::Complete, 3)]);
        assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
    }
    // A gateway of that version may still write charges, and open nothing.
    let old = |leases: &str| {
        let (none, texts) = ("array[]::bigint[]", "array[]::text[]");
        AssertSqlSafe(format!(
            "select journal(null, '{{}}', {leases}, {leases}, {texts}, {none}, {texts}, {texts}, {none}, {none},
                 '{{}}', {none}, array['{0}'::uuid], array['{user}'::uuid], array['key'], array['grok-4'],
                 array['xai'], array['2026-01-02'], array[1000::bigint], array[5::bigint], array[0::bigint],
                 array[6::bigint], array[0::bigint], array[0::bigint], array['complete'], array['reported'],
                 array[true], array[null::bigint], array[1::bigint])",
            uuid::Uuid::from_u128(1)
        ))
    };
    past.execute(old("array[]::uuid[]")).await.unwrap();
    assert_eq!(open(&fresh).await.charges(day("2026-01-02")).await.unwrap()[0].tokens.total(), 11);
    let refused = past.execute(old("array[gen_random_uuid()]")).await.unwrap_err();
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

/// What a command has changed holds once it returns: the gateway has confirmed it, or none runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_the_gateway_to_confirm() {
    let (gateway, fresh) = fresh().await;
    let user = add_user(&gateway, "a@b.c").await;
    let command = open(&fresh).await;
    assert!(command.is_change_confirmed(Some(user.id)).await.unwrap(), "nobody runs");
    gateway.acquire_instance_lock().await.unwrap();
    let versions = UserVersions::start(gateway.clone()).await.unwrap();
    assert!(command.is_change_confirmed(None).await.unwrap());
    command.change_user(user.id, &store::UserChange::default(), &by()).await.unwrap();
    for who in [Some(user.id), None] {
        assert!(!command.is_change_confirmed(who).await.unwrap());
    }
    let (tasks, stop) = (Supervisor::default(), CancellationToken::new());
    let folder = tempfile::tempdir().unwrap();
    let journal = journal::start(&gateway, &folder.path().join("journal"), &tasks, &stop).await;
    tasks.spawn("versions", Arc::clone(&versions).watch(journal, stop.clone()));
    let command = command.publishing(Arc::new(Confirmation::new(command.clone())));
    for n in 2..6 {
        command.change_user(user.id, &store::UserChange::default(), &by()).await.unwrap();
        assert!(!versions.is_current(user.id, user.version + n - 1).await.unwrap());
        assert!(versions.is_current(user.id, user.version + n).await.unwrap());
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_do_not_deadlock() {
    let (one, fresh) = fresh().await;
    let two = open(&fresh).await;
    let user = add_user(&one, "a@b.c").await;
    let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    let batches = |store: Any, backwards: bool| {
        let (user, mut keys) = (user.clone(), keys.clone());
        if backwards {
            keys.reverse();
        }
        async move {
            for _ in 0..20 {
                let settle = |key: &String| Entry::Settle(settled(&user, key));
                let batch: Vec<Entry> = keys.iter().map(settle).collect();
                store.journal(&batch, None).await.unwrap();
            }
        }
    };
    tokio::join!(batches(Arc::clone(&one), false), batches(two, true));
    assert_eq!(one.rollup_drift(day("2026-01-02")).await.unwrap(), []);
    assert_eq!(one.charges(day("2026-01-02")).await.unwrap().len(), 2 * 20 * 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_waits_for_the_estimate_it_replaces() {
    let (store, fresh) = fresh().await;
    let user = add_user(&store, "a@b.c").await;
    let real = settled(&user, "key");
    let mut reaper = fresh.connection().await;
    let mut estimate = reaper.begin().await.unwrap();
    let insert = AssertSqlSafe(format!(
        "insert into usage_event values (
             '{}', '{}', 'key', 'grok-4', '', '2026-01-02', 0,
             0, 0, 10, 0, 0, 'abandoned', 'estimated', true, null, 0
         )",
        real.request.0, user.id
    ));
    sqlx::query(insert).execute(&mut *estimate).await.unwrap();
    let settle = [Entry::Settle(real.clone())];
    let mut watcher = fresh.connection().await;
    let commit = async {
        let waiting = "select exists (select from pg_stat_activity
            where datname = current_database() and query like '%project(%'
              and wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut watcher).await.unwrap() {}
        estimate.commit().await.unwrap();
    };
    let (written, ()) = tokio::join!(store.journal(&settle, None), commit);
    written.unwrap();
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap(), [real]);
    assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_are_published_without_a_gap() {
    let (one, fresh) = fresh().await;
    let two = open(&fresh).await;
    let user = add_user(&one, "a@b.c").await;
    let rounds = 30;
    let change = |store: Any| {
        let id = user.id;
        async move {
            for _ in 0..rounds {
                store.change_user(id, &store::UserChange::default(), &by()).await.unwrap();
            }
        }
    };
    let reader = async {
        let mut since = 0;
        while one.user_version(user.id).await.unwrap() < Some(user.version + 2 * rounds) {
            let told = one.changes(since).await.unwrap();
            assert!(told.upto >= since);
            since = told.upto;
        }
        one.changes(since).await.unwrap().upto
    };
    let ((), (), upto) = tokio::join!(change(Arc::clone(&one)), change(two), reader);
    assert_eq!(upto, one.changes(0).await.unwrap().upto);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_stored_does_not_block_the_others() {
    let (store, _fresh) = fresh().await;
    let user = add_user(&store, "a@b.c").await;
    let below_zero = Charge { cost_micro_dollars: -3, ..settled(&user, "key") };
    store.journal(&[Entry::Settle(below_zero)], None).await.unwrap();
    let writing = Writing::to(&store).await;
    for n in 0..50 {
        // No sum that is below zero already can take it in.
        let cost_micro_dollars = if n == 17 { i64::MIN } else { -3 };
        writing.settle(Charge { cost_micro_dollars, ..settled(&user, "key") });
    }
    assert_eq!(writing.end().await, 1);
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 50);
    assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_instance_writes_nothing_more() {
    let (first, fresh) = fresh().await;
    let user = add_user(&first, "a@b.c").await;
    first.acquire_instance_lock().await.unwrap();
    let opened = lease(&user, "key", 10);
    first.journal(&[Entry::Settle(charge(&opened, 3, 4))], None).await.unwrap();
    first.confirm_changes(0).await.unwrap();

    let second = open(&fresh).await;
    assert!(
        said(second.acquire_instance_lock().await)
            .contains("another knockx is using this database")
    );

    cut_writers(&mut fresh.connection().await).await;
    second.acquire_instance_lock().await.unwrap();
    let settle = Entry::Settle(settled(&user, "key"));
    let adjust = Entry::Adjust(adjustment(&user, opened.request, "key", -5, -1));
    for entry in [&settle, &adjust] {
        let refused = first.journal(std::slice::from_ref(entry), None).await;
        assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
    }
    assert!(matches!(first.confirm_changes(0).await, Err(StoreError::Superseded)));
    assert_eq!(used(&second, user.id).await, (8, 1), "it did not adjust either");
    second.journal(&[settle], None).await.unwrap();
    assert_eq!(used(&second, user.id).await, (16, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_by_host_name_cannot_take_the_instance_lock() {
    let fresh = fresh_database().await;
    let Database::Postgres(mut server) = fresh.database() else { panic!() };
    server.pooled = true;
    let store = store::open(&Database::Postgres(server)).await.unwrap();
    let why = said(store.acquire_instance_lock().await);
    assert!(why.contains("pooler") && !why.contains('\n'), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_loses_nothing() {
    let mut server = Server::start().await;
    let store = store::open(&database(&server.url("postgres"))).await.unwrap();
    store.acquire_instance_lock().await.unwrap();
    let user = add_user(&store, "a@b.c").await;
    let writing = Writing::to(&store).await;
    for _ in 0..3 {
        for _ in 0..100 {
            writing.settle(settled(&user, "key"));
        }
        server.stop();
        // Calls go on without the server.
        let lease = lease(&user, "key", 10);
        writing.journal.open(lease.clone()).await.unwrap();
        writing.settle(charge(&lease, 3, 4));
        for _ in 0..100 {
            writing.settle(settled(&user, "key"));
        }
        server.run().await;
    }
    assert_eq!(writing.end().await, 0);
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 603);
    assert_eq!(store.rollup_drift(day("2026-01-02")).await.unwrap(), []);
}

/// After a switchover sessions may be to a standby, and stay open.
#[tokio::test(flavor = "multi_thread")]
async fn read_only_sessions_are_replaced() {
    let (store, fresh) = fresh().await;
    store.acquire_instance_lock().await.unwrap();
    let user = add_user(&store, "a@b.c").await;
    store.journal(&[Entry::Settle(settled(&user, "key"))], None).await.unwrap();
    let mut past = fresh.connection().await;
    let name = fresh.url.rsplit_once('/').unwrap().1;
    let turn = |to: &str| AssertSqlSafe(format!("alter database {name} {to}"));
    sqlx::query(turn("set default_transaction_read_only = on")).execute(&mut past).await.unwrap();
    sqlx::query(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(&mut past)
    .await
    .unwrap();

    // All connections of the pool are made anew, and take no writes.
    let reads = (0..8).map(|_| store.user(user.id));
    futures_util::future::try_join_all(reads).await.unwrap();
    let charge = settled(&user, "key");
    for _ in 0..2 {
        let told = said(store.journal(&[Entry::Settle(charge.clone())], None).await);
        assert!(told.contains("is read-only") && told.contains("primary"), "{told}");
    }
    assert!(said(store.ping().await).contains("is read-only"));
    assert!(store.user(user.id).await.unwrap().is_some(), "reads go on");

    sqlx::query(turn("reset default_transaction_read_only")).execute(&mut past).await.unwrap();
    store.journal(&[Entry::Settle(charge)], None).await.unwrap();
    store.ping().await.unwrap();
    for n in 0..8 {
        add_user(&store, &format!("{n}@b.c")).await;
    }
    assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 2);
    assert!(
        said(open(&fresh).await.acquire_instance_lock().await).contains("another knockx"),
        "the lock is held"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_connections_fails_queries_fast() {
    let mut server = Server::start().await;
    let database = database(&server.url("postgres"));
    let direct = store::open(&database).await.unwrap();
    let user = add_user(&direct, "a@b.c").await;
    let metrics = Arc::new(Metrics::new(&[], &[]));
    let store = direct.measured(metrics);
    assert!(store.user(user.id).await.unwrap().is_some());
    server.stop();
    let began = std::time::Instant::now();
    let asked = (0..20).map(|_| store.user_by_email("a@b.c"));
    let told = futures_util::future::join_all(asked).await;
    assert!(began.elapsed().as_millis() < 1_000, "{:?}", began.elapsed());
    for told in told {
        let told = said(told);
        assert!(told.contains("refuses connections") || told.contains("stopped"), "{told}");
    }
    let again = std::time::Instant::now();
    said(store.credentials("a@b.c").await.map(drop));
    said(store.add_user(&new_user("b@b.c", "p"), &by()).await.map_err(|e| match e {
        store::UserError::Store(e) => e,
        other => panic!("{other}"),
    }));
    assert!(again.elapsed().as_millis() < 1_000, "{:?}", again.elapsed());
    let began = std::time::Instant::now();
    let Err(refused) = store::open_at_once(&database).await else { panic!("it is stopped") };
    assert!(refused.to_string().contains("refuses connections"), "{refused}");
    assert!(began.elapsed().as_millis() < 1_000, "{:?}", began.elapsed());
    server.run().await;
    soon("the store is there again", || async { store.user(user.id).await.is_ok() }).await;
    store.close().await;
}

/// Debian's PgBouncer may be older or newer than 1.21, which learned to keep prepared statements
/// apart: what must never happen is a wrong answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_works_or_is_rejected() {
    let server = Server::start().await;
    let direct = store::open(&database(&server.url("postgres"))).await.unwrap();
    let user = add_user(&direct, "a@b.c").await;

    let careless = PgBouncer::start(server.port(), 0).await;
    let Err(refused) = store::open(&database(&careless.url())).await else {
        panic!("prepared statements are mixed up")
    };
    let looked = said(store::check(&database(&careless.url()), false).await);
    for sentence in [refused.to_string(), looked] {
        assert!(sentence.contains("max_prepared_statements"), "{sentence}");
    }

    let careful = PgBouncer::start(server.port(), 200).await;
    let careful_url = database(&careful.url());
    match store::open(&careful_url).await {
        Err(refused) => {
            assert!(!careful.keeps_statements_apart, "{refused}");
            assert!(refused.to_string().contains("max_prepared_statements"), "{refused}");
        }
        Ok(store) => {
            let leases: Vec<Lease> = (0..200).map(|_| lease(&user, "key", 10)).collect();
            for lease in &leases {
                store.journal(&[Entry::Settle(charge(lease, 3, 4))], None).await.unwrap();
                assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
            }
            assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 200);
            assert!(said(store.acquire_instance_lock().await).contains("pooler"));
            assert!(said(store::check(&careful_url, true).await).contains("direct connection"));
            assert!(store::check(&careful_url, false).await.unwrap().contains("Postgres 1"));
        }
    }
}
