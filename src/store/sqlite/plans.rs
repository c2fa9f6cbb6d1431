//! Plans.

use super::SqliteStore;
use crate::account::id::PlanId;
use crate::account::plan::{Plan, PlanLimits, Window};
use crate::store::StoreError;
use crate::store::columns;
use serde_json::{Value, json};

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

pub(super) async fn all(store: &SqliteStore) -> Result<Vec<Plan>, StoreError> {
    let rows: Vec<PlanRow> = sqlx::query_as(
        "select
             id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, models, time_zone
         from plan
         order by price_cents, id",
    )
    .fetch_all(&store.readers)
    .await?;
    rows.into_iter().map(Plan::try_from).collect()
}

pub(super) async fn by_id(store: &SqliteStore, id: &PlanId) -> Result<Option<Plan>, StoreError> {
    let row: Option<PlanRow> = sqlx::query_as(
        "select
             id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, models, time_zone
         from plan
         where id = ?1",
    )
    .bind(id.as_str())
    .fetch_optional(&store.readers)
    .await?;
    row.map(Plan::try_from).transpose()
}

/// A plan given as it stands is not touched, so that a restart makes no user's record stale.
pub(super) async fn put(store: &SqliteStore, plans: &[Plan]) -> Result<(), StoreError> {
    let plans: Vec<Value> = plans.iter().map(plan_json).collect::<Result<_, _>>()?;
    let mut turn = store.writer.turn().await?;
    let mut tx = turn.begin().await?;
    let changed: Vec<String> = sqlx::query_scalar(
        "insert into plan (
             id, name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, models, time_zone
         )
         select
             value ->> 'id', value ->> 'name', value ->> 'price_cents',
             value ->> 'tokens_per_day', value ->> 'requests_per_day',
             value ->> 'window_capacity', value ->> 'window_refill_seconds',
             value ->> 'concurrent_streams', value ->> 'models', value ->> 'time_zone'
         from json_each(?1)
         where true
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
         where (
             name, price_cents, tokens_per_day, requests_per_day, window_capacity,
             window_refill_seconds, concurrent_streams, models, time_zone
         ) is not (
             excluded.name, excluded.price_cents, excluded.tokens_per_day,
             excluded.requests_per_day, excluded.window_capacity, excluded.window_refill_seconds,
             excluded.concurrent_streams, excluded.models, excluded.time_zone
         )
         returning id",
    )
    .bind(Value::Array(plans).to_string())
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query(
        "update users set
             version = version + 1,
             change_seq = (select coalesce(max(change_seq), 0) + 1 from users)
         where plan_id in (select value from json_each(?1))",
    )
    .bind(json!(changed).to_string())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

fn plan_json(plan: &Plan) -> Result<Value, StoreError> {
    let limits = &plan.limits;
    Ok(json!({
        "id": plan.id.as_str(),
        "name": plan.name,
        "price_cents": plan.price_cents,
        "tokens_per_day": columns::integer(limits.tokens_per_day),
        "requests_per_day": columns::integer(limits.requests_per_day),
        "window_capacity": limits.window.capacity,
        "window_refill_seconds": limits.window.refill_seconds,
        "concurrent_streams": limits.concurrent_streams,
        "models": columns::models_text(&limits.models),
        "time_zone": columns::time_zone_text(&limits.time_zone)?,
    }))
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
