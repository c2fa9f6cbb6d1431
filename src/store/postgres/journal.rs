//! The journal's batches: leases, extensions, charges and adjustments, in one transaction.
//!
//! A batch costs one round trip however long it is: its entries travel as arrays, one for each
//! column, and the function `journal` in the migrations is the whole transaction. Kinds are written
//! in the order open, extend, settle, which is also the order of any one request's entries; entries
//! of different requests do not touch each other. Adjustments touch none of them; they are rare, and
//! a batch that has some is another statement, around the same function.

use super::PostgresStore;
use super::checks::ChargeRow;
use crate::account::charge::{Adjustment, Charge, Lease, Source, Status};
use crate::account::id::RequestId;
use crate::store::columns::integer;
use crate::store::{Entry, StoreError, Written};
use sqlx::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

const JOURNAL: &str = "select * from journal(
    $1, $2,
    $3, $4, $5, $6, $7, $8, $9, $10,
    $11, $12,
    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30
)";

/// Where the function refuses the batch, nothing is written here either.
const JOURNAL_AND_ADJUSTMENTS: &str = "with adjusted as (
    insert into usage_adjustment (reset, user_id, key_id, day, tokens, requests, at, by)
    select entry.reset, entry.user_id, entry.key_id, entry.day::date,
        entry.tokens, entry.requests, entry.at, entry.by
    from unnest(
        $31::uuid[], $32::uuid[], $33::text[], $34::text[],
        $35::bigint[], $36::bigint[], $37::bigint[], $38::text[]
    ) as entry (reset, user_id, key_id, day, tokens, requests, at, by)
    on conflict (reset, key_id) do nothing
)
select * from journal(
    $1, $2,
    $3, $4, $5, $6, $7, $8, $9, $10,
    $11, $12,
    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30
)";

pub(super) async fn write(
    store: &PostgresStore,
    batch: &[Entry],
) -> Result<Vec<Written>, StoreError> {
    let arrays = Arrays::of(batch);
    let stale: HashSet<RequestId> =
        store.writer.write(&arrays).await?.into_iter().map(RequestId).collect();
    Ok(batch.iter().map(|entry| answer(entry, &stale)).collect())
}

/// Every lease left open becomes a charge. What the dead call really used is not known, so all it
/// held is charged, as one estimate of the total in `completion`.
pub(super) async fn abandon(store: &PostgresStore) -> Result<Vec<Charge>, StoreError> {
    let claimed = store.writer.epoch().await;
    let mut tx = store.pool.begin().await?;
    sqlx::query("select hold_fence($1)").bind(claimed).execute(&mut *tx).await?;
    let rows: Vec<ChargeRow> = sqlx::query_as(
        "with ended as (delete from lease returning *)
         insert into usage_event (
             request, user_id, key_id, model, upstream, day, admitted_at,
             prompt, cached, completion, reasoning, cost_micro_dollars,
             status, source, counted, first_token_ms, total_ms
         )
         select
             request, user_id, key_id, model, '', day, admitted_at,
             0, 0, reserved, 0, 0,
             $1, $2, true, null, 0
         from ended
         on conflict (request, day) do nothing
         returning
             request, user_id, key_id, model, upstream,
             to_char(day, 'YYYY-MM-DD') as day, admitted_at,
             prompt, cached, completion, reasoning, cost_micro_dollars,
             status, source, counted, first_token_ms, total_ms, client_request_id",
    )
    .bind(Status::Abandoned.as_str())
    .bind(Source::Estimated.as_str())
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    rows.into_iter().map(Charge::try_from).collect()
}

fn answer(entry: &Entry, stale: &HashSet<RequestId>) -> Written {
    match entry {
        Entry::Open(lease) if stale.contains(&lease.request) => Written::Stale,
        _ => Written::Done,
    }
}

/// The entries of each kind, an array a column.
#[derive(Default)]
pub(super) struct Arrays<'a> {
    leases: Leases<'a>,
    extensions: Extensions,
    charges: Charges<'a>,
    adjustments: Adjustments<'a>,
}

#[derive(Default)]
struct Leases<'a> {
    request: Vec<Uuid>,
    user: Vec<Uuid>,
    key: Vec<&'a str>,
    version: Vec<i64>,
    model: Vec<&'a str>,
    day: Vec<String>,
    reserved: Vec<i64>,
    admitted_at: Vec<i64>,
}

#[derive(Default)]
struct Extensions {
    request: Vec<Uuid>,
    reserved: Vec<i64>,
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
    fn of(batch: &'a [Entry]) -> Self {
        let mut arrays = Self::default();
        for entry in batch {
            match entry {
                Entry::Open(lease) => arrays.leases.push(lease),
                Entry::Extend { request, reserved } => {
                    arrays.extensions.request.push(request.0);
                    arrays.extensions.reserved.push(integer(*reserved));
                }
                Entry::Settle(charge) => arrays.charges.push(charge),
                Entry::Adjust(adjustment) => arrays.adjustments.push(adjustment),
            }
        }
        arrays
    }

    /// The requests that this batch opens.
    pub(super) fn opened(&self) -> &[Uuid] {
        &self.leases.request
    }

    /// Writes the batch; answers with the requests not admitted.
    pub(super) async fn write(
        &self,
        claimed: Option<i64>,
        doubted: &[Uuid],
        connection: &mut PgConnection,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        let Self { leases, extensions, charges, adjustments } = self;
        let has_adjustments = !adjustments.reset.is_empty();
        let text = if has_adjustments { JOURNAL_AND_ADJUSTMENTS } else { JOURNAL };
        let batch = sqlx::query_scalar(text)
            .bind(claimed)
            .bind(doubted)
            .bind(&leases.request)
            .bind(&leases.user)
            .bind(&leases.key)
            .bind(&leases.version)
            .bind(&leases.model)
            .bind(&leases.day)
            .bind(&leases.reserved)
            .bind(&leases.admitted_at)
            .bind(&extensions.request)
            .bind(&extensions.reserved)
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
            .bind(&charges.client_request_id);
        if !has_adjustments {
            return batch.fetch_all(connection).await;
        }
        batch
            .bind(&adjustments.reset)
            .bind(&adjustments.user)
            .bind(&adjustments.key)
            .bind(&adjustments.day)
            .bind(&adjustments.tokens)
            .bind(&adjustments.requests)
            .bind(&adjustments.at)
            .bind(&adjustments.by)
            .fetch_all(connection)
            .await
    }
}

impl<'a> Leases<'a> {
    fn push(&mut self, lease: &'a Lease) {
        self.request.push(lease.request.0);
        self.user.push(lease.user.0);
        self.key.push(lease.key.as_str());
        self.version.push(integer(lease.version));
        self.model.push(&lease.model);
        self.day.push(lease.day.to_string());
        self.reserved.push(integer(lease.reserved));
        self.admitted_at.push(lease.admitted_at.as_millisecond());
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
