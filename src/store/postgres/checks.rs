//! Reading the ledger and the rollup: what was used, row by row, in sums, and whether they agree.

use super::PostgresStore;
use crate::account::charge::{Charge, TokenCount};
use crate::account::day::Day;
use crate::account::id::{KeyId, RequestId, UserId};
use crate::store::columns;
use crate::store::{Drift, StoreError, Used};
use uuid::Uuid;

/// A ledger row as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct ChargeRow {
    request: Uuid,
    user_id: Uuid,
    key_id: String,
    model: String,
    upstream: String,
    day: String,
    admitted_at: i64,
    prompt: i64,
    cached: i64,
    completion: i64,
    reasoning: i64,
    cost_micro_dollars: i64,
    status: String,
    source: String,
    counted: bool,
    first_token_ms: Option<i64>,
    total_ms: i64,
    client_request_id: Option<String>,
}

#[derive(sqlx::FromRow)]
struct UsedRow {
    user_id: Uuid,
    key_id: Option<String>,
    day: String,
    tokens: i64,
    requests: i64,
}

#[derive(sqlx::FromRow)]
struct DriftRow {
    user_id: Uuid,
    ledger_tokens: i64,
    ledger_requests: i64,
    rollup_tokens: i64,
    rollup_requests: i64,
}

pub(super) async fn used_since(store: &PostgresStore, from: Day) -> Result<Vec<Used>, StoreError> {
    let rows: Vec<UsedRow> = sqlx::query_as(
        "with part as (
             select user_id, key_id, day, prompt + completion + reasoning as tokens, requests
             from usage_daily
             where day >= $1::date
             union all
             select user_id, key_id, day, tokens, requests
             from usage_adjustment
             where day >= $1::date
         ),
         used as (
             select
                 user_id, key_id, day,
                 greatest(sum(tokens), 0)::bigint as tokens,
                 greatest(sum(requests), 0)::bigint as requests
             from part
             group by day, user_id, key_id
         )
         select user_id, key_id, to_char(day, 'YYYY-MM-DD') as day, tokens, requests from used
         union all
         select
             user_id, null, to_char(day, 'YYYY-MM-DD'),
             sum(tokens)::bigint, sum(requests)::bigint
         from used
         group by day, user_id",
    )
    .bind(from.to_string())
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(Used::try_from).collect()
}

pub(super) async fn ledger_totals(
    store: &PostgresStore,
    day: Day,
) -> Result<Vec<Used>, StoreError> {
    let rows: Vec<UsedRow> = sqlx::query_as(
        "with part as (
             select
                 user_id, key_id, day,
                 prompt + completion + reasoning as tokens, counted::integer as requests
             from usage_event
             where day = $1::date
             union all
             select user_id, key_id, day, tokens, requests
             from usage_adjustment
             where day = $1::date
         ),
         used as (
             select
                 user_id, key_id, day,
                 greatest(sum(tokens), 0)::bigint as tokens,
                 greatest(sum(requests), 0)::bigint as requests
             from part
             group by day, user_id, key_id
         )
         select user_id, key_id, to_char(day, 'YYYY-MM-DD') as day, tokens, requests from used
         union all
         select
             user_id, null, to_char(day, 'YYYY-MM-DD'),
             sum(tokens)::bigint, sum(requests)::bigint
         from used
         group by day, user_id",
    )
    .bind(day.to_string())
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(Used::try_from).collect()
}

pub(super) async fn rollup_drift(
    store: &PostgresStore,
    day: Day,
) -> Result<Vec<Drift>, StoreError> {
    let rows: Vec<DriftRow> = sqlx::query_as(
        "with ledger as (
             select
                 user_id,
                 sum(prompt + completion + reasoning)::bigint as tokens, count(*) filter (where counted) as requests
             from usage_event
             where day = $1::date
             group by user_id
         ),
         rollup as (
             select
                 user_id,
                 sum(prompt + completion + reasoning)::bigint as tokens, sum(requests)::bigint as requests
             from usage_daily
             where day = $1::date
             group by user_id
         )
         select
             coalesce(ledger.user_id, rollup.user_id) as user_id,
             coalesce(ledger.tokens, 0) as ledger_tokens,
             coalesce(ledger.requests, 0) as ledger_requests,
             coalesce(rollup.tokens, 0) as rollup_tokens,
             coalesce(rollup.requests, 0) as rollup_requests
         from ledger
         full join rollup on rollup.user_id = ledger.user_id
         where coalesce(ledger.tokens, 0) <> coalesce(rollup.tokens, 0)
            or coalesce(ledger.requests, 0) <> coalesce(rollup.requests, 0)
         order by 1",
    )
    .bind(day.to_string())
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(|row| row.on(day)).collect()
}

pub(super) async fn charge(
    store: &PostgresStore,
    request: RequestId,
) -> Result<Option<Charge>, StoreError> {
    let row: Option<ChargeRow> = sqlx::query_as(
        "select
             request, user_id, key_id, model, upstream,
             to_char(day, 'YYYY-MM-DD') as day, admitted_at,
             prompt, cached, completion, reasoning, cost_micro_dollars,
             status, source, counted, first_token_ms, total_ms, client_request_id
         from usage_event
         where request = $1",
    )
    .bind(request.0)
    .fetch_optional(&store.pool)
    .await?;
    row.map(Charge::try_from).transpose()
}

pub(super) async fn charges(store: &PostgresStore, day: Day) -> Result<Vec<Charge>, StoreError> {
    let rows: Vec<ChargeRow> = sqlx::query_as(
        "select
             request, user_id, key_id, model, upstream,
             to_char(day, 'YYYY-MM-DD') as day, admitted_at,
             prompt, cached, completion, reasoning, cost_micro_dollars,
             status, source, counted, first_token_ms, total_ms, client_request_id
         from usage_event
         where day = $1::date
         order by admitted_at, request",
    )
    .bind(day.to_string())
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(Charge::try_from).collect()
}

impl TryFrom<ChargeRow> for Charge {
    type Error = StoreError;

    fn try_from(row: ChargeRow) -> Result<Self, StoreError> {
        Ok(Self {
            request: RequestId(row.request),
            user: UserId(row.user_id),
            key: KeyId(row.key_id.into()),
            model: row.model.into(),
            upstream: row.upstream.into(),
            day: columns::day(&row.day)?,
            admitted_at: columns::instant(row.admitted_at)?,
            tokens: TokenCount {
                prompt: columns::count(row.prompt)?,
                cached: columns::count(row.cached)?,
                completion: columns::count(row.completion)?,
                reasoning: columns::count(row.reasoning)?,
            },
            cost_micro_dollars: row.cost_micro_dollars,
            status: columns::status(&row.status)?,
            source: columns::source(&row.source)?,
            counted: row.counted,
            first_token_ms: row.first_token_ms.map(columns::small).transpose()?,
            total_ms: columns::small(row.total_ms)?,
            client_request_id: row.client_request_id.map(Into::into),
        })
    }
}

impl TryFrom<UsedRow> for Used {
    type Error = StoreError;

    fn try_from(row: UsedRow) -> Result<Self, StoreError> {
        Ok(Self {
            user: UserId(row.user_id),
            key: row.key_id.map(|id| KeyId(id.into())),
            day: columns::day(&row.day)?,
            tokens: columns::count(row.tokens)?,
            requests: columns::count(row.requests)?,
        })
    }
}

impl DriftRow {
    fn on(self, day: Day) -> Result<Drift, StoreError> {
        Ok(Drift {
            user: UserId(self.user_id),
            day,
            ledger: (columns::count(self.ledger_tokens)?, columns::count(self.ledger_requests)?),
            rollup: (columns::count(self.rollup_tokens)?, columns::count(self.rollup_requests)?),
        })
    }
}
