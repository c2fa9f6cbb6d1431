//! The users who have used most of a limit of a day, from the daily rollup.

use super::dialect::{Backend, override_of};
use super::users;
use crate::StoreError;
use crate::encode::{self, DayColumn};
use crate::reports::{NearLimit, UsedShare};
use domain::day::Day;
use domain::id::UserId;
use domain::user::User;
use std::collections::HashMap;
use uuid::Uuid;

/// What a user has used of the day's limits.
#[derive(sqlx_macros::FromRow)]
struct NearLimitRow {
    user_id: Uuid,
    tokens: i64,
    tokens_limit: i64,
    requests: i64,
    requests_limit: i64,
}

/// The day's rows of the rollup are read once, in the order of their key; users and plans are found by their ids.
const STATEMENT: &str = concat!(
    "with used as (
         select
             user_id,
             cast(sum(prompt - uncounted + completion + reasoning) as bigint) as tokens,
             cast(sum(requests) as bigint) as requests
         from usage_daily
         where day = $1
         group by user_id
     ),
     limited as (
         select
             used.user_id, used.tokens, used.requests,
             coalesce(",
    override_of!("max_tokens_per_day"),
    ", plan.tokens_per_day) as tokens_limit,
             coalesce(",
    override_of!("max_requests_per_day"),
    ", plan.requests_per_day) as requests_limit
         from used
         join users on users.id = used.user_id
         join plan on plan.id = users.plan_id
         where users.status = 'active'
     ),
     shares as (
         select
             user_id, tokens, tokens_limit, requests, requests_limit,
             coalesce(100.0 * tokens / nullif(tokens_limit, 0), 0) as tokens_percent,
             coalesce(100.0 * requests / nullif(requests_limit, 0), 0) as requests_percent
         from limited
     )
     select user_id, tokens, tokens_limit, requests, requests_limit
     from shares
     where tokens_percent >= $2 or requests_percent >= $2
     order by
         case when tokens_percent > requests_percent then tokens_percent else requests_percent end desc,
         user_id
     limit $3"
);

/// At most `limit` users who have used `percent` or more of a limit of the day, the nearest first.
pub(super) async fn read(
    store: &Backend,
    day: Day,
    percent: u32,
    limit: u32,
) -> Result<Vec<NearLimit>, StoreError> {
    let rows: Vec<NearLimitRow> = sqlx::query_as(STATEMENT)
        .bind(DayColumn(day))
        .bind(i64::from(percent))
        .bind(i64::from(limit))
        .fetch_all(&store.pool)
        .await?;
    let ids: Vec<UserId> = rows.iter().map(|row| UserId(row.user_id)).collect();
    let found = users::by_ids(store, &ids).await?.into_iter();
    let mut users: HashMap<Uuid, User> = found.map(|user| (user.id.0, user)).collect();
    let near = rows.into_iter().filter_map(|row| Some((users.remove(&row.user_id)?, row)));
    near.map(|(user, row)| row.of(user)).collect()
}

impl NearLimitRow {
    fn of(&self, user: User) -> Result<NearLimit, StoreError> {
        let share = |used, limit| -> Result<UsedShare, StoreError> {
            Ok(UsedShare { used: encode::count(used)?, limit: encode::count(limit)? })
        };
        Ok(NearLimit {
            user,
            tokens: share(self.tokens, self.tokens_limit)?,
            requests: share(self.requests, self.requests_limit)?,
        })
    }
}
