//! PgBouncer in front of the server.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_by_host_name_cannot_take_the_instance_lock() {
    let fresh = fresh_database().await;
    let Database::Postgres(mut server) = fresh.database() else { panic!() };
    server.pooled = true;
    let store = store::open(&Database::Postgres(server)).await.unwrap();
    let why = said(store.acquire_instance_lock().await);
    assert!(why.contains("pooler") && !why.contains('\n'), "{why}");
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
                store.write_batch(&[Entry::Settle(charge(lease, 3, 4))], None).await.unwrap();
                assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&user));
            }
            assert_eq!(store.charges(day("2026-01-02")).await.unwrap().len(), 200);
            assert!(said(store.acquire_instance_lock().await).contains("pooler"));
            assert!(said(store::check(&careful_url, true).await).contains("direct connection"));
            assert!(store::check(&careful_url, false).await.unwrap().contains("Postgres 1"));
        }
    }
}
