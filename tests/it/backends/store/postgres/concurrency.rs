//! Writers, replicas and instances at the same time.

use super::connections::cut_writers;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_all_start() {
    let fresh = fresh_database().await;
    let stores = futures_util::future::join_all((0..6).map(|_| open(&fresh))).await;
    for store in stores {
        assert_eq!(store.plans().await.unwrap(), []);
    }
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
    tasks.spawn("versions", Arc::clone(&versions).poll_loop(journal, stop.clone()));
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
                store.write_batch(&batch, None).await.unwrap();
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
             0, 0, 10, 0, 0, 'abandoned', 'estimated', true, null, 0, null, 3
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
    let (written, ()) = tokio::join!(store.write_batch(&settle, None), commit);
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
    store.write_batch(&[Entry::Settle(below_zero)], None).await.unwrap();
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
    first.write_batch(&[Entry::Settle(charge(&opened, 3, 4))], None).await.unwrap();
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
        let refused = first.write_batch(std::slice::from_ref(entry), None).await;
        assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
    }
    assert!(matches!(first.confirm_changes(0).await, Err(StoreError::Superseded)));
    assert_eq!(used(&second, user.id).await, (8, 1), "it did not adjust either");
    second.write_batch(&[settle], None).await.unwrap();
    assert_eq!(used(&second, user.id).await, (16, 2));
}
