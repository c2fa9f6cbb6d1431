//! Entries that no ledger can take.

use super::SqliteStore;
use crate::store::{StoreError, columns};
use jiff::Timestamp;

pub(super) async fn bury(
    store: &SqliteStore,
    entry: &str,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut turn = store.writer.turn().await?;
    sqlx::query(
        "insert into usage_dead (id, at, why, entry)
         values (?1, ?2, ?3, ?4)
         on conflict (id) do nothing",
    )
    .bind(columns::digest(entry))
    .bind(now.as_millisecond())
    .bind(columns::text(why))
    .bind(columns::text(entry))
    .execute(&mut *turn)
    .await?;
    Ok(())
}

pub(super) async fn buried(store: &SqliteStore) -> Result<u64, StoreError> {
    let count =
        sqlx::query_scalar("select count(*) from usage_dead").fetch_one(&store.readers).await?;
    columns::count(count)
}
