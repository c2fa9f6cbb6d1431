//! Entries that no ledger can take.

use super::PostgresStore;
use crate::store::{StoreError, columns};
use jiff::Timestamp;

pub(super) async fn bury(
    store: &PostgresStore,
    entry: &str,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into usage_dead (id, at, why, entry)
         values ($1, $2, $3, $4)
         on conflict (id) do nothing",
    )
    .bind(columns::digest(entry))
    .bind(now.as_millisecond())
    .bind(columns::text(why))
    .bind(columns::text(entry))
    .execute(&store.pool)
    .await?;
    Ok(())
}

pub(super) async fn buried(store: &PostgresStore) -> Result<u64, StoreError> {
    let count =
        sqlx::query_scalar("select count(*) from usage_dead").fetch_one(&store.pool).await?;
    columns::count(count)
}
