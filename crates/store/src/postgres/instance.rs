//! The instance lock, and the changes that its holder has confirmed.

use super::PostgresStore;
use super::writer::INSTANCE_LOCK;
use crate::{StoreError, encode};
use domain::id::UserId;

pub(super) async fn acquire_instance_lock(store: &PostgresStore) -> Result<(), StoreError> {
    store.writer.acquire_instance_lock(&store.pool).await
}

pub(super) async fn release_instance_lock(store: &PostgresStore) -> Result<(), StoreError> {
    store.writer.release_instance_lock().await
}

/// Writes only if the number has risen: this runs several times a second. Does nothing without the lock.
pub(super) async fn confirm_changes(store: &PostgresStore, upto: u64) -> Result<(), StoreError> {
    let Some(epoch) = store.writer.epoch() else { return Ok(()) };
    let upto = encode::integer(upto);
    let confirmed: Option<i64> =
        sqlx::query_scalar("select confirmed from instance where epoch = $1")
            .bind(epoch)
            .fetch_optional(&store.pool)
            .await?;
    if confirmed.ok_or(StoreError::Superseded)? < upto {
        sqlx::query("update instance set confirmed = $2 where epoch = $1 and confirmed < $2")
            .bind(epoch)
            .bind(upto)
            .execute(&store.pool)
            .await?;
    }
    Ok(())
}

/// True if the change was confirmed, or no instance holds the lock, which it does while it runs.
pub(super) async fn is_change_confirmed(
    store: &PostgresStore,
    user: Option<UserId>,
) -> Result<bool, StoreError> {
    let confirmed = sqlx::query_scalar(
        "select instance.confirmed >= coalesce((
                 select max(change_seq) from users where $1::uuid is null or id = $1
             ), 0)
             or not exists (
                 select from pg_locks
                 where locktype = 'advisory' and granted and objsubid = 1
                   and database = (select oid from pg_database where datname = current_database())
                   and (classid::bigint << 32) | objid::bigint = $2
             )
         from instance",
    )
    .bind(user.map(|user| user.0))
    .bind(INSTANCE_LOCK)
    .fetch_one(&store.pool)
    .await?;
    Ok(confirmed)
}
