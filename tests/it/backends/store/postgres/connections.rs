//! Connections that are cut, refused or lead to a standby.

use super::*;

/// Cuts the connections of this database that hold an advisory lock, or that ran the journal.
pub(super) async fn cut_writers(connection: &mut PgConnection) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_no_batch() {
    let (store, fresh) = fresh().await;
    store.acquire_instance_lock().await.unwrap();
    let user = add_user(&store, "a@b.c").await;
    let mut past = fresh.connection().await;
    for n in 1..4 {
        let lease = lease(&user, "key", 10);
        store.write_batch(&[Entry::Settle(charge(&lease, 3, 4))], None).await.unwrap();
        assert_eq!(store.charges(lease.day).await.unwrap().len(), n);
        cut_writers(&mut past).await;
    }
    // The lock was taken again with the new connection.
    store.write_batch(&[], None).await.unwrap();
    assert!(said(open(&fresh).await.acquire_instance_lock().await).contains("another knockx"));
}

/// Stands for a network that swallows answers: the batch may be done, and is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_is_lost_is_written_once() {
    let (store, fresh) = fresh().await;
    let user = add_user(&store, "a@b.c").await;
    store.write_batch(&[], None).await.unwrap();
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
    let mark = Some(JournalPosition { log: uuid::Uuid::from_u128(1), position: 9 });
    said(store.write_batch(&batch, mark).await);
    assert_eq!(store.latest_position().await.unwrap(), None);
    sqlx::query("drop trigger cut on usage_adjustment").execute(&mut past).await.unwrap();
    for _ in 0..2 {
        store.write_batch(&batch, mark).await.unwrap();
        assert_eq!(used(&store, user.id).await, (6, 1));
        assert_eq!(store.latest_position().await.unwrap(), mark);
    }
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
    store.write_batch(&[Entry::Settle(settled(&user, "key"))], None).await.unwrap();
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

    // All connections of the pool are opened again, and take no writes. One that was used a moment ago fails once.
    soon("reads succeed", || async {
        let reads = (0..8).map(|_| store.user(user.id));
        futures_util::future::try_join_all(reads).await.is_ok()
    })
    .await;
    let charge = settled(&user, "key");
    for _ in 0..2 {
        let told = said(store.write_batch(&[Entry::Settle(charge.clone())], None).await);
        assert!(told.contains("is read-only") && told.contains("primary"), "{told}");
    }
    assert!(said(store.ping().await).contains("is read-only"));
    assert!(store.user(user.id).await.unwrap().is_some(), "reads go on");

    sqlx::query(turn("reset default_transaction_read_only")).execute(&mut past).await.unwrap();
    soon("writes succeed", || async {
        store.write_batch(&[Entry::Settle(charge.clone())], None).await.is_ok()
    })
    .await;
    store.ping().await.unwrap();
    soon("no session is read-only", || async {
        let pings = (0..8).map(|_| store.ping());
        futures_util::future::try_join_all(pings).await.is_ok()
    })
    .await;
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
