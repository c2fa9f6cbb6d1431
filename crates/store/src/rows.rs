//! Rows of reports, which are the same in both databases.

use super::StoreError;
use super::encode::{self, DayColumn};
use super::reports::{DayTotals, Latency, Sums, UserUsage};
use domain::day::Day;
use domain::id::{KeyId, PlanId, UserId};
use domain::user::UserStatus;
use jiff::Timestamp;
use uuid::Uuid;

/// The length of a quarter of an hour, in milliseconds.
pub(super) const MS_PER_QUARTER: i64 = 900_000;

#[derive(sqlx_macros::FromRow)]
pub(super) struct SumsRow {
    requests: i64,
    calls: i64,
    failed: i64,
    prompt: i64,
    cached: i64,
    completion: i64,
    reasoning: i64,
    cost_micro_dollars: i64,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct DayRow {
    day: DayColumn,
    #[sqlx(flatten)]
    sums: SumsRow,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct ModelRow {
    model: String,
    #[sqlx(flatten)]
    sums: SumsRow,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct QuarterRow {
    quarter: i64,
    model: String,
    #[sqlx(flatten)]
    sums: SumsRow,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct PlanRow {
    plan_id: String,
    user_count: i64,
    #[sqlx(flatten)]
    sums: SumsRow,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct UserCountRow {
    plan_id: String,
    status: String,
    user_count: i64,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct LastUsedRow {
    key_id: String,
    last_at: i64,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct UserUsageRow {
    pub user_id: Uuid,
    model: Option<String>,
    #[sqlx(flatten)]
    sums: SumsRow,
}

#[derive(sqlx_macros::FromRow)]
#[expect(clippy::struct_field_names, reason = "as the columns are named")]
pub(super) struct LatencyRow {
    took_50: i64,
    took_100: i64,
    took_250: i64,
    took_500: i64,
    took_1000: i64,
    took_2500: i64,
    took_5000: i64,
    took_10000: i64,
    took_30000: i64,
    took_60000: i64,
    took_300000: i64,
    took_longer: i64,
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct DayTotalsRow {
    day: DayColumn,
    #[sqlx(flatten)]
    sums: SumsRow,
    #[sqlx(flatten)]
    latency: LatencyRow,
}

impl TryFrom<SumsRow> for Sums {
    type Error = StoreError;

    fn try_from(row: SumsRow) -> Result<Self, StoreError> {
        Ok(Self {
            requests: encode::count(row.requests)?,
            calls: encode::count(row.calls)?,
            failed: encode::count(row.failed)?,
            prompt: encode::count(row.prompt)?,
            cached: encode::count(row.cached)?,
            completion: encode::count(row.completion)?,
            reasoning: encode::count(row.reasoning)?,
            cost_micro_dollars: row.cost_micro_dollars,
        })
    }
}

impl TryFrom<DayRow> for (Day, Sums) {
    type Error = StoreError;

    fn try_from(row: DayRow) -> Result<Self, StoreError> {
        Ok((row.day.0, row.sums.try_into()?))
    }
}

impl TryFrom<DayTotalsRow> for DayTotals {
    type Error = StoreError;

    fn try_from(row: DayTotalsRow) -> Result<Self, StoreError> {
        Ok(Self { day: row.day.0, sums: row.sums.try_into()?, latency: row.latency.try_into()? })
    }
}

impl TryFrom<ModelRow> for (String, Sums) {
    type Error = StoreError;

    fn try_from(row: ModelRow) -> Result<Self, StoreError> {
        Ok((row.model, row.sums.try_into()?))
    }
}

impl TryFrom<QuarterRow> for (Timestamp, String, Sums) {
    type Error = StoreError;

    fn try_from(row: QuarterRow) -> Result<Self, StoreError> {
        let begins = encode::instant(row.quarter.saturating_mul(MS_PER_QUARTER))?;
        Ok((begins, row.model, row.sums.try_into()?))
    }
}

impl TryFrom<PlanRow> for (PlanId, u64, Sums) {
    type Error = StoreError;

    fn try_from(row: PlanRow) -> Result<Self, StoreError> {
        let users = encode::count(row.user_count)?;
        Ok((PlanId(row.plan_id.into()), users, row.sums.try_into()?))
    }
}

impl TryFrom<UserCountRow> for (PlanId, UserStatus, u64) {
    type Error = StoreError;

    fn try_from(row: UserCountRow) -> Result<Self, StoreError> {
        let status = encode::user_status(&row.status)?;
        Ok((PlanId(row.plan_id.into()), status, encode::count(row.user_count)?))
    }
}

impl TryFrom<LastUsedRow> for (KeyId, Timestamp) {
    type Error = StoreError;

    fn try_from(row: LastUsedRow) -> Result<Self, StoreError> {
        Ok((KeyId(row.key_id.into()), encode::instant(row.last_at)?))
    }
}

impl TryFrom<UserUsageRow> for UserUsage {
    type Error = StoreError;

    /// Without the account.
    fn try_from(row: UserUsageRow) -> Result<Self, StoreError> {
        let (user, sums) = (UserId(row.user_id), row.sums.try_into()?);
        Ok(Self { user, account: None, model: row.model, sums })
    }
}

impl TryFrom<LatencyRow> for Latency {
    type Error = StoreError;

    fn try_from(row: LatencyRow) -> Result<Self, StoreError> {
        let counts = [
            row.took_50,
            row.took_100,
            row.took_250,
            row.took_500,
            row.took_1000,
            row.took_2500,
            row.took_5000,
            row.took_10000,
            row.took_30000,
            row.took_60000,
            row.took_300000,
            row.took_longer,
        ];
        let mut latency = Self::default();
        for (place, count) in counts.into_iter().enumerate() {
            latency.0[place] = encode::count(count)?;
        }
        Ok(latency)
    }
}
