//! The ledger's batches: charges and adjustments, in one transaction with their position in a journal.
//!
//! A batch costs one round trip however long it is: its entries travel as arrays, one for each
//! column, and the function `project` in the migrations is the whole transaction.

use super::PostgresStore;
use crate::encode::integer;
use crate::{Entry, JournalPosition, StoreError};
use domain::charge::{Adjustment, Charge};
use sqlx::PgConnection;
use uuid::Uuid;

const PROJECT: &str = "select project(
    $1, $2, $3,
    $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24, $25, $26, $27, $28, $29, $30
)";

pub(super) async fn write(
    store: &PostgresStore,
    batch: &[Entry],
    position: Option<JournalPosition>,
) -> Result<(), StoreError> {
    store.writer.write(&Arrays::of(batch, position)).await
}

/// The entries of each kind, as one array for each column.
#[derive(Default)]
pub(super) struct Arrays<'a> {
    position: Option<JournalPosition>,
    charges: Charges<'a>,
    adjustments: Adjustments<'a>,
}

#[derive(Default)]
struct Charges<'a> {
    request: Vec<Uuid>,
    user: Vec<Uuid>,
    key: Vec<&'a str>,
    model: Vec<&'a str>,
    upstream: Vec<&'a str>,
    day: Vec<String>,
    admitted_at: Vec<i64>,
    prompt: Vec<i64>,
    cached: Vec<i64>,
    completion: Vec<i64>,
    reasoning: Vec<i64>,
    cost: Vec<i64>,
    status: Vec<&'a str>,
    source: Vec<&'a str>,
    counted: Vec<bool>,
    first_token_ms: Vec<Option<i64>>,
    total_ms: Vec<i64>,
    client_request_id: Vec<Option<&'a str>>,
    uncounted: Vec<i64>,
}

#[derive(Default)]
struct Adjustments<'a> {
    reset: Vec<Uuid>,
    user: Vec<Uuid>,
    key: Vec<&'a str>,
    day: Vec<String>,
    tokens: Vec<i64>,
    requests: Vec<i64>,
    at: Vec<i64>,
    by: Vec<&'a str>,
}

impl<'a> Arrays<'a> {
    fn of(batch: &'a [Entry], position: Option<JournalPosition>) -> Self {
        let mut arrays = Self { position, ..Self::default() };
        for entry in batch {
            match entry {
                Entry::Settle(charge) => arrays.charges.push(charge),
                Entry::Adjust(adjustment) => arrays.adjustments.push(adjustment),
            }
        }
        arrays
    }

    /// Writes the batch, unless `epoch` is no longer that of the instance lock.
    pub(super) async fn write(
        &self,
        epoch: Option<i64>,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let Self { position, charges, adjustments } = self;
        sqlx::query(PROJECT)
            .bind(epoch)
            .bind(position.map(|at| at.log))
            .bind(position.map(|at| integer(at.position)))
            .bind(&charges.request)
            .bind(&charges.user)
            .bind(&charges.key)
            .bind(&charges.model)
            .bind(&charges.upstream)
            .bind(&charges.day)
            .bind(&charges.admitted_at)
            .bind(&charges.prompt)
            .bind(&charges.cached)
            .bind(&charges.completion)
            .bind(&charges.reasoning)
            .bind(&charges.cost)
            .bind(&charges.status)
            .bind(&charges.source)
            .bind(&charges.counted)
            .bind(&charges.first_token_ms)
            .bind(&charges.total_ms)
            .bind(&charges.client_request_id)
            .bind(&charges.uncounted)
            .bind(&adjustments.reset)
            .bind(&adjustments.user)
            .bind(&adjustments.key)
            .bind(&adjustments.day)
            .bind(&adjustments.tokens)
            .bind(&adjustments.requests)
            .bind(&adjustments.at)
            .bind(&adjustments.by)
            .execute(connection)
            .await
            .map(drop)
    }
}

impl<'a> Charges<'a> {
    fn push(&mut self, charge: &'a Charge) {
        self.request.push(charge.request.0);
        self.user.push(charge.user.0);
        self.key.push(charge.key.as_str());
        self.model.push(&charge.model);
        self.upstream.push(&charge.upstream);
        self.day.push(charge.day.to_string());
        self.admitted_at.push(charge.admitted_at.as_millisecond());
        self.prompt.push(integer(charge.tokens.prompt));
        self.cached.push(integer(charge.tokens.cached));
        self.completion.push(integer(charge.tokens.completion));
        self.reasoning.push(integer(charge.tokens.reasoning));
        self.cost.push(charge.cost_micro_dollars);
        self.status.push(charge.status.as_str());
        self.source.push(charge.source.as_str());
        self.counted.push(charge.counted);
        self.first_token_ms.push(charge.first_token_ms.map(i64::from));
        self.total_ms.push(i64::from(charge.total_ms));
        self.client_request_id.push(charge.client_request_id.as_deref());
        self.uncounted.push(integer(charge.uncounted));
    }
}

impl<'a> Adjustments<'a> {
    fn push(&mut self, adjustment: &'a Adjustment) {
        self.reset.push(adjustment.reset.0);
        self.user.push(adjustment.user.0);
        self.key.push(adjustment.key.as_str());
        self.day.push(adjustment.day.to_string());
        self.tokens.push(adjustment.tokens);
        self.requests.push(adjustment.requests);
        self.at.push(adjustment.at.as_millisecond());
        self.by.push(&adjustment.by);
    }
}
