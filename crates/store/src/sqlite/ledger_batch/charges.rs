//! Rows of the ledger.

use super::bulk_insert::BulkInsert;
use crate::encode::{DayColumn, integer};
use domain::charge::Charge;
use domain::day::Day;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// `in_rollups`: who inserts these rows also writes the rollups.
const COLUMNS: [&str; 20] = [
    "request",
    "user_id",
    "key_id",
    "model",
    "upstream",
    "day",
    "admitted_at",
    "prompt",
    "cached",
    "completion",
    "reasoning",
    "cost_micro_dollars",
    "status",
    "source",
    "counted",
    "first_token_ms",
    "total_ms",
    "client_request_id",
    "uncounted",
    "in_rollups",
];

static INSERT: LazyLock<BulkInsert> =
    LazyLock::new(|| BulkInsert::new("usage_event", &COLUMNS, "on conflict do nothing"));

/// `$1`: charges as a JSON array.
const MERGE: &str = include_str!("merge_charges.sql");

/// Inserts the charges that the ledger does not have yet, without their rollups. Returns the number of inserted rows.
pub(super) async fn insert(
    charges: &[&Charge],
    connection: &mut SqliteConnection,
) -> Result<u64, sqlx::Error> {
    let days = texts_of_days(charges);
    let insert = INSERT.execute(
        charges,
        |insert, charge| {
            insert
                .bind(charge.request.0)
                .bind(charge.user.0)
                .bind(charge.key.as_str())
                .bind(Arc::clone(&charge.model))
                .bind(Arc::clone(&charge.upstream))
                .bind(Arc::clone(&days[&charge.day]))
                .bind(charge.admitted_at.as_millisecond())
                .bind(integer(charge.tokens.prompt))
                .bind(integer(charge.tokens.cached))
                .bind(integer(charge.tokens.completion))
                .bind(integer(charge.tokens.reasoning))
                .bind(charge.cost_micro_dollars)
                .bind(charge.status.as_str())
                .bind(charge.source.as_str())
                .bind(charge.counted)
                .bind(charge.first_token_ms)
                .bind(charge.total_ms)
                .bind(charge.client_request_id.clone())
                .bind(integer(charge.uncounted))
                .bind(true)
        },
        connection,
    );
    insert.await
}

/// The text of each day, once for all rows: a batch has hundreds of rows, and almost always of one day.
fn texts_of_days(charges: &[&Charge]) -> BTreeMap<Day, Arc<str>> {
    let mut days = BTreeMap::new();
    for charge in charges {
        days.entry(charge.day).or_insert_with(|| Arc::from(DayColumn(charge.day).text()));
    }
    days
}

/// Inserts charges, and replaces the estimates for which they are the real ones, with their rollups.
pub(super) async fn merge(
    charges: &[&Charge],
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = charges.iter().map(|charge| ChargeRow(charge)).collect();
    let rows = serde_json::to_string(&rows).map_err(|e| sqlx::Error::Encode(e.into()))?;
    sqlx::query(MERGE).bind(rows).execute(connection).await.map(drop)
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
