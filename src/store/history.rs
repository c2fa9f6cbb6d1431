//! Pages of a user's ledger rows, whatever the dialect.
//!
//! A page must not read all that a user ever did, nor knock at hundreds of partitions: the rollup says
//! on which days the user made such calls, and from the newest of these on a few are read at a time,
//! more and more, until the page is full.

use super::StoreError;
use super::reports::{HistoryFilter, admitted_until, last_day};
use crate::account::charge::{Charge, Status};
use crate::account::day::Day;
use crate::account::id::{RequestId, UserId};
use async_trait::async_trait;
use jiff::Timestamp;
use std::cmp::Reverse;

/// Days that one query may span: at first, and how many times more each time.
const FIRST_SPAN: i32 = 7;
const MORE: i32 = 4;

/// What to read, beside the days.
pub(super) struct Wanted<'a> {
    pub user: UserId,
    pub filter: &'a HistoryFilter,
    pub before: Option<(Timestamp, RequestId)>,
    pub limit: u32,
}

impl Wanted<'_> {
    /// Whether the index of calls that were not completed has them.
    pub fn is_unusual(&self) -> bool {
        self.filter.status.is_some_and(|status| status != Status::Complete)
    }
}

/// What a dialect is asked.
#[async_trait]
pub(super) trait Ledger {
    /// The days on which the user made such calls, of whatever status, the newest first; none after
    /// `last`.
    async fn days(&self, wanted: &Wanted<'_>, last: Option<Day>) -> Result<Vec<Day>, StoreError>;

    /// The newest rows of the days from `oldest` to `newest`.
    async fn rows(
        &self,
        wanted: &Wanted<'_>,
        oldest: Day,
        newest: Day,
    ) -> Result<Vec<Charge>, StoreError>;
}

pub(super) async fn page(
    ledger: &impl Ledger,
    wanted: &Wanted<'_>,
) -> Result<Vec<Charge>, StoreError> {
    let last = wanted.before.map(|(at, _)| last_day(at)).into_iter().chain(wanted.filter.to).min();
    let days = ledger.days(wanted, last).await?;
    let (mut page, mut rest, mut span) = (Vec::new(), &days[..], FIRST_SPAN);
    while let Some(newest) = rest.first()
        && !is_complete(&page, wanted.limit, *newest)
    {
        let some = rest.iter().take_while(|day| days_between(**day, *newest) < span).count();
        let (these, older) = rest.split_at(some);
        let oldest = these.last().unwrap_or(newest);
        page.extend(ledger.rows(wanted, *oldest, *newest).await?);
        page.sort_unstable_by_key(|charge| Reverse((charge.admitted_at, charge.request)));
        page.truncate(usize::try_from(wanted.limit).unwrap_or(usize::MAX));
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

fn days_between(earlier: Day, later: Day) -> i32 {
    (later.0 - earlier.0).get_days()
}
