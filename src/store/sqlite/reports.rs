//! What dashboards read. Sums come from the rollups, pages of the ledger by its index on users.

use super::{SqliteStore, accounts};
use crate::account::charge::Charge;
use crate::account::day::Day;
use crate::account::id::{KeyId, PlanId, RequestId, UserId};
use crate::account::user::{User, UserStatus};
use crate::store::history::{self, Wanted};
use crate::store::report_rows::{DayRow, LastUsedRow, LatencyRow, ModelRow, PlanRow, QuarterRow};
use crate::store::report_rows::{SumsRow, UserCountRow};
use crate::store::reports::{Connections, HistoryFilter, Latency, Reports, Sums, TopBy};
use crate::store::{StoreError, columns};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::HashMap;

/// The columns of a [`SumsRow`].
macro_rules! sums {
    () => {
        "sum(requests) as requests, sum(calls) as calls, sum(failed) as failed,
             sum(prompt) as prompt, sum(cached) as cached, sum(completion) as completion,
             sum(reasoning) as reasoning, sum(cost_micro_dollars) as cost_micro_dollars"
    };
}

#[derive(sqlx::FromRow)]
struct UserRow {
    user_id: Vec<u8>,
    #[sqlx(flatten)]
    sums: SumsRow,
}

#[async_trait]
impl Reports for SqliteStore {
    async fn usage_by_day(
        &self,
        user: UserId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(Day, Sums)>, StoreError> {
        let rows: Vec<DayRow> = sqlx::query_as(concat!(
            "select day, ",
            sums!(),
            " from usage_daily
             where user_id = ?1 and day between ?2 and ?3
             group by day
             having sum(calls) > 0
             order by day"
        ))
        .bind(columns::blob(user.0))
        .bind(from.to_string())
        .bind(to.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn usage_by_model(
        &self,
        user: UserId,
        from: Day,
        to: Day,
    ) -> Result<Vec<(String, Sums)>, StoreError> {
        let rows: Vec<ModelRow> = sqlx::query_as(concat!(
            "select model, ",
            sums!(),
            " from usage_daily
             where user_id = ?1 and day between ?2 and ?3
             group by model
             having sum(calls) > 0
             order by sum(prompt + completion + reasoning) desc, model"
        ))
        .bind(columns::blob(user.0))
        .bind(from.to_string())
        .bind(to.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn usage_by_quarter_hour(
        &self,
        user: UserId,
        day: Day,
    ) -> Result<Vec<(Timestamp, String, Sums)>, StoreError> {
        let rows: Vec<QuarterRow> = sqlx::query_as(
            "select
                 quarter, model, requests, calls, failed,
                 prompt, cached, completion, reasoning, cost_micro_dollars
             from usage_quarter_hourly
             where user_id = ?1 and day = ?2 and calls > 0
             order by quarter, model",
        )
        .bind(columns::blob(user.0))
        .bind(day.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn latency(&self, user: UserId, from: Day, to: Day) -> Result<Latency, StoreError> {
        let row: LatencyRow = sqlx::query_as(
            "select
                 coalesce(sum(took_50), 0) as took_50,
                 coalesce(sum(took_100), 0) as took_100,
                 coalesce(sum(took_250), 0) as took_250,
                 coalesce(sum(took_500), 0) as took_500,
                 coalesce(sum(took_1000), 0) as took_1000,
                 coalesce(sum(took_2500), 0) as took_2500,
                 coalesce(sum(took_5000), 0) as took_5000,
                 coalesce(sum(took_10000), 0) as took_10000,
                 coalesce(sum(took_30000), 0) as took_30000,
                 coalesce(sum(took_60000), 0) as took_60000,
                 coalesce(sum(took_300000), 0) as took_300000,
                 coalesce(sum(took_longer), 0) as took_longer
             from usage_daily
             where user_id = ?1 and day between ?2 and ?3",
        )
        .bind(columns::blob(user.0))
        .bind(from.to_string())
        .bind(to.to_string())
        .fetch_one(&self.readers)
        .await?;
        row.try_into()
    }

    async fn history(
        &self,
        user: UserId,
        filter: &HistoryFilter,
        before: Option<(Timestamp, RequestId)>,
        limit: u32,
    ) -> Result<Vec<Charge>, StoreError> {
        history::page(self, &Wanted { user, filter, before, limit }).await
    }

    async fn last_used(&self, user: UserId) -> Result<Vec<(KeyId, Timestamp)>, StoreError> {
        let rows: Vec<LastUsedRow> = sqlx::query_as(
            "select key_id, max(last_at) as last_at
             from usage_daily
             where user_id = ?1 and calls > 0
             group by key_id
             order by key_id",
        )
        .bind(columns::blob(user.0))
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn user_counts(&self) -> Result<Vec<(PlanId, UserStatus, u64)>, StoreError> {
        let rows: Vec<UserCountRow> = sqlx::query_as(
            "select plan_id, status, count(*) as user_count
             from users
             group by plan_id, status
             order by plan_id, status",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn totals_by_plan(
        &self,
        from: Day,
        to: Day,
    ) -> Result<Vec<(PlanId, u64, Sums)>, StoreError> {
        let rows: Vec<PlanRow> = sqlx::query_as(concat!(
            "with used as (
                 select user_id, ",
            sums!(),
            "    from usage_daily
                 where day between ?1 and ?2
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
        .bind(from.to_string())
        .bind(to.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn totals_by_model(&self, from: Day, to: Day) -> Result<Vec<(String, Sums)>, StoreError> {
        let rows: Vec<ModelRow> = sqlx::query_as(concat!(
            "select model, ",
            sums!(),
            " from usage_daily
             where day between ?1 and ?2
             group by model
             having sum(calls) > 0
             order by sum(prompt + completion + reasoning) desc, model"
        ))
        .bind(from.to_string())
        .bind(to.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn top_users(
        &self,
        from: Day,
        to: Day,
        by: TopBy,
        limit: u32,
    ) -> Result<Vec<(User, Sums)>, StoreError> {
        let rows: Vec<UserRow> = sqlx::query_as(concat!(
            "select user_id, ",
            sums!(),
            " from usage_daily
             where day between ?1 and ?2
             group by user_id
             having sum(calls) > 0
             order by
                 case ?3
                     when 'requests' then sum(requests)
                     when 'cost' then sum(cost_micro_dollars)
                     else sum(prompt + completion + reasoning)
                 end desc,
                 user_id
             limit ?4"
        ))
        .bind(from.to_string())
        .bind(to.to_string())
        .bind(by.as_str())
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let sums = rows
            .into_iter()
            .map(|row| Ok((columns::user_id(&row.user_id)?, Sums::try_from(row.sums)?)));
        let sums: Vec<(UserId, Sums)> = sums.collect::<Result<_, StoreError>>()?;
        let ids: Vec<UserId> = sums.iter().map(|(id, _)| *id).collect();
        let users = accounts::by_ids(self, &ids).await?.into_iter();
        let mut users: HashMap<UserId, User> = users.map(|user| (user.id, user)).collect();
        Ok(sums.into_iter().filter_map(|(id, sums)| Some((users.remove(&id)?, sums))).collect())
    }

    fn connections(&self) -> Connections {
        let (writing, open) = self.writer.connections();
        let idle = u32::try_from(self.readers.num_idle()).unwrap_or(u32::MAX);
        Connections {
            in_use: writing + self.readers.size().saturating_sub(idle),
            open: open + self.readers.size(),
            max: 1 + self.readers.options().get_max_connections(),
        }
    }
}
