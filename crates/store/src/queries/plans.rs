//! Plans.

use super::audit;
use super::dialect::{self, Backend, Connection, Driver, next_change};
use crate::StoreError;
use crate::audit::Change;
use crate::encode;
use crate::plans::{PlanChange, Plans};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::PlanId;
use domain::plan::{Plan, PlanLimits, Window};
use sqlx::Executor;
use telemetry::labels::StoreOp;

/// A plan as it is stored.
#[derive(sqlx_macros::FromRow)]
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
#[derive(sqlx_macros::FromRow)]
pub(super) struct LimitsRow {
    tokens_per_day: i64,
    requests_per_day: i64,
    window_capacity: i64,
    window_refill_seconds: i64,
    concurrent_streams: i64,
    models: Option<String>,
    time_zone: String,
    request_policy: String,
    cached_token_thousandths: i64,
}

/// A plan, and who decides about it.
pub(super) struct Found {
    pub plan: Plan,
    /// True if an admin does, because one has added or changed the plan; otherwise the configuration.
    changed: bool,
}

#[async_trait]
impl Plans for Backend {
    async fn plans(&self) -> Result<Vec<Plan>, StoreError> {
        self.read(StoreOp::Plans, async {
            let rows: Vec<PlanRow> = sqlx::query_as(
                "select
                     id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
                     window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
                     request_policy, cached_token_thousandths
                 from plan
                 order by price_cents, id",
            )
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(|row| Ok(Found::try_from(row)?.plan)).collect()
        })
        .await
    }

    async fn plan(&self, id: &PlanId) -> Result<Option<Plan>, StoreError> {
        let found = self.read(StoreOp::Plans, find(&self.pool, id)).await?;
        Ok(found.map(|found| found.plan))
    }

    /// A plan that does not differ is not written, so that a restart invalidates no cached record.
    async fn sync_plans(
        &self,
        plans: &[Plan],
        by: &AuditContext,
    ) -> Result<Vec<PlanId>, StoreError> {
        let kept = self
            .transaction(StoreOp::Plans, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let mut kept = Vec::new();
                // A handful, and only at start: statements for each are plainer than eleven arrays.
                for plan in plans {
                    match find(&mut *tx, &plan.id).await? {
                        Some(found) if found.changed => kept.push(found.plan.id),
                        found => write(tx, found, (plan, false), by).await?,
                    }
                }
                Ok::<_, StoreError>(kept)
            })
            .await?;
        self.handle.publish(None).await?;
        Ok(kept)
    }

    async fn add_plan(&self, plan: &Plan, by: &AuditContext) -> Result<bool, StoreError> {
        self.transaction(StoreOp::Plans, async |tx| {
            dialect::lock_change_sequence(tx).await?;
            let is_new = find(&mut *tx, &plan.id).await?.is_none();
            if is_new {
                write(tx, None, (plan, true), by).await?;
            }
            Ok(is_new)
        })
        .await
    }

    async fn change_plan(
        &self,
        id: &PlanId,
        change: &PlanChange,
        by: &AuditContext,
    ) -> Result<Option<Plan>, StoreError> {
        let changed = self
            .transaction(StoreOp::Plans, async |tx| {
                dialect::lock_change_sequence(tx).await?;
                let Some(found) = find(&mut *tx, id).await? else { return Ok(None) };
                let plan = change.applied_to(found.plan.clone());
                write(tx, Some(found), (&plan, true), by).await?;
                Ok::<_, StoreError>(Some(plan))
            })
            .await?;
        self.handle.publish(None).await?;
        Ok(changed)
    }
}

pub(super) async fn find(
    executor: impl Executor<'_, Database = Driver>,
    id: &PlanId,
) -> Result<Option<Found>, StoreError> {
    let row: Option<PlanRow> = sqlx::query_as(
        "select
             id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
             window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
             request_policy, cached_token_thousandths
         from plan
         where id = $1",
    )
    .bind(encode::text(id.as_str()))
    .fetch_optional(executor)
    .await?;
    row.map(Found::try_from).transpose()
}

/// Upserts a plan and audits the change; a no-op if nothing differs. If the limits change, all users of the plan
/// get the next version, which is why a new name or price does not give them one.
async fn write(
    tx: &mut Connection,
    before: Option<Found>,
    (plan, changed): (&Plan, bool),
    by: &AuditContext,
) -> Result<(), StoreError> {
    let Some(after) = upsert(tx, plan, changed).await? else { return Ok(()) };
    let before = before.map(|found| found.plan);
    audit::append(tx, &Change::of_plan(before.as_ref(), &after), by).await?;
    if before.is_some_and(|before| before.limits == after.limits) {
        return Ok(());
    }
    sqlx::query(concat!(
        next_change!(),
        "update users set
             version = version + 1,
             change_seq = number.last
         from number
         where plan_id = $1",
    ))
    .bind(plan.id.as_str())
    .execute(tx)
    .await?;
    Ok(())
}

/// Returns the plan as stored; no row if it did not differ.
const UPSERT: &str = "insert into plan (
         id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
         window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
         request_policy, cached_token_thousandths
     )
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
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
         request_policy = excluded.request_policy,
         cached_token_thousandths = excluded.cached_token_thousandths
     where (
         plan.name, plan.price_cents, plan.retired, plan.tokens_per_day, plan.requests_per_day,
         plan.window_capacity, plan.window_refill_seconds, plan.concurrent_streams,
         plan.models, plan.time_zone, plan.request_policy, plan.cached_token_thousandths
     ) is distinct from (
         excluded.name, excluded.price_cents, excluded.retired, excluded.tokens_per_day,
         excluded.requests_per_day, excluded.window_capacity, excluded.window_refill_seconds,
         excluded.concurrent_streams, excluded.models, excluded.time_zone,
         excluded.request_policy, excluded.cached_token_thousandths
     )
     returning
         id, name, price_cents, retired, changed, tokens_per_day, requests_per_day,
         window_capacity, window_refill_seconds, concurrent_streams, models, time_zone,
         request_policy, cached_token_thousandths";

/// The plan as stored afterwards; `None` if it did not differ.
async fn upsert(
    tx: &mut Connection,
    plan: &Plan,
    changed: bool,
) -> Result<Option<Plan>, StoreError> {
    let limits = &plan.limits;
    let row: Option<PlanRow> = sqlx::query_as(UPSERT)
        .bind(plan.id.as_str())
        .bind(&plan.name)
        .bind(i64::from(plan.price_cents))
        .bind(plan.retired)
        .bind(changed)
        .bind(encode::integer(limits.tokens_per_day))
        .bind(encode::integer(limits.requests_per_day))
        .bind(i64::from(limits.window.capacity))
        .bind(i64::from(limits.window.refill_seconds))
        .bind(i64::from(limits.concurrent_streams))
        .bind(encode::models_text(&limits.models))
        .bind(encode::time_zone_text(&limits.time_zone)?)
        .bind(encode::policy_text(&limits.policy))
        .bind(i64::from(limits.cached_token_fraction.thousandths()))
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
            price_cents: encode::small(row.price_cents)?,
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
            tokens_per_day: encode::count(row.tokens_per_day)?,
            cached_token_fraction: encode::fraction(row.cached_token_thousandths)?,
            requests_per_day: encode::count(row.requests_per_day)?,
            window: Window {
                capacity: encode::small(row.window_capacity)?,
                refill_seconds: encode::small(row.window_refill_seconds)?,
            },
            concurrent_streams: encode::small(row.concurrent_streams)?,
            models: encode::models(row.models.as_deref())?,
            time_zone: encode::time_zone(&row.time_zone)?,
            policy: encode::policy(&row.request_policy)?,
        })
    }
}
