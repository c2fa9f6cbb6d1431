//! A user's ledger rows.

use super::PostgresStore;
use super::checks::ChargeRow;
use crate::account::charge::Charge;
use crate::account::day::Day;
use crate::account::id::KeyId;
use crate::store::history::{Ledger, Wanted};
use crate::store::{StoreError, columns};
use async_trait::async_trait;
use jiff::civil::{Date, date};
use sqlx::QueryBuilder;

/// Days are given as numbers: with a text, Postgres would look at all partitions to plan a query.
const FIRST_DAY: Date = date(2000, 1, 1);

#[async_trait]
impl Ledger for PostgresStore {
    async fn days(&self, wanted: &Wanted<'_>, last: Option<Day>) -> Result<Vec<Day>, StoreError> {
        let filter = wanted.filter;
        let days: Vec<String> = sqlx::query_scalar(
            "select to_char(day, 'YYYY-MM-DD')
             from usage_daily
             where user_id = $1
               and day between coalesce($2::date, '-infinity') and coalesce($3::date, 'infinity')
               and ($4::text is null or model = $4)
               and ($5::text is null or key_id = $5)
             group by day
             order by day desc",
        )
        .bind(wanted.user.0)
        .bind(filter.from.map(|day| day.to_string()))
        .bind(last.map(|day| day.to_string()))
        .bind(&filter.model)
        .bind(filter.key.as_ref().map(KeyId::as_str))
        .fetch_all(&self.pool)
        .await?;
        days.iter().map(|day| columns::day(day)).collect()
    }

    async fn rows(
        &self,
        wanted: &Wanted<'_>,
        oldest: Day,
        newest: Day,
    ) -> Result<Vec<Charge>, StoreError> {
        let mut query = QueryBuilder::new(
            "select
                 request, user_id, key_id, model, upstream,
                 to_char(day, 'YYYY-MM-DD') as day, admitted_at,
                 prompt, cached, completion, reasoning, cost_micro_dollars,
                 status, source, counted, first_token_ms, total_ms, client_request_id
             from usage_event
             where user_id = ",
        );
        query.push_bind(wanted.user.0);
        query.push(" and usage_event.day between date '2000-01-01' + ").push_bind(number(oldest));
        query.push(" and date '2000-01-01' + ").push_bind(number(newest));
        if let Some((at, request)) = wanted.before {
            query.push(" and (admitted_at, request) < (").push_bind(at.as_millisecond());
            query.push(", ").push_bind(request.0).push(")");
        }
        if let Some(status) = wanted.filter.status {
            query.push(" and status = ").push_bind(status.as_str());
        }
        if wanted.is_unusual() {
            // Said as the index says it, or its plan would not reckon with it.
            query.push(" and status <> 'complete'");
        }
        if let Some(model) = &wanted.filter.model {
            query.push(" and model = ").push_bind(model);
        }
        if let Some(key) = &wanted.filter.key {
            query.push(" and key_id = ").push_bind(key.as_str());
        }
        query.push(" order by admitted_at desc, request desc limit ");
        query.push_bind(i64::from(wanted.limit));
        let rows: Vec<ChargeRow> = query.build_query_as().fetch_all(&self.pool).await?;
        rows.into_iter().map(Charge::try_from).collect()
    }
}

/// A day counted from [`FIRST_DAY`].
fn number(day: Day) -> i32 {
    (day.0 - FIRST_DAY).get_days()
}
