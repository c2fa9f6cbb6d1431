//! Stores the fingerprint of the server secret that the hashes in the store depend on.

use super::SqliteStore;
use crate::account::server_secret::{Fingerprint, ServerSecret};
use crate::store::StoreError;
use crate::store::columns;
use crate::store::sessions::Adopted;
use jiff::Timestamp;
use sqlx::SqliteConnection;

pub(super) async fn adopt(
    store: &SqliteStore,
    secret: &ServerSecret,
    now: Timestamp,
) -> Result<Adopted, StoreError> {
    let mut turn = store.writer.turn().await?;
    let mut tx = turn.begin().await?;
    let mine = secret.fingerprint();
    let adopted = match recorded(&mut tx).await? {
        None => {
            key_old_hashes(&mut tx, secret).await?;
            Adopted::First
        }
        Some(before) if before == mine => return Ok(Adopted::Same),
        Some(_) => Adopted::Changed {
            live_keys: live_keys(&mut tx, now).await?,
            sessions: sqlx::query("delete from session").execute(&mut *tx).await?.rows_affected(),
        },
    };
    sqlx::query(
        "insert into server_secret (fingerprint, since)
         values (?1, ?2)
         on conflict (the_only) do update set
             fingerprint = excluded.fingerprint,
             since = excluded.since",
    )
    .bind(mine.0.to_vec())
    .bind(now.as_millisecond())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(adopted)
}

pub(super) async fn in_use(
    store: &SqliteStore,
    mine: Option<Fingerprint>,
    now: Timestamp,
) -> Result<Option<Fingerprint>, StoreError> {
    let mut turn = store.writer.turn().await?;
    let mut tx = turn.begin().await?;
    if let Some(mine) = mine {
        sqlx::query(
            "insert into server_secret (fingerprint, since)
             select ?1, ?2
             where not exists (select 1 from api_key)
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

async fn recorded(tx: &mut SqliteConnection) -> Result<Option<Fingerprint>, StoreError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("select fingerprint from server_secret").fetch_optional(tx).await?;
    stored.map(|stored| columns::fingerprint(&stored)).transpose()
}

async fn live_keys(tx: &mut SqliteConnection, now: Timestamp) -> Result<u64, StoreError> {
    let live = sqlx::query_scalar(
        "select count(*)
         from api_key
         where revoked_at is null
           and (expires_at is null or expires_at > ?1)",
    )
    .bind(now.as_millisecond())
    .fetch_one(tx)
    .await?;
    columns::count(live)
}

/// Hashes of refresh tokens that have no key yet get this secret's.
async fn key_old_hashes(
    tx: &mut SqliteConnection,
    secret: &ServerSecret,
) -> Result<(), StoreError> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as("select id, digest from session").fetch_all(&mut *tx).await?;
    for (session, digest) in rows {
        sqlx::query("update session set digest = ?2 where id = ?1")
            .bind(session)
            .bind(secret.refresh_digest(&digest).to_vec())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
