//! `GET /api/v1/admin/usage`: what all users used in a month or a period, in pages or as CSV.
//!
//! Pages come from the daily rollup, user by user. Sums of models read all days of the period, which takes
//! a second for millions of rows, so they are cached: see [`StaleWhileRevalidate`].

use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::http::csv;
use crate::control::http::extract::Query;
use crate::control::http::pagination::{self, Page};
use crate::control::http::stale_cache::StaleWhileRevalidate;
use crate::control::openapi::errors::{AdminReaderRequired, InvalidQuery, Unavailable};
use crate::control::routes::usage::history::Format;
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use crate::control::views::usage::SumsView;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::day::Day;
use domain::id::{PlanId, UserId};
use futures_util::stream::{self, Stream};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store::reports::{Grouping, Sums, UsagePosition, UserUsage};
use system::clock;
use utoipa::{IntoParams, ToSchema};

/// Cached sums of models by period.
pub type ModelReports = StaleWhileRevalidate<(Day, Day), Vec<(String, Sums)>>;

/// Rows that CSV reads from the store at a time.
const CSV_ROWS: u32 = 1_000;

/// A cache for minutes, as the reports cover days.
#[must_use]
pub fn model_reports() -> ModelReports {
    StaleWhileRevalidate::new(Duration::from_secs(60), Duration::from_secs(15 * 60))
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// A month (`YYYY-MM`); default: this month (UTC), unless `from` or `to` is given.
    #[param(example = "2026-11")]
    pub month: Option<String>,
    /// First day, in place of a month; default: 29 days before `to`.
    #[param(format = Date)]
    pub from: Option<String>,
    /// Last day; default: today (UTC).
    #[param(format = Date)]
    pub to: Option<String>,
    /// What a row adds up: `user_model` (default), `user` or `model`.
    #[param(inline)]
    pub by: Option<UsageBy>,
    /// Rows per page; default 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// `json` (default) or `csv`, which has all rows.
    #[param(inline)]
    pub format: Option<Format>,
}

/// What a row adds up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    #[default]
    UserModel,
    User,
    Model,
}

/// Totals of a user, of a user and model, or of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageRow {
    /// `null` for a model.
    #[schema(required, value_type = Option<String>, format = Uuid)]
    pub user_id: Option<UserId>,
    /// `null` for a model, or if the account was deleted.
    #[schema(required)]
    pub email: Option<String>,
    #[schema(required)]
    pub username: Option<String>,
    /// The current plan.
    #[schema(required, value_type = Option<String>)]
    pub plan: Option<PlanId>,
    /// `null` for all models of a user.
    #[schema(required, example = "grok-4.3")]
    pub model: Option<String>,
    #[serde(flatten)]
    pub sums: SumsView,
}

/// The position of a row: a user, and after a dot the model.
struct UsageCursor(UsagePosition);

/// List the usage of all users
///
/// In order of registration, then of models; by model, the most tokens first. CSV has all rows. Sums of models
/// are cached: at most one minute old if requested regularly, otherwise up to 15 minutes.
#[utoipa::path(get, path = "/api/v1/admin/usage", tag = "Admin", security(("token" = [])),
    params(UsageQuery),
    responses((status = 200, content((Page<UsageRow> = "application/json"), (String = "text/csv"))),
        InvalidQuery, AdminReaderRequired, Unavailable))]
pub async fn usage(
    State(state): State<ControlState>,
    _reader: AdminReader,
    Query(query): Query<UsageQuery>,
) -> Result<Response, ApiError> {
    match query.format.unwrap_or_default() {
        Format::Json => Ok(Json(page(&state, query).await?).into_response()),
        Format::Csv => csv_of(&state, query).await,
    }
}

/// A page of what users used.
///
/// # Errors
/// [`ApiError::InvalidValue`] for a parameter.
pub async fn page(state: &ControlState, query: UsageQuery) -> Result<Page<UsageRow>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let period = period(&query)?;
    let after = pagination::cursor::<UsageCursor>(query.cursor.as_deref())?.map(|after| after.0);
    let Some(grouping) = query.by.unwrap_or_default().grouping() else {
        let rows = by_model(state, period).await?;
        return Ok(Page::single(rows));
    };
    let days = (period.from, period.to);
    let rows = state.store.usage_of_users(days, grouping, after.as_ref(), limit + 1).await?;
    let cursor = |row: &UserUsage| UsageCursor(row.position()).to_string();
    Ok(Page::of(rows, limit, cursor, UsageRow::from))
}

/// All rows as CSV. What is read from the store at a time is sent before more is read.
///
/// # Errors
/// [`ApiError::InvalidValue`] for a parameter.
pub async fn csv_of(state: &ControlState, query: UsageQuery) -> Result<Response, ApiError> {
    let period = period(&query)?;
    let after = pagination::cursor::<UsageCursor>(query.cursor.as_deref())?.map(|after| after.0);
    let head = || [CSV_HEAD.map(str::to_owned)].into_iter();
    let Some(grouping) = query.by.unwrap_or_default().grouping() else {
        let rows = by_model(state, period).await?;
        let text = csv::written(head().chain(rows.iter().map(UsageRow::fields)))?;
        return Ok(csv::reply(text.into(), FILE));
    };
    let export =
        Export { store: Arc::clone(&state.store), days: (period.from, period.to), grouping };
    // Before the head of the reply: a store that is down is a 503.
    let (first, following) = export.part(after, head()).await?;
    let body = Body::from_stream(export.parts(first, following));
    Ok(csv::reply(body, FILE))
}

const FILE: &str = "usage.csv";

/// The rows of a CSV reply, in parts.
struct Export {
    store: Arc<dyn Store>,
    days: (Day, Day),
    grouping: Grouping,
}

impl Export {
    /// The records of `head` and the rows after `after`, with the position of the next part.
    async fn part(
        &self,
        after: Option<UsagePosition>,
        head: impl Iterator<Item = [String; CSV_HEAD.len()]>,
    ) -> Result<(Bytes, Option<UsagePosition>), ApiError> {
        let rows =
            self.store.usage_of_users(self.days, self.grouping, after.as_ref(), CSV_ROWS).await?;
        let is_full = u32::try_from(rows.len()).is_ok_and(|count| count >= CSV_ROWS);
        let following = rows.last().filter(|_| is_full).map(UserUsage::position);
        let fields = rows.into_iter().map(|row| UsageRow::from(row).fields());
        Ok((csv::written(head.chain(fields))?.into(), following))
    }

    /// The first part and all others. A part that cannot be read cuts the reply off.
    fn parts(
        self,
        first: Bytes,
        following: Option<UsagePosition>,
    ) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'static {
        let start = (self, Some(first), following);
        stream::try_unfold(start, |(export, ready, following): (Self, _, _)| async move {
            if let Some(bytes) = ready {
                return Ok(Some((bytes, (export, None, following))));
            }
            let Some(after) = following else { return Ok(None) };
            let (bytes, following) = export.part(Some(after), std::iter::empty()).await?;
            Ok(Some((bytes, (export, None, following))))
        })
    }
}

async fn by_model(state: &ControlState, period: Period) -> Result<Vec<UsageRow>, ApiError> {
    let (Period { from, to }, store) = (period, Arc::clone(&state.store));
    let query = async move { store.totals_by_model(from, to).await };
    let models = state.model_reports.get((from, to), clock::instant(), query).await?;
    Ok(models.iter().map(|(model, sums)| UsageRow::of_model(model, *sums)).collect())
}

/// The month or the days that the query names.
fn period(query: &UsageQuery) -> Result<Period, ApiError> {
    let today = Day::at(clock::now(), &TimeZone::UTC);
    let has_days = query.from.is_some() || query.to.is_some();
    match &query.month {
        Some(_) if has_days => {
            Err(ApiError::invalid("month", "`month` and `from` or `to` exclude each other."))
        }
        None if has_days => Period::asked(query.from.as_deref(), query.to.as_deref(), today),
        month => Period::month(month.as_deref(), today),
    }
}

impl UsageBy {
    /// `None` for sums of models, over all users.
    fn grouping(self) -> Option<Grouping> {
        match self {
            Self::UserModel => Some(Grouping::UserAndModel),
            Self::User => Some(Grouping::User),
            Self::Model => None,
        }
    }
}

const CSV_HEAD: [&str; 14] = [
    "user_id",
    "email",
    "username",
    "plan",
    "model",
    "requests",
    "calls",
    "failed",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_micro_dollars",
];

impl UsageRow {
    fn of_model(model: &str, sums: Sums) -> Self {
        Self {
            user_id: None,
            email: None,
            username: None,
            plan: None,
            model: Some(model.to_owned()),
            sums: sums.into(),
        }
    }

    /// In the order of [`CSV_HEAD`].
    fn fields(&self) -> [String; CSV_HEAD.len()] {
        let words = |text: Option<&str>| text.map(csv::text_cell).unwrap_or_default();
        let SumsView { requests, calls, failed, tokens, cost_micro_dollars, .. } = &self.sums;
        [
            self.user_id.map(|id| id.to_string()).unwrap_or_default(),
            words(self.email.as_deref()),
            words(self.username.as_deref()),
            words(self.plan.as_ref().map(PlanId::as_str)),
            words(self.model.as_deref()),
            requests.to_string(),
            calls.to_string(),
            failed.to_string(),
            tokens.prompt.to_string(),
            tokens.cached.to_string(),
            tokens.completion.to_string(),
            tokens.reasoning.to_string(),
            tokens.total.to_string(),
            cost_micro_dollars.to_string(),
        ]
    }
}

impl From<UserUsage> for UsageRow {
    fn from(row: UserUsage) -> Self {
        let (email, username, plan) = match row.account {
            Some(user) => (Some(user.email), user.username, Some(user.plan)),
            None => (None, None, None),
        };
        let (user_id, model, sums) = (Some(row.user), row.model, row.sums.into());
        Self { user_id, email, username, plan, model, sums }
    }
}

impl std::fmt::Display for UsageCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.model {
            None => self.0.user.fmt(f),
            Some(model) => write!(f, "{}.{model}", self.0.user),
        }
    }
}

impl FromStr for UsageCursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (user, model) = match text.split_once('.') {
            Some((user, model)) => (user, Some(model.to_owned())),
            None => (text, None),
        };
        let user = user.parse().map_err(|_| ())?;
        Ok(Self(UsagePosition { user, model }))
    }
}
