//! A user's ledger rows.

use super::SqliteStore;
use super::checks::ChargeRow;
use crate::account::charge::Charge;
use crate::account::day::Day;
use crate::account::id::KeyId;
use crate::store::history::{Ledger, Wanted};
use crate::store::reports::{admitted_from, admitted_until};
use crate::store::{StoreError, columns};
use async_trait::async_trait;
use sqlx::QueryBuilder;

#[async_trait]
impl Ledger for SqliteStore {
    async fn days(&self, wanted: &Wanted<'_>, last: Option<Day>) -> Result<Vec<Day>, StoreError> {
        let filter = wanted.filter;
        let days: Vec<String> = sqlx::query_scalar(
            "select day
             from usage_daily
             where user_id = ?1
               and day >= coalesce(?2, '')
               and day <= coalesce(?3, '~')
               and (?4 is null or model = ?4)
               and (?5 is null or key_id = ?5)
             group by day
             order by day desc",
        )
        .bind(columns::blob(wanted.user.0))
        .bind(filter.from.map(|day| day.to_string()))
        .bind(last.map(|day| day.to_string()))
        .bind(&filter.model)
        .bind(filter.key.as_ref().map(KeyId::as_str))
        .fetch_all(&self.readers)
        .await?;
        days.iter().map(|day| columns::day(day)).collect()
    }

    async fn rows(
        &self,
        wanted: &Wanted<'_>,
        oldest: Day,
        newest: Day,
    ) -> Result<Vec<Charge>, StoreError> {
        // The index knows when calls were admitted; what that says of their days is enough to
        // leave out all others but a few.
        let page_end =
            wanted.before.map(|(at, request)| (at.as_millisecond(), columns::blob(request.0)));
        let days_end = (admitted_until(newest), Vec::new());
        let end = page_end.into_iter().chain([days_end]).min().unwrap_or((i64::MAX, Vec::new()));
        let mut query = QueryBuilder::new(
            "select
                 request, user_id, key_id, model, upstream, day, admitted_at,
                 prompt, cached, completion, reasoning, cost_micro_dollars,
                 status, source, counted, first_token_ms, total_ms, client_request_id
             from usage_event
             where user_id = ",
        );
        query.push_bind(columns::blob(wanted.user.0));
        query.push(" and admitted_at >= ").push_bind(admitted_from(oldest));
        query.push(" and (admitted_at, request) < (").push_bind(end.0);
        query.push(", ").push_bind(end.1).push(")");
        // The plus keeps the index on days, which knows no users, out of it.
        query.push(" and +day between ").push_bind(oldest.to_string());
        query.push(" and ").push_bind(newest.to_string());
        if let Some(status) = wanted.filter.status {
            query.push(" and status = ").push_bind(status.as_str());
        }
        if wanted.is_unusual() {
            // Said as the index says it, or it would not be used.
            query.push(" and status <> 'complete'");
        }
        if let Some(model) = &wanted.filter.model {
            query.push(" and model = ").push_bind(model);
        }
        if let Some(key) = &wanted.filter.key {
            query.push(" and key_id = ").push_bind(key.as_str());
        }
        query.push(" order by admitted_at desc, request desc limit ").push_bind(wanted.limit);
        let rows: Vec<ChargeRow> = query.build_query_as().fetch_all(&self.readers).await?;
        rows.into_iter().map(Charge::try_from).collect()
    }
}
