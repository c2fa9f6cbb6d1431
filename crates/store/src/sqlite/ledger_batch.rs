//! The ledger's batches: charges and adjustments, in one transaction with their position in a journal.
//!
//! A batch costs the same one round trip to SQLite's thread however long it is: its entries travel
//! as one JSON array each kind, and `journal.sql` is the whole transaction.

use super::SqliteStore;
use crate::encode::integer;
use crate::{Entry, JournalPosition, StoreError};
use domain::charge::{Adjustment, Charge};
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// A batch of more entries than this means that the ledger is behind.
const BACKLOG_BATCH: usize = 500;

/// `$1` charges, `$2` adjustments, `$3` log and `$4` position, or null.
const JOURNAL: &str = include_str!("ledger_batch.sql");

pub(super) async fn write(
    store: &SqliteStore,
    batch: &[Entry],
    position: Option<JournalPosition>,
) -> Result<(), StoreError> {
    let arrays = arrays(batch);
    let (charges, adjustments) = arrays.map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let turn = store.writer.turn().await?;
    if batch.len() > BACKLOG_BATCH {
        turn.stop_yielding();
    }
    turn.once(async |connection| {
        sqlx::query(JOURNAL)
            .bind(charges)
            .bind(adjustments)
            .bind(position.map(|at| at.log.simple().to_string()))
            .bind(position.map(|at| integer(at.position)))
            .execute(connection)
            .await
    })
    .await?;
    Ok(())
}

/// The entries of each kind as a JSON array.
fn arrays(batch: &[Entry]) -> Result<(String, String), serde_json::Error> {
    let (mut charges, mut adjustments) = (Vec::new(), Vec::new());
    for entry in batch {
        match entry {
            Entry::Settle(charge) => charges.push(ChargeRow(charge)),
            Entry::Adjust(adjustment) => adjustments.push(AdjustmentRow(adjustment)),
        }
    }
    Ok((serde_json::to_string(&charges)?, serde_json::to_string(&adjustments)?))
}

/// A charge as an array of its columns.
struct ChargeRow<'a>(&'a Charge);

impl Serialize for ChargeRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(charge) = self;
        let mut row = serializer.serialize_seq(Some(19))?;
        row.serialize_element(&charge.request.0.simple())?;
        row.serialize_element(&charge.user.0.simple())?;
        row.serialize_element(charge.key.as_str())?;
        row.serialize_element(&charge.model)?;
        row.serialize_element(&charge.upstream)?;
        row.serialize_element(&charge.day)?;
        row.serialize_element(&charge.admitted_at.as_millisecond())?;
        row.serialize_element(&integer(charge.tokens.prompt))?;
        row.serialize_element(&integer(charge.tokens.cached))?;
        row.serialize_element(&integer(charge.tokens.completion))?;
        row.serialize_element(&integer(charge.tokens.reasoning))?;
        row.serialize_element(&charge.cost_micro_dollars)?;
        row.serialize_element(charge.status.as_str())?;
        row.serialize_element(charge.source.as_str())?;
        row.serialize_element(&i32::from(charge.counted))?;
        row.serialize_element(&charge.first_token_ms)?;
        row.serialize_element(&charge.total_ms)?;
        row.serialize_element(&charge.client_request_id)?;
        row.serialize_element(&integer(charge.uncounted))?;
        row.end()
    }
}

/// An adjustment as an array of its columns.
struct AdjustmentRow<'a>(&'a Adjustment);

impl Serialize for AdjustmentRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(adjustment) = self;
        let mut row = serializer.serialize_seq(Some(8))?;
        row.serialize_element(&adjustment.reset.0.simple())?;
        row.serialize_element(&adjustment.user.0.simple())?;
        row.serialize_element(adjustment.key.as_str())?;
        row.serialize_element(&adjustment.day)?;
        row.serialize_element(&adjustment.tokens)?;
        row.serialize_element(&adjustment.requests)?;
        row.serialize_element(&adjustment.at.as_millisecond())?;
        row.serialize_element(&adjustment.by)?;
        row.end()
    }
}
