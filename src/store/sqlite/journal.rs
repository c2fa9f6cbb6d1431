//! The ledger's batches: charges and adjustments, in one transaction with their position in a journal.
//!
//! A batch costs the same one round trip to SQLite's thread however long it is: its entries travel
//! as one JSON array each kind, and `journal.sql` is the whole transaction.

use super::SqliteStore;
use crate::account::charge::{Adjustment, Charge};
use crate::account::id::RequestId;
use crate::store::columns::{self, integer};
use crate::store::{Entry, Mark, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

/// A batch of more entries than this means that the ledger is behind.
const BACKLOG_BATCH: usize = 500;

/// `$1` charges, `$2` adjustments, `$3` log and `$4` position, or null.
const JOURNAL: &str = include_str!("journal.sql");

pub(super) async fn write(
    store: &SqliteStore,
    batch: &[Entry],
    mark: Option<Mark>,
) -> Result<(), StoreError> {
    let (charges, adjustments) = arrays(batch);
    let turn = store.writer.turn().await?;
    if batch.len() > BACKLOG_BATCH {
        turn.stop_yielding();
    }
    turn.once(async |connection| {
        sqlx::query(JOURNAL)
            .bind(charges)
            .bind(adjustments)
            .bind(mark.map(|mark| mark.log.simple().to_string()))
            .bind(mark.map(|mark| integer(mark.position)))
            .execute(connection)
            .await
    })
    .await?;
    Ok(())
}

pub(super) async fn mark(store: &SqliteStore, log: Uuid) -> Result<Option<u64>, StoreError> {
    let position: Option<i64> =
        sqlx::query_scalar("select position from journal_mark where log = ?1")
            .bind(columns::blob(log))
            .fetch_optional(&store.readers)
            .await?;
    position.map(columns::count).transpose()
}

pub(super) async fn latest_mark(store: &SqliteStore) -> Result<Option<Mark>, StoreError> {
    let latest: Option<(Vec<u8>, i64)> =
        sqlx::query_as("select log, position from journal_mark where is_latest")
            .fetch_optional(&store.readers)
            .await?;
    latest
        .map(|(log, position)| {
            Ok(Mark { log: columns::uuid(&log)?, position: columns::count(position)? })
        })
        .transpose()
}

/// The entries of each kind as a JSON array.
fn arrays(batch: &[Entry]) -> (String, String) {
    let (mut charges, mut adjustments) = (Vec::new(), Vec::new());
    for entry in batch {
        match entry {
            Entry::Settle(charge) => charges.push(charge_row(charge)),
            Entry::Adjust(adjustment) => adjustments.push(adjustment_row(adjustment)),
        }
    }
    let text = |entries| Value::Array(entries).to_string();
    (text(charges), text(adjustments))
}

fn charge_row(charge: &Charge) -> Value {
    json!([
        hex(charge.request),
        charge.user.0.simple().to_string(),
        charge.key.as_str(),
        charge.model,
        charge.upstream,
        charge.day.to_string(),
        charge.admitted_at.as_millisecond(),
        integer(charge.tokens.prompt),
        integer(charge.tokens.cached),
        integer(charge.tokens.completion),
        integer(charge.tokens.reasoning),
        charge.cost_micro_dollars,
        charge.status.as_str(),
        charge.source.as_str(),
        i32::from(charge.counted),
        charge.first_token_ms,
        charge.total_ms,
        charge.client_request_id,
    ])
}

fn adjustment_row(adjustment: &Adjustment) -> Value {
    json!([
        hex(adjustment.reset),
        adjustment.user.0.simple().to_string(),
        adjustment.key.as_str(),
        adjustment.day.to_string(),
        adjustment.tokens,
        adjustment.requests,
        adjustment.at.as_millisecond(),
        adjustment.by,
    ])
}

fn hex(request: RequestId) -> String {
    request.0.simple().to_string()
}
