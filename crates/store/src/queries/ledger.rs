//! Writes batches to the ledger, reads its positions in journals, and stores the entries that it cannot take.

use super::dialect::Backend;
use super::ledger_batch;
use crate::StoreError;
use crate::encode;
use crate::ledger::{Entry, JournalPosition, Ledger};
use async_trait::async_trait;
use jiff::Timestamp;
use telemetry::labels::StoreOp;
use uuid::Uuid;

#[async_trait]
impl Ledger for Backend {
    async fn write_batch(
        &self,
        batch: &[Entry],
        position: Option<JournalPosition>,
    ) -> Result<(), StoreError> {
        self.handle.run(StoreOp::Journal, self, ledger_batch::write(self, batch, position)).await
    }

    async fn position_in(&self, log: Uuid) -> Result<Option<u64>, StoreError> {
        self.read(StoreOp::Journal, async {
            let position: Option<i64> =
                sqlx::query_scalar("select position from journal_mark where log = $1")
                    .bind(log)
                    .fetch_optional(&self.pool)
                    .await?;
            position.map(encode::count).transpose()
        })
        .await
    }

    async fn latest_position(&self) -> Result<Option<JournalPosition>, StoreError> {
        self.read(StoreOp::Journal, async {
            let latest: Option<(Uuid, i64)> =
                sqlx::query_as("select log, position from journal_mark where is_latest")
                    .fetch_optional(&self.pool)
                    .await?;
            let decode =
                |(log, position)| Ok(JournalPosition { log, position: encode::count(position)? });
            latest.map(decode).transpose()
        })
        .await
    }

    async fn dead_letter(&self, entry: &str, why: &str, now: Timestamp) -> Result<(), StoreError> {
        self.write(StoreOp::Ledger, async |connection| {
            sqlx::query(
                "insert into usage_dead (id, at, why, entry)
                 values ($1, $2, $3, $4)
                 on conflict (id) do nothing",
            )
            .bind(encode::digest(entry))
            .bind(now.as_millisecond())
            .bind(encode::text(why))
            .bind(encode::text(entry))
            .execute(connection)
            .await?;
            Ok(())
        })
        .await
    }
}
