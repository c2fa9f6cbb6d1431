//! Stores the fingerprint of the server secret that the hashes in the store depend on.

use super::PostgresStore;
use crate::account::server_secret::{Fingerprint, ServerSecret};
use crate::store::StoreError;
use crate::store::columns;
use crate::store::sessions::Adopted;
use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

pub(super) async fn adopt(
    store: &PostgresStore,
    secret: &ServerSecret,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    let mut tx = store.pool.begin().await?;
    let mine = secret.fingerprint();
    // Gateways that start at the same time wait here for the first of them.
    let inserted = sqlx::query(
        "insert into server_secret (fingerprint, since)
         values ($1, $2)
         on conflict (the_only) do nothing",
    )
    .bind(mine.0.to_vec())
    .bind(now.as_millisecond())
    .execute(&mut *tx)
    .await?;
    let adopted = if inserted.rows_affected() > 0 {
        key_old_hashes(&mut tx, secret).await?;
        Adopted::First
    } else if recorded(&mut tx).await? == Some(mine) {
        Adopted::Same
    } else {
        replace(&mut tx, mine, now).await?
    };
    tx.commit().await?;
    Ok(adopted)
}

pub(super) async fn in_use(
    store: &PostgresStore,
    mine: Option<Fingerprint>,
    now: Timestamp,
) -> Result<Option<Fingerprint>, StoreError> {
    let mut tx = store.pool.begin().await?;
    if let Some(mine) = mine {
        sqlx::query(
            "insert into server_secret (fingerprint, since)
             select $1, $2
             where not exists (select from api_key)
             on conflict (the_only) do nothing",
        )
        .bind(mine.0.to_vec())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
    }
    let in_use = recorded(&mut tx).await?;
    tx.commit().await?;
    Ok(in_use)
}

/// Held until the end of the transaction.
async fn recorded(tx: &mut PgConnection) -> Result<Option<Fingerprint>, StoreError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("select fingerprint from server_secret for update")
            .fetch_optional(tx)
            .await?;
    stored.map(|stored| columns::fingerprint(&stored)).transpose()
}

async fn replace(
    tx: &mut PgConnection,
    mine: Fingerprint,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    sqlx::query("update server_secret set fingerprint = $1, since = $2")
        .bind(mine.0.to_vec())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
    let live_keys = sqlx::query_scalar(
        "select count(*)
         from api_key
         where revoked_at is null
           and (expires_at is null or expires_at > $1)",
    )
    .bind(now.as_millisecond())
    .fetch_one(&mut *tx)
    .await?;
    let ended = sqlx::query("delete from session").execute(&mut *tx).await?;
    Ok(Adopted::Changed { live_keys: columns::count(live_keys)?, sessions: ended.rows_affected() })
}

/// Hashes of refresh tokens that have no key yet get this secret's.
async fn key_old_hashes(tx: &mut PgConnection, secret: &ServerSecret) -> Result<(), StoreError> {
    let rows: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as("select id, digest from session for update").fetch_all(&mut *tx).await?;
    for (session, digest) in rows {
        sqlx::query("update session set digest = $2 where id = $1")
            .bind(session)
            .bind(secret.refresh_digest(&digest).to_vec())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
