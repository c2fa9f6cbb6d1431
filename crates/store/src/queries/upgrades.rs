//! Requests for another plan.

use super::dialect::{self, Backend, Connection, Driver};
use super::{audit, plans, users};
use crate::StoreError;
use crate::audit::Change;
use crate::encode;
use crate::upgrades::{Decided, Upgrade, UpgradeStatus, Upgrades};
use crate::users::{UserChange, UserError};
use async_trait::async_trait;
use domain::actor::AuditContext;
use domain::id::{PlanId, UpgradeId, UserId};
use domain::user::UserStatus;
use sqlx::QueryBuilder;
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// A request as it is stored.
#[derive(sqlx_macros::FromRow)]
struct UpgradeRow {
    id: Uuid,
    user_id: Uuid,
    from_plan: String,
    to_plan: String,
    status: String,
    asked_at: i64,
    decided_at: Option<i64>,
    decided_by: Option<String>,
}

#[async_trait]
impl Upgrades for Backend {
    async fn request_upgrade(
        &self,
        user: UserId,
        to: &PlanId,
        by: &AuditContext,
    ) -> Result<Upgrade, StoreError> {
        self.transaction(StoreOp::Accounts, async |tx| {
            dialect::lock_change_sequence(tx).await?;
            let asking = users::find(&mut *tx, user).await?;
            let asking = asking.filter(|asking| asking.user.status != UserStatus::Deleted);
            let asking = asking.ok_or(StoreError::Missing("user"))?;
            let plan = plans::find(&mut *tx, to).await?;
            plan.filter(|found| !found.plan.retired).ok_or(StoreError::Missing("plan"))?;
            let pending = pending(tx, user).await?;
            if let Some(same) = pending.as_ref().filter(|pending| pending.to == *to) {
                return Ok(same.clone());
            }
            if let Some(other) = &pending {
                decide(tx, other.id, UpgradeStatus::Superseded, by).await?;
            }
            let asked = insert(tx, user, (&asking.user.plan, to), by).await?;
            let change = Change::of_upgrade("upgrade.ask", pending.as_ref(), &asked);
            audit::append(tx, &change, by).await?;
            Ok(asked)
        })
        .await
    }

    async fn upgrades(
        &self,
        status: Option<UpgradeStatus>,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<Upgrade>, StoreError> {
        self.read(StoreOp::Accounts, async {
            let mut query = QueryBuilder::<Driver>::new(
                "select id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by
                 from upgrade
                 where true",
            );
            if let Some(status) = status {
                query.push(" and status = ").push_bind(status.as_str());
            }
            if let Some(before) = before {
                query.push(" and id < ").push_bind(before.0);
            }
            query.push(" order by id desc limit ").push_bind(i64::from(limit));
            let rows: Vec<UpgradeRow> = query.build_query_as().fetch_all(&self.pool).await?;
            rows.into_iter().map(Upgrade::try_from).collect()
        })
        .await
    }

    async fn upgrades_of(&self, user: UserId, limit: u32) -> Result<Vec<Upgrade>, StoreError> {
        self.read(StoreOp::Accounts, async {
            let rows: Vec<UpgradeRow> = sqlx::query_as(
                "select id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by
                 from upgrade
                 where user_id = $1
                 order by id desc
                 limit $2",
            )
            .bind(user.0)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(Upgrade::try_from).collect()
        })
        .await
    }

    async fn latest_upgrade(&self, user: UserId) -> Result<Option<Upgrade>, StoreError> {
        Ok(self.upgrades_of(user, 1).await?.pop())
    }

    async fn decide_upgrade(
        &self,
        id: UpgradeId,
        approve: bool,
        by: &AuditContext,
    ) -> Result<Option<Decided>, StoreError> {
        let decided = self
            .transaction(StoreOp::Accounts, async |tx| decide_pending(tx, id, approve, by).await)
            .await?;
        // Also for one that was decided before: publishing may be what failed then.
        if let Some(Decided::Now(upgrade) | Decided::Before(upgrade)) = &decided {
            self.handle.publish(Some(upgrade.user)).await?;
        }
        Ok(decided)
    }
}

async fn decide_pending(
    tx: &mut Connection,
    id: UpgradeId,
    approve: bool,
    by: &AuditContext,
) -> Result<Option<Decided>, StoreError> {
    dialect::lock_change_sequence(tx).await?;
    let Some(asked) = find(tx, id).await? else { return Ok(None) };
    if asked.status != UpgradeStatus::Pending {
        return Ok(Some(Decided::Before(asked)));
    }
    if approve && is_outdated(tx, &asked).await? {
        return Ok(Some(Decided::Outdated(asked)));
    }
    let (status, action) = if approve {
        (UpgradeStatus::Approved, "upgrade.approve")
    } else {
        (UpgradeStatus::Rejected, "upgrade.reject")
    };
    let decided = decide(tx, id, status, by).await?;
    audit::append(tx, &Change::of_upgrade(action, Some(&asked), &decided), by).await?;
    if approve {
        let change = UserChange { plan: Some(asked.to), ..UserChange::default() };
        let changed = users::change_in(tx, asked.user, &change, by).await;
        changed.map_err(UserError::into_store_error)?;
    }
    Ok(Some(Decided::Now(decided)))
}

/// True if the user's plan has changed since the request, or the requested plan is retired.
async fn is_outdated(tx: &mut Connection, asked: &Upgrade) -> Result<bool, StoreError> {
    let is_good: Option<i32> = sqlx::query_scalar(
        "select 1
         from users
         join plan on plan.id = $2
         where users.id = $1 and users.plan_id = $3 and not plan.retired",
    )
    .bind(asked.user.0)
    .bind(asked.to.as_str())
    .bind(asked.from.as_str())
    .fetch_optional(tx)
    .await?;
    Ok(is_good.is_none())
}

async fn find(tx: &mut Connection, id: UpgradeId) -> Result<Option<Upgrade>, StoreError> {
    let row: Option<UpgradeRow> = sqlx::query_as(
        "select id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by
         from upgrade
         where id = $1",
    )
    .bind(id.0)
    .fetch_optional(tx)
    .await?;
    row.map(Upgrade::try_from).transpose()
}

/// Reads the pending upgrade request of a user.
async fn pending(tx: &mut Connection, user: UserId) -> Result<Option<Upgrade>, StoreError> {
    let row: Option<UpgradeRow> = sqlx::query_as(
        "select id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by
         from upgrade
         where user_id = $1
           and status = 'pending'",
    )
    .bind(user.0)
    .fetch_optional(tx)
    .await?;
    row.map(Upgrade::try_from).transpose()
}

async fn insert(
    tx: &mut Connection,
    user: UserId,
    (from, to): (&PlanId, &PlanId),
    by: &AuditContext,
) -> Result<Upgrade, StoreError> {
    let row: UpgradeRow = sqlx::query_as(
        "insert into upgrade (id, user_id, from_plan, to_plan, status, asked_at)
         values ($1, $2, $3, $4, $5, $6)
         returning id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by",
    )
    .bind(UpgradeId::new().0)
    .bind(user.0)
    .bind(from.as_str())
    .bind(to.as_str())
    .bind(UpgradeStatus::Pending.as_str())
    .bind(by.at.as_millisecond())
    .fetch_one(tx)
    .await?;
    row.try_into()
}

async fn decide(
    tx: &mut Connection,
    id: UpgradeId,
    status: UpgradeStatus,
    by: &AuditContext,
) -> Result<Upgrade, StoreError> {
    let row: UpgradeRow = sqlx::query_as(
        "update upgrade set
             status = $2,
             decided_at = $3,
             decided_by = $4
         where id = $1
         returning id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by",
    )
    .bind(id.0)
    .bind(status.as_str())
    .bind(by.at.as_millisecond())
    .bind(by.actor.to_string())
    .fetch_one(tx)
    .await?;
    row.try_into()
}

impl TryFrom<UpgradeRow> for Upgrade {
    type Error = StoreError;

    fn try_from(row: UpgradeRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: UpgradeId(row.id),
            user: UserId(row.user_id),
            from: PlanId(row.from_plan.into()),
            to: PlanId(row.to_plan.into()),
            status: encode::upgrade_status(&row.status)?,
            asked_at: encode::instant(row.asked_at)?,
            decided_at: row.decided_at.map(encode::instant).transpose()?,
            decided_by: row.decided_by,
        })
    }
}
