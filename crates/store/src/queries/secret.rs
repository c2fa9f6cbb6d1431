//! Stores the fingerprint of the server secret that the hashes in the store depend on.

use super::dialect::{Connection, for_update};
use crate::StoreError;
use crate::encode;
use crate::sessions::SecretAdoption;
use domain::server_secret::{Fingerprint, ServerSecret};
use jiff::Timestamp;
use uuid::Uuid;

pub(super) async fn adopt(
    tx: &mut Connection,
    secret: &ServerSecret,
    now: Timestamp,
) -> Result<SecretAdoption, StoreError> {
    let mine = secret.fingerprint();
    // Gateways that start at the same time wait here for the first one.
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
        key_old_hashes(tx, secret).await?;
        SecretAdoption::First
    } else if recorded(tx).await? == Some(mine) {
        SecretAdoption::Same
    } else {
        replace(tx, mine, now).await?
    };
    Ok(adopted)
}

pub(super) async fn in_use(
    tx: &mut Connection,
    mine: Option<Fingerprint>,
    now: Timestamp,
) -> Result<Option<Fingerprint>, StoreError> {
    if let Some(mine) = mine {
        sqlx::query(
            "insert into server_secret (fingerprint, since)
             select $1, $2
             where not exists (select 1 from api_key)
             on conflict (the_only) do nothing",
        )
        .bind(mine.0.to_vec())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
    }
    recorded(tx).await
}

/// The recorded fingerprint, locked until the transaction ends.
async fn recorded(tx: &mut Connection) -> Result<Option<Fingerprint>, StoreError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar(concat!("select fingerprint from server_secret", for_update!()))
            .fetch_optional(tx)
            .await?;
    stored.map(|stored| encode::fingerprint(&stored)).transpose()
}

async fn replace(
    tx: &mut Connection,
    mine: Fingerprint,
    now: Timestamp,
) -> Result<SecretAdoption, StoreError> {
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
    let second_factors =
        sqlx::query_scalar("select count(*) from second_factor where enabled_at is not null")
            .fetch_one(&mut *tx)
            .await?;
    Ok(SecretAdoption::Changed {
        live_keys: encode::count(live_keys)?,
        sessions: ended.rows_affected(),
        second_factors: encode::count(second_factors)?,
    })
}

/// Hashes refresh tokens again, with the secret, that an earlier version hashed without one.
async fn key_old_hashes(tx: &mut Connection, secret: &ServerSecret) -> Result<(), StoreError> {
    let rows: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as(concat!("select id, digest from session", for_update!()))
            .fetch_all(&mut *tx)
            .await?;
    for (session, digest) in rows {
        sqlx::query("update session set digest = $2 where id = $1")
            .bind(session)
            .bind(secret.refresh_digest(&digest).to_vec())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
