//! Pages of a user's ledger rows.
//!
//! The ledger has a partition a day, and a page must not knock at hundreds of them: the rollup says
//! on which days the user made calls, and from the newest of these on a few are read at a time,
//! more and more, until the page is full.

use super::PostgresStore;
use super::checks::ChargeRow;
use crate::account::charge::{Charge, Status};
use crate::account::day::Day;
use crate::account::id::{KeyId, RequestId, UserId};
use crate::store::reports::{HistoryFilter, admitted_until, last_day};
use crate::store::{StoreError, columns};
use jiff::Timestamp;
use jiff::civil::{Date, date};
use std::cmp::Reverse;
use uuid::Uuid;

/// Days that one query may span: at first, and how many times more each time.
const FIRST_SPAN: i32 = 7;
const MORE: i32 = 4;

/// Days are given as numbers: with a text, Postgres would look at all partitions to plan a query.
const FIRST_DAY: Date = date(2000, 1, 1);

/// What to read, beside the days.
struct Wanted<'a> {
    user: UserId,
    filter: &'a HistoryFilter,
    before: (i64, Uuid),
    limit: u32,
}

pub(super) async fn page(
    store: &PostgresStore,
    user: UserId,
    filter: &HistoryFilter,
    before: Option<(Timestamp, RequestId)>,
    limit: u32,
) -> Result<Vec<Charge>, StoreError> {
    let last = before.map(|(at, _)| last_day(at)).into_iter().chain(filter.to).min();
    let days = days(store, user, filter, last).await?;
    let before = before.map_or((i64::MAX, Uuid::max()), |(at, id)| (at.as_millisecond(), id.0));
    let wanted = Wanted { user, filter, before, limit };
    let (mut page, mut rest, mut span) = (Vec::new(), &days[..], FIRST_SPAN);
    while let Some(newest) = rest.first()
        && !is_complete(&page, limit, *newest)
    {
        let some = rest.iter().take_while(|day| number(*newest) - number(**day) < span).count();
        let (these, older) = rest.split_at(some);
        let oldest = these.last().unwrap_or(newest);
        page.extend(wanted.rows(store, *oldest, *newest).await?);
        page.sort_unstable_by_key(|charge| Reverse((charge.admitted_at, charge.request)));
        page.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        (rest, span) = (older, span.saturating_mul(MORE));
    }
    Ok(page)
}

/// Whether nothing on `day` or before it belongs on the page any more. Days of one user may overlap,
/// when the plan's zone was changed.
fn is_complete(page: &[Charge], limit: u32, day: Day) -> bool {
    let is_full = u32::try_from(page.len()).is_ok_and(|length| length >= limit);
    let is_older = |last: &Charge| admitted_until(day) <= last.admitted_at.as_millisecond();
    is_full && page.last().is_none_or(is_older)
}

/// The days on which the user made such calls, the newest first.
async fn days(
    store: &PostgresStore,
    user: UserId,
    filter: &HistoryFilter,
    last: Option<Day>,
) -> Result<Vec<Day>, StoreError> {
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
    .bind(user.0)
    .bind(filter.from.map(|day| day.to_string()))
    .bind(last.map(|day| day.to_string()))
    .bind(&filter.model)
    .bind(filter.key.as_ref().map(KeyId::as_str))
    .fetch_all(&store.pool)
    .await?;
    days.iter().map(|day| columns::day(day)).collect()
}

impl Wanted<'_> {
    /// The newest rows of some days.
    async fn rows(
        &self,
        store: &PostgresStore,
        oldest: Day,
        newest: Day,
    ) -> Result<Vec<Charge>, StoreError> {
        let rows: Vec<ChargeRow> = sqlx::query_as(
            "select
                 request, user_id, key_id, model, upstream,
                 to_char(day, 'YYYY-MM-DD') as day, admitted_at,
                 prompt, cached, completion, reasoning, cost_micro_dollars,
                 status, source, counted, first_token_ms, total_ms
             from usage_event
             where user_id = $1
               and usage_event.day between date '2000-01-01' + $2 and date '2000-01-01' + $3
               and (admitted_at, request) < ($4, $5)
               and ($6::text is null or model = $6)
               and ($7::text is null or status = $7)
               and ($8::text is null or key_id = $8)
             order by admitted_at desc, request desc
             limit $9",
        )
        .bind(self.user.0)
        .bind(number(oldest))
        .bind(number(newest))
        .bind(self.before.0)
        .bind(self.before.1)
        .bind(&self.filter.model)
        .bind(self.filter.status.map(Status::as_str))
        .bind(self.filter.key.as_ref().map(KeyId::as_str))
        .bind(i64::from(self.limit))
        .fetch_all(&store.pool)
        .await?;
        rows.into_iter().map(Charge::try_from).collect()
    }
}

/// A day counted from [`FIRST_DAY`].
fn number(day: Day) -> i32 {
    (day.0 - FIRST_DAY).get_days()
}
