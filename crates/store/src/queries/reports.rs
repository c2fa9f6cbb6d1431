//! What dashboards read. Sums come from the rollups, pages of the ledger by its index on users.

use super::dialect::Backend;
use super::history::{self, Page};
use super::near_limits;
use super::usage_pages::UsagePage;
use super::users;
use crate::StoreError;
use crate::encode::DayColumn;
use crate::reports::{
    DayTotals, Grouping, HistoryFilter, Latency, NearLimit, Reports, Sums, TopBy,
};
use crate::reports::{UsagePosition, UserUsage};
use crate::rows::{DayRow, DayTotalsRow, LastUsedRow, LatencyRow, ModelRow, PlanRow, QuarterRow};
use crate::rows::{SumsRow, UserCountRow};
use async_trait::async_trait;
use domain::charge::{Adjustment, Charge};
use domain::day::Day;
use domain::id::{KeyId, PlanId, RequestId, UserId};
use domain::user::{User, UserStatus};
use jiff::Timestamp;
use std::collections::HashMap;
use telemetry::labels::StoreOp;
use uuid::Uuid;

/// The columns of a [`SumsRow`].
macro_rules! sums {
    () => {
        "cast(sum(requests) as bigint) as requests, cast(sum(calls) as bigint) as calls,
             cast(sum(failed) as bigint) as failed, cast(sum(prompt) as bigint) as prompt,
             cast(sum(cached) as bigint) as cached, cast(sum(completion) as bigint) as completion,
             cast(sum(reasoning) as bigint) as reasoning,
             cast(sum(cost_micro_dollars) as bigint) as cost_micro_dollars"
    };
}
pub(super) use sums;

/// The columns of a [`LatencyRow`].
macro_rules! took {
    () => {
        "cast(coalesce(sum(took_50), 0) as bigint) as took_50,
             cast(coalesce(sum(took_100), 0) as bigint) as took_100,
             cast(coalesce(sum(took_250), 0) as bigint) as took_250,
             cast(coalesce(sum(took_500), 0) as bigint) as took_500,
             cast(coalesce(sum(took_1000), 0) as bigint) as took_1000,
             cast(coalesce(sum(took_2500), 0) as bigint) as took_2500,
             cast(coalesce(sum(took_5000), 0) as bigint) as took_5000,
             cast(coalesce(sum(took_10000), 0) as bigint) as took_10000,
             cast(coalesce(sum(took_30000), 0) as bigint) as took_30000,
             cast(coalesce(sum(took_60000), 0) as bigint) as took_60000,
             cast(coalesce(sum(took_300000), 0) as bigint) as took_300000,
             cast(coalesce(sum(took_longer), 0) as bigint) as took_longer"
    };
}

#[derive(sqlx_macros::FromRow)]
struct UserRow {
    user_id: Uuid,
    #[sqlx(flatten)]
    sums: SumsRow,
}

#[async_trait]
impl Reports for Backend {
    async fn usage_by_day(
        &self,
        user: UserId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(Day, Sums)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<DayRow> = sqlx::query_as(concat!(
                "select day, ",
                sums!(),
                " from usage_daily
                 where user_id = $1 and day between $2 and $3
                 group by day
                 having sum(calls) > 0
                 order by day"
            ))
            .bind(user.0)
            .bind(DayColumn(from))
            .bind(DayColumn(to))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn usage_by_model(
        &self,
        user: UserId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(String, Sums)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<ModelRow> = sqlx::query_as(concat!(
                "select model, ",
                sums!(),
                " from usage_daily
                 where user_id = $1 and day between $2 and $3
                 group by model
                 having sum(calls) > 0
                 order by sum(prompt + completion + reasoning) desc, model"
            ))
            .bind(user.0)
            .bind(DayColumn(from))
            .bind(DayColumn(to))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn usage_by_quarter_hour(
        &self,
        user: UserId,
        day: Day,
    ) -> Result<Vec<(Timestamp, String, Sums)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<QuarterRow> = sqlx::query_as(
                "select
                     quarter, model, requests, calls, failed,
                     prompt, cached, completion, reasoning, cost_micro_dollars
                 from usage_quarter_hourly
                 where user_id = $1 and day = $2 and calls > 0
                 order by quarter, model",
            )
            .bind(user.0)
            .bind(DayColumn(day))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn latency(&self, user: UserId, from: Day, to: Day) -> Result<Latency, StoreError> {
        self.read(StoreOp::Reports, async {
            let row: LatencyRow = sqlx::query_as(concat!(
                "select ",
                took!(),
                " from usage_daily
                 where user_id = $1 and day between $2 and $3"
            ))
            .bind(user.0)
            .bind(DayColumn(from))
            .bind(DayColumn(to))
            .fetch_one(&self.pool)
            .await?;
            row.try_into()
        })
        .await
    }

    async fn history(
        &self,
        user: UserId,
        filter: &HistoryFilter,
        before: Option<(Timestamp, RequestId)>,
        limit: u32,
    ) -> Result<Vec<Charge>, StoreError> {
        let page = Page { user, filter, before, limit };
        Box::pin(self.read(StoreOp::Reports, page.read(self))).await
    }

    async fn call(
        &self,
        request: RequestId,
        user: Option<UserId>,
    ) -> Result<Option<Charge>, StoreError> {
        self.read(StoreOp::Reports, history::find_call(self, request, user)).await
    }

    async fn adjustments(
        &self,
        user: UserId,
        key: &KeyId,
        day: Day,
    ) -> Result<Vec<Adjustment>, StoreError> {
        self.read(StoreOp::Reports, history::adjustments(self, user, key, day)).await
    }

    async fn last_used(&self, user: UserId) -> Result<Vec<(KeyId, Timestamp)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<LastUsedRow> = sqlx::query_as(
                "select key_id, last_at from key_use where user_id = $1 order by key_id",
            )
            .bind(user.0)
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn user_counts(&self) -> Result<Vec<(PlanId, UserStatus, u64)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<UserCountRow> = sqlx::query_as(
                "select plan_id, status, count(*) as user_count
                 from users
                 group by plan_id, status
                 order by plan_id, status",
            )
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn totals_by_plan(
        &self,
        from: Day,
        to: Day,
    ) -> Result<Vec<(PlanId, u64, Sums)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<PlanRow> = sqlx::query_as(concat!(
                "with used as (
                     select user_id, ",
                sums!(),
                "    from usage_daily
                     where day between $1 and $2
                     group by user_id
                     having sum(calls) > 0
                 )
                 select users.plan_id, count(*) as user_count, ",
                sums!(),
                " from used
                 join users on users.id = used.user_id
                 group by users.plan_id
                 order by users.plan_id"
            ))
            .bind(DayColumn(from))
            .bind(DayColumn(to))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn totals_by_model(&self, from: Day, to: Day) -> Result<Vec<(String, Sums)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<ModelRow> = sqlx::query_as(concat!(
                "select model, ",
                sums!(),
                " from usage_daily
                 where day between $1 and $2
                 group by model
                 having sum(calls) > 0
                 order by sum(prompt + completion + reasoning) desc, model"
            ))
            .bind(DayColumn(from))
            .bind(DayColumn(to))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn usage_of_users(
        &self,
        period: (Day, Day),
        grouping: Grouping,
        after: Option<&UsagePosition>,
        limit: u32,
    ) -> Result<Vec<UserUsage>, StoreError> {
        let page = UsagePage { period, grouping, after, limit };
        Box::pin(self.read(StoreOp::Reports, page.read(self))).await
    }

    async fn totals_by_day(&self, from: Day, to: Day) -> Result<Vec<DayTotals>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<DayTotalsRow> = sqlx::query_as(concat!(
                "select day, ",
                sums!(),
                ", ",
                took!(),
                " from usage_daily
                 where day between $1 and $2
                 group by day
                 having sum(calls) > 0
                 order by day"
            ))
            .bind(DayColumn(from))
            .bind(DayColumn(to))
            .fetch_all(&self.pool)
            .await?;
            rows.into_iter().map(TryInto::try_into).collect()
        })
        .await
    }

    async fn top_users(
        &self,
        from: Day,
        to: Day,
        by: TopBy,
        limit: u32,
    ) -> Result<Vec<(User, Sums)>, StoreError> {
        self.read(StoreOp::Reports, async {
            let rows: Vec<UserRow> = sqlx::query_as(concat!(
                "select user_id, ",
                sums!(),
                " from usage_daily
                 where day between $1 and $2
                 group by user_id
                 having sum(calls) > 0
                 order by
                     case $3
                         when 'requests' then sum(requests)
                         when 'cost' then sum(cost_micro_dollars)
                         else sum(prompt + completion + reasoning)
                     end desc,
                     user_id
                 limit $4"
            ))
            .bind(DayColumn(from))
            .bind(DayColumn(to))
            .bind(by.as_str())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
            let sums =
                rows.into_iter().map(|row| Ok((UserId(row.user_id), Sums::try_from(row.sums)?)));
            let sums: Vec<(UserId, Sums)> = sums.collect::<Result<_, StoreError>>()?;
            let ids: Vec<UserId> = sums.iter().map(|(id, _)| *id).collect();
            let users = users::by_ids(self, &ids).await?.into_iter();
            let mut users: HashMap<UserId, User> = users.map(|user| (user.id, user)).collect();
            Ok(sums.into_iter().filter_map(|(id, sums)| Some((users.remove(&id)?, sums))).collect())
        })
        .await
    }

    async fn near_limits(
        &self,
        day: Day,
        percent: u32,
        limit: u32,
    ) -> Result<Vec<NearLimit>, StoreError> {
        self.read(StoreOp::Reports, near_limits::read(self, day, percent, limit)).await
    }
}
