//! Pages of what all users used in a period, from the daily rollup.
//!
//! A page is read in ranges of users, in the order of their ids. Of a range every day has its rows side by side,
//! and a range ends where the first of the days has had as many users, or rows, as the page has: so a page costs a
//! seek a day and the rows of that many users, however many users the rollup has, and however few of them used
//! anything.

use super::dialect::{self, Backend, Connection, each_day, usage_of_days};
use super::reports::sums;
use super::users;
use crate::StoreError;
use crate::reports::{Grouping, UsagePosition, UserUsage};
use crate::rows::UserUsageRow;
use domain::day::Day;
use domain::id::UserId;
use domain::user::User;
use jiff::ToSpan;
use std::collections::HashMap;
use uuid::Uuid;

/// The rows of the next range: of the users after `$2` up to the lowest id that has `$3` users or rows between `$2` and it
/// on one of the days in `$1`; up to `$4` if no day has so many. Each row has the end of the range, null if it is the
/// last one.
macro_rules! next_range {
    ($select_users:literal, $model:literal, $group:literal) => {
        concat!(
            "with bound as (
                 select (
                     ",
            $select_users,
            "
                     from usage_daily
                     where day = days.value and user_id > $2
                     order by user_id
                     limit 1 offset $3
                 ) as last_user
                 from ",
            each_day!("$1"),
            " order by last_user nulls last
                 limit 1
             )
             select (select last_user from bound) as range_end, user_id, ",
            $model,
            " as model, ",
            sums!(),
            usage_of_days!("coalesce((select last_user from bound), $4)"),
            " group by ",
            $group,
            " order by ",
            $group
        )
    };
}

/// The rows to read.
pub(super) struct UsagePage<'a> {
    /// First and last day.
    pub period: (Day, Day),
    pub grouping: Grouping,
    /// Only rows after this one.
    pub after: Option<&'a UsagePosition>,
    pub limit: u32,
}

impl UsagePage<'_> {
    /// At most `limit` rows, with the accounts of their users.
    pub(super) async fn read(&self, store: &Backend) -> Result<Vec<UserUsage>, StoreError> {
        let mut tx = dialect::begin_report(store).await?;
        let page = self.rows(&mut tx).await?;
        // It has only read: the page need not wait for a commit.
        drop(tx);
        with_accounts(store, page).await
    }

    async fn rows(&self, tx: &mut Connection) -> Result<Vec<UserUsage>, StoreError> {
        let days = self.days();
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut page = self.rest_of_user(tx, &days).await?;
        let mut start = self.after.map_or(Uuid::nil(), |after| after.user.0);
        while page.len() < limit {
            let range = self.next_range(tx, &days, start).await?;
            let end = range.last().and_then(|row| row.range_end);
            for RangeRow { row, .. } in range {
                page.push(UserUsage::try_from(row)?);
            }
            // Resets leave rows without a call.
            page.retain(|row| row.sums.calls > 0);
            let Some(end) = end else { break };
            start = end;
        }
        page.truncate(limit);
        Ok(page)
    }

    /// The models that follow those of the page before, of its last user.
    async fn rest_of_user(
        &self,
        tx: &mut Connection,
        days: &[String],
    ) -> Result<Vec<UserUsage>, StoreError> {
        let position = self.after.filter(|_| self.grouping == Grouping::UserAndModel);
        let Some(UsagePosition { user, model: Some(model) }) = position else {
            return Ok(Vec::new());
        };
        let rows: Vec<UserUsageRow> = sqlx::query_as(concat!(
            "select user_id, model, ",
            sums!(),
            usage_of_days!("$3"),
            " where model > $4
             group by user_id, model
             having sum(calls) > 0
             order by model
             limit $5"
        ))
        .bind(dialect::days(days.to_vec()))
        .bind(Uuid::from_u128(user.0.as_u128().saturating_sub(1)))
        .bind(user.0)
        .bind(model)
        .bind(i64::from(self.limit))
        .fetch_all(tx)
        .await?;
        rows.into_iter().map(UserUsage::try_from).collect()
    }

    /// The rows of the users after `start` up to the end of the next range. A range without rows is the last one.
    async fn next_range(
        &self,
        tx: &mut Connection,
        days: &[String],
        start: Uuid,
    ) -> Result<Vec<RangeRow>, StoreError> {
        let statement = match self.grouping {
            // A user may have several rows on a day.
            Grouping::User => {
                next_range!("select distinct user_id", "cast(null as text)", "user_id")
            }
            Grouping::UserAndModel => next_range!("select user_id", "model", "user_id, model"),
        };
        let rows = sqlx::query_as(statement)
            .bind(dialect::days(days.to_vec()))
            .bind(start)
            .bind(i64::from(self.limit.saturating_sub(1)))
            .bind(Uuid::max())
            .fetch_all(tx)
            .await?;
        Ok(rows)
    }

    /// Every day of the period: each is a place in the index.
    fn days(&self) -> Vec<String> {
        let (from, to) = self.period;
        let days = from.0.series(1.day()).take_while(|day| *day <= to.0);
        days.map(|day| Day(day).to_string()).collect()
    }
}

/// A row of a range, with the end of the range.
#[derive(sqlx_macros::FromRow)]
struct RangeRow {
    range_end: Option<Uuid>,
    #[sqlx(flatten)]
    row: UserUsageRow,
}

async fn with_accounts(
    store: &Backend,
    mut page: Vec<UserUsage>,
) -> Result<Vec<UserUsage>, StoreError> {
    let mut ids: Vec<UserId> = page.iter().map(|row| row.user).collect();
    ids.dedup();
    let users = users::by_ids(store, &ids).await?.into_iter();
    let users: HashMap<UserId, User> = users.map(|user| (user.id, user)).collect();
    for row in &mut page {
        row.account = users.get(&row.user).cloned();
    }
    Ok(page)
}
