//! Pages of a user's ledger rows.
//!
//! A page must not read everything a user ever did, nor visit hundreds of partitions: the rollup has the days
//! on which the user made such calls, and how many. The newest days are read until they hold a page of calls, a few at
//! a time and then more and more. A single call is found by its id, which says its days.

use super::dialect::{self, Backend, Driver};
use super::reconciliation::{ChargeRow, charge_columns};
use crate::StoreError;
use crate::encode;
use crate::encode::DayColumn;
use crate::reports::{HistoryFilter, admitted_until, days_of, last_day};
use domain::charge::{Adjustment, Charge, Status};
use domain::day::Day;
use domain::id::{KeyId, RequestId, UserId};
use jiff::Timestamp;
use jiff::civil::date;
use sqlx::QueryBuilder;
use std::cmp::Reverse;
use uuid::Uuid;

/// Days that the first query may span, and the factor by which each further one spans more days and calls.
const FIRST_SPAN: i32 = 7;
const SPAN_GROWTH: i32 = 4;
/// The same for calls that did not complete: they are rare, and their index is small.
const UNUSUAL_FIRST_SPAN: i32 = FIRST_SPAN * SPAN_GROWTH;
/// Before and after all days of a ledger.
const FIRST_DAY: Day = Day(date(1, 1, 1));
const LAST_DAY: Day = Day(date(9999, 12, 31));

/// Range and filter of the rows to read.
pub(super) struct Page<'a> {
    pub user: UserId,
    pub filter: &'a HistoryFilter,
    /// Only rows that were admitted before this one.
    pub before: Option<(Timestamp, RequestId)>,
    pub limit: u32,
}

impl Page<'_> {
    /// At most `limit` rows, the newest first.
    pub(super) async fn read(&self, store: &Backend) -> Result<Vec<Charge>, StoreError> {
        let last = self.before.map(|(at, _)| last_day(at)).into_iter().chain(self.filter.to).min();
        let days = self.days(store, last).await?;
        let (mut page, mut rest) = (self.by_id(store).await?, &days[..]);
        let mut steps = Steps {
            span: if self.is_unusual() { UNUSUAL_FIRST_SPAN } else { FIRST_SPAN },
            calls: i64::from(self.limit),
        };
        while let Some(newest) = rest.first()
            && !is_complete(&page, self.limit, newest.day)
        {
            let (these, older) = rest.split_at(steps.next(rest));
            let oldest = these.last().unwrap_or(newest);
            page.extend(self.rows(store, oldest.day, newest.day).await?);
            page.sort_unstable_by_key(|charge| Reverse((charge.admitted_at, charge.request)));
            // A client may send the id that the gateway gives.
            page.dedup_by_key(|charge| charge.request);
            page.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
            rest = older;
        }
        Ok(page)
    }

    /// True if only calls are asked for that did not complete.
    fn is_unusual(&self) -> bool {
        self.filter.status.is_some_and(|status| status != Status::Complete)
    }

    /// The call with the id that the filter asks for, if it belongs on the page. Calls for which the client sent
    /// this id are found with all others.
    async fn by_id(&self, store: &Backend) -> Result<Vec<Charge>, StoreError> {
        let request = self.filter.request.as_deref().and_then(|id| id.parse().ok());
        let Some(request) = request.filter(|_| self.limit > 0) else { return Ok(Vec::new()) };
        let found = find_call(store, request, Some(self.user)).await?;
        let is_on_page = |charge: &Charge| {
            let place = (charge.admitted_at, charge.request);
            self.filter.passes(charge) && self.before.is_none_or(|before| place < before)
        };
        Ok(found.into_iter().filter(is_on_page).collect())
    }

    /// The days on which the user made such calls, the newest first; none after `last`.
    async fn days(
        &self,
        store: &Backend,
        last: Option<Day>,
    ) -> Result<Vec<DayOfCalls>, StoreError> {
        let days: Vec<(DayColumn, i64, i64)> = sqlx::query_as(
            "select day, cast(sum(calls) as bigint) as calls, cast(sum(failed) as bigint) as failed
             from usage_daily
             where user_id = $1
               and day between $2 and $3
               and ($4 is null or model = $4)
               and ($5 is null or key_id = $5)
             group by day
             order by day desc",
        )
        .bind(self.user.0)
        .bind(DayColumn(self.filter.from.unwrap_or(FIRST_DAY)))
        .bind(DayColumn(last.unwrap_or(LAST_DAY)))
        .bind(&self.filter.model)
        .bind(self.filter.key.as_ref().map(KeyId::as_str))
        .fetch_all(&store.pool)
        .await?;
        let days =
            days.into_iter().filter_map(|(day, calls, failed)| self.day(day.0, calls, failed));
        Ok(days.collect())
    }

    /// The day, with the number of its calls that may be on the page; `None` if none can be.
    fn day(&self, day: Day, calls: i64, failed: i64) -> Option<DayOfCalls> {
        let calls = match self.filter.status {
            None => Some(calls),
            Some(Status::Complete) => Some(calls - failed),
            Some(status) if !status.is_upstream_failure() => None,
            Some(_) if failed == 0 => return None,
            Some(_) => Some(failed),
        };
        // A day that ends later may also have calls that are newer than this page.
        let is_before =
            self.before.is_none_or(|(at, _)| admitted_until(day) <= at.as_millisecond());
        let is_counted = is_before && self.filter.request.is_none();
        Some(DayOfCalls { day, calls: calls.filter(|_| is_counted) })
    }

    /// The newest rows of the days from `oldest` to `newest`.
    async fn rows(
        &self,
        store: &Backend,
        oldest: Day,
        newest: Day,
    ) -> Result<Vec<Charge>, StoreError> {
        let filter = self.filter;
        let mut query = QueryBuilder::<Driver>::new(concat!(
            "select ",
            charge_columns!(),
            " from usage_event where user_id = "
        ));
        query.push_bind(self.user.0);
        dialect::push_days(&mut query, (oldest, newest), self.before);
        if let Some(status) = filter.status {
            query.push(" and status = ").push_bind(status.as_str());
        }
        if self.is_unusual() {
            // The condition of the partial index, which is not used without it.
            query.push(" and status <> 'complete'");
        }
        if let Some(model) = &filter.model {
            query.push(" and model = ").push_bind(model);
        }
        if let Some(request) = &filter.request {
            query.push(" and client_request_id = ").push_bind(request);
        }
        if let Some(key) = &filter.key {
            query.push(" and key_id = ").push_bind(key.as_str());
        }
        query.push(" order by admitted_at desc, request desc limit ");
        query.push_bind(i64::from(self.limit));
        let rows: Vec<ChargeRow> = query.build_query_as().fetch_all(&store.pool).await?;
        rows.into_iter().map(Charge::try_from).collect()
    }
}

/// A day on which the user made calls that may be on the page.
struct DayOfCalls {
    day: Day,
    /// At most so many, by the rollup; `None` if unknown.
    calls: Option<i64>,
}

/// Limits of the next query. Both grow, because the rollup also counts pruned rows, and calls that the filter excludes.
struct Steps {
    /// Days from the first to the last.
    span: i32,
    /// Number of calls after which no further days are added to the query.
    calls: i64,
}

impl Steps {
    /// The number of `days` to read next: until they hold enough calls, and one more, which may overlap with them.
    fn next(&mut self, days: &[DayOfCalls]) -> usize {
        let Some(newest) = days.first() else { return 0 };
        let mut calls = 0;
        let is_needed = |day: &&DayOfCalls| {
            let is_short = calls < self.calls;
            calls += day.calls.unwrap_or(0);
            is_short
        };
        let needed = days.iter().take_while(is_needed).count();
        let in_span = |day: &&DayOfCalls| days_between(day.day, newest.day) < self.span;
        let in_span = days.iter().take_while(in_span).count();
        self.span = self.span.saturating_mul(SPAN_GROWTH);
        self.calls = self.calls.saturating_mul(i64::from(SPAN_GROWTH));
        in_span.min(needed + 1).max(1)
    }
}

/// True if nothing on `day` or before it belongs on the page any more. Days of one user may overlap, when
/// the plan's time zone was changed.
fn is_complete(page: &[Charge], limit: u32, day: Day) -> bool {
    let is_full = u32::try_from(page.len()).is_ok_and(|length| length >= limit);
    let is_older = |last: &Charge| admitted_until(day) <= last.admitted_at.as_millisecond();
    is_full && page.last().is_none_or(is_older)
}

fn days_between(earlier: Day, later: Day) -> i32 {
    (later.0 - earlier.0).get_days()
}

/// The call with this id, if it is of this user (`None` = of any user).
pub(super) async fn find_call(
    store: &Backend,
    request: RequestId,
    user: Option<UserId>,
) -> Result<Option<Charge>, StoreError> {
    let found = match days_of(request) {
        Some(days) => find_on(store, request, user, days).await?,
        None => None,
    };
    match found {
        Some(charge) => Ok(Some(charge)),
        // Rows of an earlier service may have ids that say nothing, or something else.
        None => find_on(store, request, user, (FIRST_DAY, LAST_DAY)).await,
    }
}

/// [`find_call`] on the days from the first to the last.
async fn find_on(
    store: &Backend,
    request: RequestId,
    user: Option<UserId>,
    (first, last): (Day, Day),
) -> Result<Option<Charge>, StoreError> {
    let row: Option<ChargeRow> = sqlx::query_as(concat!(
        "select ",
        charge_columns!(),
        " from usage_event
         where request = $1
           and day between $2 and $3
           and user_id = coalesce($4, user_id)"
    ))
    .bind(request.0)
    .bind(DayColumn(first))
    .bind(DayColumn(last))
    .bind(user.map(|user| user.0))
    .fetch_optional(&store.pool)
    .await?;
    row.map(Charge::try_from).transpose()
}

/// An adjustment as it is stored.
#[derive(sqlx_macros::FromRow)]
struct AdjustmentRow {
    reset: Uuid,
    tokens: i64,
    requests: i64,
    at: i64,
    by: String,
}

/// The adjustments of a user's key on a day, the earliest first.
pub(super) async fn adjustments(
    store: &Backend,
    user: UserId,
    key: &KeyId,
    day: Day,
) -> Result<Vec<Adjustment>, StoreError> {
    let rows: Vec<AdjustmentRow> = sqlx::query_as(
        "select reset, tokens, requests, at, by
         from usage_adjustment
         where user_id = $1 and day = $2 and key_id = $3
         order by at, reset",
    )
    .bind(user.0)
    .bind(DayColumn(day))
    .bind(key.as_str())
    .fetch_all(&store.pool)
    .await?;
    let adjustment = |row: AdjustmentRow| {
        Ok(Adjustment {
            reset: RequestId(row.reset),
            user,
            key: key.clone(),
            day,
            tokens: row.tokens,
            requests: row.requests,
            at: encode::instant(row.at)?,
            by: row.by,
        })
    };
    rows.into_iter().map(adjustment).collect()
}

#[cfg(test)]
mod tests {
    use super::{DayOfCalls, FIRST_SPAN, Page, Steps};
    use crate::reports::HistoryFilter;
    use domain::charge::Status;
    use domain::day::Day;
    use domain::id::{RequestId, UserId};
    use jiff::ToSpan;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use uuid::Uuid;

    const NEWEST: Day = Day(date(2026, 11, 27));

    /// Days with so many calls, that many days before the newest.
    fn days(of: &[(i64, Option<i64>)]) -> Vec<DayOfCalls> {
        of.iter()
            .map(|&(ago, calls)| DayOfCalls { day: Day(NEWEST.0 - ago.days()), calls })
            .collect()
    }

    #[test]
    fn days_are_read_until_they_hold_a_page_or_span_too_much() {
        type Days<'a> = &'a [(i64, Option<i64>)];
        let cases: [(Days<'_>, usize); 7] = [
            (&[], 0),
            (&[(0, Some(2_400)), (1, Some(2_400)), (2, Some(2_400))], 2),
            (&[(0, Some(25)), (1, Some(1))], 2),
            (&[(0, Some(24)), (1, Some(1)), (2, Some(1)), (3, Some(1))], 3),
            (&[(0, Some(1)), (6, Some(1)), (7, Some(1))], 2),
            // The newest day is always read, even without calls.
            (&[(0, Some(0)), (90, Some(0))], 1),
            (&[(0, None), (1, None), (7, None)], 2),
        ];
        for (of, read) in cases {
            let mut steps = Steps { span: 7, calls: 25 };
            assert_eq!(steps.next(&days(of)), read, "{of:?}");
        }
    }

    /// Days with pruned rows alone, or with calls that the filter excludes, add nothing to the page.
    #[test]
    fn a_few_queries_pass_over_years_of_busy_days() {
        let busy: Vec<(i64, Option<i64>)> = (0..1_000).map(|ago| (ago, Some(60))).collect();
        let days = days(&busy);
        let (mut rest, mut queries) = (&days[..], 0);
        let mut steps = Steps { span: FIRST_SPAN, calls: 51 };
        while !rest.is_empty() {
            rest = &rest[steps.next(rest)..];
            queries += 1;
        }
        assert!(queries <= 6, "{queries}");
    }

    #[test]
    fn the_rollup_tells_how_many_calls_may_be_on_the_page() {
        let call = RequestId(Uuid::from_u128(1));
        let at = |hours: i64| (NEWEST.ends_at(&TimeZone::UTC) + (hours - 24).hours(), call);
        let cases = [
            (None, None, (10, 4), Some(Some(10))),
            (Some(Status::Complete), None, (10, 4), Some(Some(6))),
            (Some(Status::Failed), None, (10, 4), Some(Some(4))),
            (Some(Status::CutByUpstream), None, (10, 4), Some(Some(4))),
            (Some(Status::CutByUpstream), None, (10, 0), None),
            (Some(Status::Abandoned), None, (10, 0), Some(None)),
            // Some of the day's calls may come after the page.
            (None, Some(at(49)), (10, 4), Some(None)),
            (None, Some(at(50)), (10, 4), Some(Some(10))),
        ];
        for (status, before, (calls, failed), expected) in cases {
            let filter = HistoryFilter { status, ..HistoryFilter::default() };
            let page = Page { user: UserId(Uuid::nil()), filter: &filter, before, limit: 25 };
            let day = page.day(NEWEST, calls, failed).map(|day| day.calls);
            assert_eq!(day, expected, "{status:?} {before:?}");
        }
    }
}
