//! Plans.

use super::PostgresStore;
use super::accounts::hold_changes;
use crate::account::id::PlanId;
use crate::account::plan::{Plan, PlanLimits, Window};
use crate::store::StoreError;
use crate::store::columns;
use sqlx::PgConnection;

/// A plan as it is stored.
#[derive(sqlx::FromRow)]
struct PlanRow {
    id: String,
    name: String,
    price_cents: i64,
    #[sqlx(flatten)]
    limits: LimitsRow,
}

/// The limits of a stored plan: also a part of the caller's record.
#[derive(sqlx::FromRow)]
pub(super) struct LimitsRow {
    tokens_per_day: i64,
    requests_per_day: i64,
    window_capacity: i64,
    window_refill_seconds: i64,
    concurrent_streams: i64,
    models: Option<String>,
    time_zone: String,
}

pub(super) async fn all(store: &PostgresStore) -> Result<Vec<Plan>, StoreError> {
    let rows: Vec<PlanRow> = sqlx::query_as(
        "select
             id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, models, time_zone
         from plan
         order by price_cents, id",
    )
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(Plan::try_from).collect()
}

pub(super) async fn by_id(store: &PostgresStore, id: &PlanId) -> Result<Option<Plan>, StoreError> {
    let row: Option<PlanRow> = sqlx::query_as(
        "select
             id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, models, time_zone
         from plan
         where id = $1",
    )
    .bind(id.as_str())
    .fetch_optional(&store.pool)
    .await?;
    row.map(Plan::try_from).transpose()
}

/// A plan given as it stands is not touched, so that a restart makes no user's record stale.
pub(super) async fn put(store: &PostgresStore, plans: &[Plan]) -> Result<(), StoreError> {
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    let mut changed: Vec<String> = Vec::new();
    // A handful, and only at start: a statement each is plainer than eleven arrays.
    for plan in plans {
        changed.extend(put_one(&mut tx, plan).await?);
    }
    if !changed.is_empty() {
        sqlx::query(
            "with number as (
                 update change_number set last = last + 1 returning last
             )
             update users set
                 version = version + 1,
                 change_seq = number.last
             from number
             where plan_id = any ($1)",
        )
        .bind(changed)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The plan's id when it was new or differed.
async fn put_one(tx: &mut PgConnection, plan: &Plan) -> Result<Option<String>, StoreError> {
    let limits = &plan.limits;
    let changed = sqlx::query_scalar(
        "insert into plan as old (
             id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, models, time_zone
         )
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (id) do update set
             name = excluded.name,
             price_cents = excluded.price_cents,
             tokens_per_day = excluded.tokens_per_day,
             requests_per_day = excluded.requests_per_day,
             window_capacity = excluded.window_capacity,
             window_refill_seconds = excluded.window_refill_seconds,
             concurrent_streams = excluded.concurrent_streams,
             models = excluded.models,
             time_zone = excluded.time_zone
         where old is distinct from excluded
         returning id",
    )
    .bind(plan.id.as_str())
    .bind(&plan.name)
    .bind(i64::from(plan.price_cents))
    .bind(columns::integer(limits.tokens_per_day))
    .bind(columns::integer(limits.requests_per_day))
    .bind(i64::from(limits.window.capacity))
    .bind(i64::from(limits.window.refill_seconds))
    .bind(i64::from(limits.concurrent_streams))
    .bind(columns::models_text(&limits.models))
    .bind(columns::time_zone_text(&limits.time_zone)?)
    .fetch_optional(tx)
    .await?;
    Ok(changed)
}

impl TryFrom<PlanRow> for Plan {
    type Error = StoreError;

    fn try_from(row: PlanRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: PlanId(row.id.into()),
            name: row.name,
            price_cents: columns::small(row.price_cents)?,
            limits: row.limits.try_into()?,
        })
    }
}

impl TryFrom<LimitsRow> for PlanLimits {
    type Error = StoreError;

    fn try_from(row: LimitsRow) -> Result<Self, StoreError> {
        Ok(Self {
            tokens_per_day: columns::count(row.tokens_per_day)?,
            requests_per_day: columns::count(row.requests_per_day)?,
            window: Window {
                capacity: columns::small(row.window_capacity)?,
                refill_seconds: columns::small(row.window_refill_seconds)?,
            },
            concurrent_streams: columns::small(row.concurrent_streams)?,
            models: columns::models(row.models.as_deref())?,
            time_zone: columns::time_zone(&row.time_zone)?,
        })
    }
}
