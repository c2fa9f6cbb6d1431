//! `GET /api/v1/admin/audit`: the audit log.

use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::http::extract::Query;
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{AdminReaderRequired, InvalidQuery, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::period;
use axum::Json;
use axum::extract::State;
use domain::id::UserId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::audit::{AuditEntry, AuditFilter};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// `user:ID`, `operator` or `gateway`.
    actor: Option<String>,
    /// `user:ID`, `key:ID`, `plan:ID`, `upgrade:ID`, `announcement:ID`, `ledger` or `config`.
    #[param(example = "plan:leveler")]
    subject: Option<String>,
    /// Id of a user: the same as the subject `user:ID`.
    #[param(format = Uuid)]
    user: Option<String>,
    #[param(example = "plan.change")]
    action: Option<String>,
    /// First day (UTC).
    #[param(format = Date, example = "2026-09-01")]
    from: Option<String>,
    /// Last day (UTC).
    #[param(format = Date, example = "2026-09-30")]
    to: Option<String>,
    /// Entries per page; default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// An entry of the audit log.
#[derive(Serialize, ToSchema)]
pub struct AuditView {
    id: Uuid,
    at: Timestamp,
    #[schema(example = "operator")]
    actor: String,
    #[schema(example = "plan.change")]
    action: String,
    #[schema(example = "plan:leveler")]
    subject: String,
    /// State before the change; `null` if there was none.
    #[schema(required, value_type = Option<Object>)]
    before: Option<Value>,
    /// State after the change; `null` if there is none.
    #[schema(required, value_type = Option<Object>)]
    after: Option<Value>,
    /// The `x-request-id` of the request that made the change.
    #[schema(required)]
    request_id: Option<String>,
}

/// List audit log entries
///
/// Newest first.
#[utoipa::path(get, path = "/api/v1/admin/audit", tag = "Admin", security(("token" = [])),
    params(AuditQuery),
    responses((status = 200, body = Page<AuditView>), InvalidQuery, AdminReaderRequired, Unavailable))]
pub async fn audit(
    State(state): State<ControlState>,
    _reader: AdminReader,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditView>>, ApiError> {
    page(&state, query).await.map(Json)
}

/// A page of the log.
///
/// # Errors
/// [`ApiError::InvalidValue`] for a parameter.
pub async fn page(state: &ControlState, query: AuditQuery) -> Result<Page<AuditView>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let before = pagination::cursor::<Uuid>(query.cursor.as_deref())?;
    let first = period::day("from", query.from.as_deref())?;
    let last = period::day("to", query.to.as_deref())?;
    let filter = AuditFilter {
        actor: query.actor,
        subject: subject(query.subject, query.user)?,
        action: query.action,
        from: first.map(|day| day.starts_at(&TimeZone::UTC)),
        until: last.map(|day| day.ends_at(&TimeZone::UTC)),
    };
    let rows = state.store.audit(&filter, before, limit + 1).await?;
    Ok(Page::of(rows, limit, |row| row.id.to_string(), view))
}

/// The subject that both parameters name.
fn subject(subject: Option<String>, user: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(user) = user else { return Ok(subject) };
    let named: UserId =
        user.parse().map_err(|_| ApiError::invalid("user", "`user` must be the id of a user."))?;
    match subject {
        None => Ok(Some(format!("user:{named}"))),
        Some(_) => Err(ApiError::invalid("user", "`user` and `subject` exclude each other.")),
    }
}

fn view(entry: AuditEntry) -> AuditView {
    AuditView {
        id: entry.id,
        at: entry.at,
        actor: entry.actor,
        action: entry.action,
        subject: entry.subject,
        before: entry.before,
        after: entry.after,
        request_id: entry.request,
    }
}
