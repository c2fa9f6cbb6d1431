//! Requests for another plan.

use super::SqliteStore;
use super::{accounts, audit, plans};
use crate::account::by::By;
use crate::account::id::{PlanId, UpgradeId, UserId};
use crate::store::audit::Change;
use crate::store::columns;
use crate::store::upgrades::{Decided, Upgrade, UpgradeStatus, Upgrades};
use crate::store::{StoreError, UserChange, UserError};
use async_trait::async_trait;
use sqlx::{QueryBuilder, SqliteConnection};

/// A request as it is stored.
#[derive(sqlx::FromRow)]
struct UpgradeRow {
    id: Vec<u8>,
    user_id: Vec<u8>,
    from_plan: String,
    to_plan: String,
    status: String,
    asked_at: i64,
    decided_at: Option<i64>,
    decided_by: Option<String>,
}

#[async_trait]
impl Upgrades for SqliteStore {
    async fn ask_upgrade(&self, user: UserId, to: &PlanId, by: &By) -> Result<Upgrade, StoreError> {
        let mut turn = self.writer.turn().await?;
        let mut tx = turn.begin().await?;
        let asking = accounts::find(&mut *tx, user).await?.ok_or(StoreError::Missing("user"))?;
        let plan = plans::find(&mut *tx, to).await?;
        plan.filter(|found| !found.plan.retired).ok_or(StoreError::Missing("plan"))?;
        let pending = pending(&mut tx, user).await?;
        if let Some(same) = pending.as_ref().filter(|pending| pending.to == *to) {
            return Ok(same.clone());
        }
        if let Some(other) = &pending {
            decide(&mut tx, other.id, UpgradeStatus::Superseded, by).await?;
        }
        let asked = insert(&mut tx, user, (&asking.user.plan, to), by).await?;
        audit::write(&mut tx, &Change::of_upgrade("upgrade.ask", pending.as_ref(), &asked), by)
            .await?;
        tx.commit().await?;
        Ok(asked)
    }

    async fn upgrades(
        &self,
        status: Option<UpgradeStatus>,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<Upgrade>, StoreError> {
        let mut query = QueryBuilder::new(
            "select id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by
             from upgrade
             where true",
        );
        if let Some(status) = status {
            query.push(" and status = ").push_bind(status.as_str());
        }
        if let Some(before) = before {
            query.push(" and id < ").push_bind(columns::blob(before.0));
        }
        query.push(" order by id desc limit ").push_bind(limit);
        let rows: Vec<UpgradeRow> = query.build_query_as().fetch_all(&self.readers).await?;
        rows.into_iter().map(Upgrade::try_from).collect()
    }

    async fn decide_upgrade(
        &self,
        id: UpgradeId,
        approve: bool,
        by: &By,
    ) -> Result<Option<Decided>, StoreError> {
        let mut turn = self.writer.turn().await?;
        let mut tx = turn.begin().await?;
        let Some(asked) = find(&mut tx, id).await? else { return Ok(None) };
        if asked.status != UpgradeStatus::Pending {
            return Ok(Some(Decided::Before(asked)));
        }
        if approve && is_outdated(&mut tx, &asked).await? {
            return Ok(Some(Decided::Outdated(asked)));
        }
        let (status, action) = if approve {
            (UpgradeStatus::Approved, "upgrade.approve")
        } else {
            (UpgradeStatus::Rejected, "upgrade.reject")
        };
        let decided = decide(&mut tx, id, status, by).await?;
        audit::write(&mut tx, &Change::of_upgrade(action, Some(&asked), &decided), by).await?;
        if approve {
            let change = UserChange { plan: Some(asked.to), ..UserChange::default() };
            let changed = accounts::change_in(&mut tx, asked.user, &change, by).await;
            changed.map_err(UserError::of_the_store)?;
        }
        tx.commit().await?;
        Ok(Some(Decided::Now(decided)))
    }
}

/// Whether the user has another plan by now than when it was asked, or nobody may come to the plan that
/// was asked for any more.
async fn is_outdated(tx: &mut SqliteConnection, asked: &Upgrade) -> Result<bool, StoreError> {
    let is_good: Option<i32> = sqlx::query_scalar(
        "select 1
         from users
         join plan on plan.id = ?2
         where users.id = ?1 and users.plan_id = ?3 and not plan.retired",
    )
    .bind(columns::blob(asked.user.0))
    .bind(asked.to.as_str())
    .bind(asked.from.as_str())
    .fetch_optional(tx)
    .await?;
    Ok(is_good.is_none())
}

async fn find(tx: &mut SqliteConnection, id: UpgradeId) -> Result<Option<Upgrade>, StoreError> {
    let row: Option<UpgradeRow> = sqlx::query_as(
        "select id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by
         from upgrade
         where id = ?1",
    )
    .bind(columns::blob(id.0))
    .fetch_optional(tx)
    .await?;
    row.map(Upgrade::try_from).transpose()
}

/// The user's request that waits for a decision.
async fn pending(tx: &mut SqliteConnection, user: UserId) -> Result<Option<Upgrade>, StoreError> {
    let row: Option<UpgradeRow> = sqlx::query_as(
        "select id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by
         from upgrade
         where user_id = ?1
           and status = 'pending'",
    )
    .bind(columns::blob(user.0))
    .fetch_optional(tx)
    .await?;
    row.map(Upgrade::try_from).transpose()
}

async fn insert(
    tx: &mut SqliteConnection,
    user: UserId,
    (from, to): (&PlanId, &PlanId),
    by: &By,
) -> Result<Upgrade, StoreError> {
    let row: UpgradeRow = sqlx::query_as(
        "insert into upgrade (id, user_id, from_plan, to_plan, status, asked_at)
         values (?1, ?2, ?3, ?4, ?5, ?6)
         returning id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by",
    )
    .bind(columns::blob(UpgradeId::new().0))
    .bind(columns::blob(user.0))
    .bind(from.as_str())
    .bind(to.as_str())
    .bind(UpgradeStatus::Pending.as_str())
    .bind(by.at.as_millisecond())
    .fetch_one(tx)
    .await?;
    row.try_into()
}

async fn decide(
    tx: &mut SqliteConnection,
    id: UpgradeId,
    status: UpgradeStatus,
    by: &By,
) -> Result<Upgrade, StoreError> {
    let row: UpgradeRow = sqlx::query_as(
        "update upgrade set
             status = ?2,
             decided_at = ?3,
             decided_by = ?4
         where id = ?1
         returning id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by",
    )
    .bind(columns::blob(id.0))
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
            id: UpgradeId(columns::uuid(&row.id)?),
            user: columns::user_id(&row.user_id)?,
            from: PlanId(row.from_plan.into()),
            to: PlanId(row.to_plan.into()),
            status: columns::upgrade_status(&row.status)?,
            asked_at: columns::instant(row.asked_at)?,
            decided_at: row.decided_at.map(columns::instant).transpose()?,
            decided_by: row.decided_by,
        })
    }
}
