//! Plans.

use super::PostgresStore;
use super::accounts::hold_changes;
use super::audit;
use crate::account::by::By;
use crate::account::id::PlanId;
use crate::account::plan::{Plan, PlanLimits, Window};
use crate::store::audit::Change;
use crate::store::columns;
use crate::store::{PlanChange, StoreError};
use sqlx::{PgConnection, PgExecutor};

/// A plan as it is stored.
#[derive(sqlx::FromRow)]
struct PlanRow {
    id: String,
    name: String,
    price_cents: i64,
    retired: bool,
    changed: bool,
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
    request_policy: String,
}

/// A plan, and whose word on it counts.
pub(super) struct Found {
    pub plan: Plan,
    /// An admin's; otherwise the configuration's.
    changed: bool,
}

pub(super) async fn all(store: &PostgresStore) -> Result<Vec<Plan>, StoreError> {
    let rows: Vec<PlanRow> = sqlx::query_as(
        "select
             id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
             window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
             request_policy
         from plan
         order by price_cents, id",
    )
    .fetch_all(&store.pool)
    .await?;
    rows.into_iter().map(|row| Ok(Found::try_from(row)?.plan)).collect()
}

pub(super) async fn by_id(store: &PostgresStore, id: &PlanId) -> Result<Option<Plan>, StoreError> {
    Ok(find(&store.pool, id).await?.map(|found| found.plan))
}

pub(super) async fn find(
    executor: impl PgExecutor<'_>,
    id: &PlanId,
) -> Result<Option<Found>, StoreError> {
    let row: Option<PlanRow> = sqlx::query_as(
        "select
             id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
             window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
             request_policy
         from plan
         where id = $1",
    )
    .bind(columns::text(id.as_str()))
    .fetch_optional(executor)
    .await?;
    row.map(Found::try_from).transpose()
}

/// A plan given as it stands is not touched, so that a restart makes no user's record stale.
pub(super) async fn put(
    store: &PostgresStore,
    plans: &[Plan],
    by: &By,
) -> Result<Vec<PlanId>, StoreError> {
    let mut kept = Vec::new();
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    // A handful, and only at start: statements for each are plainer than eleven arrays.
    for plan in plans {
        match find(&mut *tx, &plan.id).await? {
            Some(found) if found.changed => kept.push(found.plan.id),
            found => write(&mut tx, found, (plan, false), by).await?,
        }
    }
    tx.commit().await?;
    Ok(kept)
}

pub(super) async fn add(store: &PostgresStore, plan: &Plan, by: &By) -> Result<bool, StoreError> {
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    let is_taken = find(&mut *tx, &plan.id).await?.is_some();
    if !is_taken {
        write(&mut tx, None, (plan, true), by).await?;
    }
    tx.commit().await?;
    Ok(!is_taken)
}

pub(super) async fn change(
    store: &PostgresStore,
    id: &PlanId,
    change: &PlanChange,
    by: &By,
) -> Result<Option<Plan>, StoreError> {
    let mut tx = store.pool.begin().await?;
    hold_changes(&mut tx).await?;
    let Some(found) = find(&mut *tx, id).await? else { return Ok(None) };
    let plan = change.applied_to(found.plan.clone());
    write(&mut tx, Some(found), (&plan, true), by).await?;
    tx.commit().await?;
    Ok(Some(plan))
}

/// Makes a plan what is given and tells of it; does nothing when it is that already. Where calls must
/// notice, its users get the next version: all of them, so not for a new name or price.
async fn write(
    tx: &mut PgConnection,
    before: Option<Found>,
    (plan, changed): (&Plan, bool),
    by: &By,
) -> Result<(), StoreError> {
    let Some(after) = upsert(tx, plan, changed).await? else { return Ok(()) };
    let before = before.map(|found| found.plan);
    audit::write(tx, &Change::of_plan(before.as_ref(), &after), by).await?;
    if before.is_some_and(|before| before.limits == after.limits) {
        return Ok(());
    }
    sqlx::query(
        "with number as (
             update change_number set last = last + 1 returning last
         )
         update users set
             version = version + 1,
             change_seq = number.last
         from number
         where plan_id = $1",
    )
    .bind(plan.id.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

/// The plan as it is stored now, when it was new or differed.
async fn upsert(
    tx: &mut PgConnection,
    plan: &Plan,
    changed: bool,
) -> Result<Option<Plan>, StoreError> {
    let limits = &plan.limits;
    let row: Option<PlanRow> = sqlx::query_as(
        "insert into plan (
             id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
             window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
             request_policy
         )
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         on conflict (id) do update set
             name = excluded.name,
             price_cents = excluded.price_cents,
             retired = excluded.retired,
             changed = excluded.changed,
             tokens_per_day = excluded.tokens_per_day,
             requests_per_day = excluded.requests_per_day,
             window_capacity = excluded.window_capacity,
             window_refill_seconds = excluded.window_refill_seconds,
             concurrent_streams = excluded.concurrent_streams,
             models = excluded.models,
             time_zone = excluded.time_zone,
             request_policy = excluded.request_policy
         where (
             plan.name, plan.price_cents, plan.retired, plan.tokens_per_day, plan.requests_per_day,
             plan.window_capacity, plan.window_refill_seconds, plan.concurrent_streams,
             plan.models, plan.time_zone, plan.request_policy
         ) is distinct from (
             excluded.name, excluded.price_cents, excluded.retired, excluded.tokens_per_day,
             excluded.requests_per_day, excluded.window_capacity, excluded.window_refill_seconds,
             excluded.concurrent_streams, excluded.models, excluded.time_zone,
             excluded.request_policy
         )
         returning
             id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
             window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
             request_policy",
    )
    .bind(plan.id.as_str())
    .bind(&plan.name)
    .bind(i64::from(plan.price_cents))
    .bind(plan.retired)
    .bind(changed)
    .bind(columns::integer(limits.tokens_per_day))
    .bind(columns::integer(limits.requests_per_day))
    .bind(i64::from(limits.window.capacity))
    .bind(i64::from(limits.window.refill_seconds))
    .bind(i64::from(limits.concurrent_streams))
    .bind(columns::models_text(&limits.models))
    .bind(columns::time_zone_text(&limits.time_zone)?)
    .bind(columns::policy_text(&limits.policy))
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok(Found::try_from(row)?.plan)).transpose()
}

impl TryFrom<PlanRow> for Found {
    type Error = StoreError;

    fn try_from(row: PlanRow) -> Result<Self, StoreError> {
        let plan = Plan {
            id: PlanId(row.id.into()),
            name: row.name,
            price_cents: columns::small(row.price_cents)?,
            retired: row.retired,
            limits: row.limits.try_into()?,
        };
        Ok(Self { plan, changed: row.changed })
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
            policy: columns::policy(&row.request_policy)?,
        })
    }
}
