//! Usage according to the ledger and to the rollups.

use super::dialect::{self, Backend, day_in, id_in, is_pruned};
use crate::StoreError;
use crate::encode::{self, DayColumn};
use crate::reconciliation::{Drift, Reconciliation, Used};
use async_trait::async_trait;
use domain::charge::{Charge, TokenCount};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use futures_util::TryStreamExt;
use std::collections::{HashMap, HashSet};
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// A ledger row as it is stored.
#[derive(sqlx_macros::FromRow)]
pub(super) struct ChargeRow {
    request: Uuid,
    user_id: Uuid,
    key_id: String,
    model: String,
    upstream: String,
    day: DayColumn,
    admitted_at: i64,
    prompt: i64,
    cached: i64,
    completion: i64,
    reasoning: i64,
    uncounted: i64,
    cost_micro_dollars: i64,
    status: String,
    source: String,
    counted: bool,
    first_token_ms: Option<i64>,
    total_ms: i64,
    client_request_id: Option<String>,
}

#[derive(sqlx_macros::FromRow)]
struct UsedRow {
    user_id: Uuid,
    key_id: Option<String>,
    day: DayColumn,
    tokens: i64,
    requests: i64,
}

#[derive(sqlx_macros::FromRow)]
struct DriftRow {
    user_id: Uuid,
    ledger_tokens: i64,
    ledger_requests: i64,
    rollup_tokens: i64,
    rollup_requests: i64,
}

/// User, key, day, and tokens and requests to add to what they used.
type PartRow = (Uuid, String, DayColumn, i64, i64);

/// Sums of rows per key.
#[derive(Default)]
struct Totals(HashMap<(Uuid, String, Day), (i64, i64)>);

impl Totals {
    fn add(&mut self, (user, key, DayColumn(day), tokens, requests): PartRow) {
        let sums = self.0.entry((user, key, day)).or_default();
        *sums = (sums.0.saturating_add(tokens), sums.1.saturating_add(requests));
    }

    /// The sums, none below zero, and a total of each user.
    fn into_used(self) -> Result<Vec<Used>, StoreError> {
        let mut users: HashMap<(UserId, Day), (u64, u64)> = HashMap::new();
        let mut rows = Vec::with_capacity(self.0.len() * 2);
        for ((user, key, day), (tokens, requests)) in self.0 {
            let (user, key) = (UserId(user), Some(KeyId(key.into())));
            let (tokens, requests) =
                (encode::count(tokens.max(0))?, encode::count(requests.max(0))?);
            let total = users.entry((user, day)).or_default();
            *total = (total.0.saturating_add(tokens), total.1.saturating_add(requests));
            rows.push(Used { user, key, day, tokens, requests });
        }
        let total =
            |((user, day), (tokens, requests))| Used { user, key: None, day, tokens, requests };
        rows.extend(users.into_iter().map(total));
        Ok(rows)
    }
}

/// Sums a day's parts per key (`part`), no sum below zero, and adds a total of each user.
macro_rules! totals {
    () => {
        ", used as (
             select
                 user_id, key_id, day,
                 cast(case when sum(tokens) > 0 then sum(tokens) else 0 end as bigint) as tokens,
                 cast(case when sum(requests) > 0 then sum(requests) else 0 end as bigint)
                     as requests
             from part
             group by day, user_id, key_id
         )
         select user_id, key_id, day, tokens, requests from used
         union all
         select user_id, null, day, cast(sum(tokens) as bigint), cast(sum(requests) as bigint)
         from used
         group by day, user_id"
    };
}

/// The columns of a [`ChargeRow`].
macro_rules! charge_columns {
    () => {
        "request, user_id, key_id, model, upstream, day, admitted_at,
         prompt, cached, completion, reasoning, uncounted, cost_micro_dollars,
         status, source, counted, first_token_ms, total_ms, client_request_id"
    };
}
pub(super) use charge_columns;

#[async_trait]
impl Reconciliation for Backend {
    async fn used_since(&self, from: Day) -> Result<Vec<Used>, StoreError> {
        self.read(StoreOp::Ledger, async {
            // Every start reads all users of the latest days: added up here, that takes a third of the time.
            let mut rows = sqlx::query_as::<_, PartRow>(
                "select user_id, key_id, day, prompt - uncounted + completion + reasoning, requests
                 from usage_daily
                 where day >= $1
                 union all
                 select user_id, key_id, day, tokens, requests
                 from usage_adjustment
                 where day >= $1",
            )
            .bind(DayColumn(from))
            .fetch(&self.pool);
            let mut totals = Totals::default();
            while let Some(row) = rows.try_next().await? {
                totals.add(row);
            }
            totals.into_used()
        })
        .await
    }

    async fn rollup_drift(&self, day: Day) -> Result<Vec<Drift>, StoreError> {
        self.read(StoreOp::Ledger, async {
            let rows: Vec<DriftRow> = sqlx::query_as(
                "with ledger as (
                     select
                         user_id,
                         cast(sum(prompt - uncounted + completion + reasoning) as bigint) as tokens,
                         count(*) filter (where counted) as requests
                     from usage_event
                     where day = $1
                     group by user_id
                 ),
                 rollup as (
                     select
                         user_id,
                         cast(sum(prompt - uncounted + completion + reasoning) as bigint) as tokens,
                         cast(sum(requests) as bigint) as requests
                     from usage_daily
                     where day = $1
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
            .bind(DayColumn(day))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(|row| row.on(day)).collect()
        })
        .await
    }

    async fn ledger_totals(&self, day: Day) -> Result<Vec<Used>, StoreError> {
        self.read(StoreOp::Ledger, async {
            let rows: Vec<UsedRow> = sqlx::query_as(concat!(
                "with part as (
                     select
                         user_id, key_id, day, prompt - uncounted + completion + reasoning as tokens,
                         cast(counted as integer) as requests
                     from usage_event
                     where day = $1
                     union all
                     select user_id, key_id, day, tokens, requests
                     from usage_adjustment
                     where day = $1
                 )",
                totals!()
            ))
            .bind(DayColumn(day))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(Used::try_from).collect()
        })
        .await
    }

    async fn charge(&self, request: RequestId) -> Result<Option<Charge>, StoreError> {
        self.read(StoreOp::Ledger, async {
            let row: Option<ChargeRow> = sqlx::query_as(concat!(
                "select ",
                charge_columns!(),
                " from usage_event where request = $1"
            ))
            .bind(request.0)
            .fetch_optional(&self.pool)
            .await?;
            row.map(Charge::try_from).transpose()
        })
        .await
    }

    async fn charges(&self, day: Day) -> Result<Vec<Charge>, StoreError> {
        self.read(StoreOp::Ledger, async {
            let rows: Vec<ChargeRow> = sqlx::query_as(concat!(
                "select ",
                charge_columns!(),
                " from usage_event where day = $1 order by admitted_at, request"
            ))
            .bind(DayColumn(day))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(Charge::try_from).collect()
        })
        .await
    }

    async fn recorded(
        &self,
        charges: &[(RequestId, Day)],
    ) -> Result<HashSet<RequestId>, StoreError> {
        self.read(StoreOp::Ledger, async {
            let requests: Vec<Uuid> = charges.iter().map(|(request, _)| request.0).collect();
            let days: Vec<String> = charges.iter().map(|(_, day)| day.to_string()).collect();
            let found: Vec<Uuid> = sqlx::query_scalar(concat!(
                "select request from usage_event where request ",
                id_in!("$1"),
                " and day ",
                day_in!("$2")
            ))
            .bind(dialect::ids(requests))
            .bind(dialect::days(days))
            .fetch_all(&self.pool)
            .await?;
            Ok(found.into_iter().map(RequestId).collect())
        })
        .await
    }

    async fn is_ledger_pruned(&self, day: Day) -> Result<bool, StoreError> {
        self.read(StoreOp::Ledger, async {
            let pruned =
                sqlx::query_scalar(is_pruned!()).bind(DayColumn(day)).fetch_one(&self.pool).await?;
            Ok(pruned)
        })
        .await
    }
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
            day: row.day.0,
            admitted_at: encode::instant(row.admitted_at)?,
            tokens: TokenCount {
                prompt: encode::count(row.prompt)?,
                cached: encode::count(row.cached)?,
                completion: encode::count(row.completion)?,
                reasoning: encode::count(row.reasoning)?,
            },
            uncounted: encode::count(row.uncounted)?,
            cost_micro_dollars: row.cost_micro_dollars,
            status: encode::status(&row.status)?,
            source: encode::source(&row.source)?,
            counted: row.counted,
            first_token_ms: row.first_token_ms.map(encode::small).transpose()?,
            total_ms: encode::small(row.total_ms)?,
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
            day: row.day.0,
            tokens: encode::count(row.tokens)?,
            requests: encode::count(row.requests)?,
        })
    }
}

impl DriftRow {
    fn on(self, day: Day) -> Result<Drift, StoreError> {
        Ok(Drift {
            user: UserId(self.user_id),
            day,
            ledger: (encode::count(self.ledger_tokens)?, encode::count(self.ledger_requests)?),
            rollup: (encode::count(self.rollup_tokens)?, encode::count(self.rollup_requests)?),
        })
    }
}
