//! Databases of earlier versions.

use super::*;

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
