//! The ledger's batches: charges and adjustments, in one transaction with their position in a journal.
//!
//! Almost every charge is new. So a batch is inserted as if all were: rows by bound values, and sums of the rollups,
//! each written once. If the ledger turns out to have one of them, the batch is rolled back and merged, row by row,
//! which costs three times as much.

mod bulk_insert;
mod charges;
mod rollups;

use super::SqliteStore;
use crate::encode::integer;
use crate::{Entry, JournalPosition, StoreError};
use domain::charge::{Adjustment, Charge};
use rollups::Rollups;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use sqlx::{Executor, SqliteConnection};

/// A batch of more entries than this means that the ledger is behind.
const BACKLOG_BATCH: usize = 500;

/// `$1`: adjustments as a JSON array.
const INSERT_ADJUSTMENTS: &str = include_str!("insert_adjustments.sql");
/// `$1` log and `$2` position.
const SET_POSITION: &str = include_str!("set_position.sql");

pub(super) async fn write(
    store: &SqliteStore,
    batch: &[Entry],
    position: Option<JournalPosition>,
) -> Result<(), StoreError> {
    let turn = store.writer.turn().await?;
    if batch.len() > BACKLOG_BATCH {
        turn.stop_yielding();
    }
    let (charges, adjustments) = kinds(batch);
    turn.once(async |connection| {
        connection.execute("begin immediate").await?;
        if !insert_new(&charges, connection).await? {
            connection.execute("rollback").await?;
            connection.execute("begin immediate").await?;
            charges::merge(&charges, connection).await?;
        }
        insert_adjustments(&adjustments, connection).await?;
        set_position(position, connection).await?;
        connection.execute("commit").await
    })
    .await?;
    Ok(())
}

/// The entries of each kind.
fn kinds(batch: &[Entry]) -> (Vec<&Charge>, Vec<AdjustmentRow<'_>>) {
    let (mut charges, mut adjustments) = (Vec::with_capacity(batch.len()), Vec::new());
    for entry in batch {
        match entry {
            Entry::Settle(charge) => charges.push(charge),
            Entry::Adjust(adjustment) => adjustments.push(AdjustmentRow(adjustment)),
        }
    }
    (charges, adjustments)
}

/// Inserts charges with their rollups. Returns false if not all of them can be, because the ledger has one already or
/// a sum overflows; the transaction must be rolled back then.
async fn insert_new(
    charges: &[&Charge],
    connection: &mut SqliteConnection,
) -> Result<bool, sqlx::Error> {
    let Some(rollups) = Rollups::of(charges) else { return Ok(false) };
    let inserted = charges::insert(charges, connection).await? == charges.len() as u64;
    if inserted {
        rollups.write(connection).await?;
    }
    Ok(inserted)
}

/// Repeating an adjustment changes nothing.
async fn insert_adjustments(
    adjustments: &[AdjustmentRow<'_>],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    if adjustments.is_empty() {
        return Ok(());
    }
    let rows = serde_json::to_string(adjustments).map_err(|e| sqlx::Error::Encode(e.into()))?;
    sqlx::query(INSERT_ADJUSTMENTS).bind(rows).execute(connection).await.map(drop)
}

async fn set_position(
    position: Option<JournalPosition>,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let Some(at) = position else { return Ok(()) };
    let set = sqlx::query(SET_POSITION).bind(at.log).bind(integer(at.position));
    set.execute(connection).await.map(drop)
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
