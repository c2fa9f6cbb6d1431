//! `GET /api/v1/admin/audit`: the audit log.

use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::Query;
use crate::control::http::pagination::{self, Page};
use crate::control::openapi::errors::{AdminRequired, InvalidQuery, Unavailable};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::audit::{AuditEntry, AuditFilter};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// `user:ID`, `operator` or `gateway`.
    actor: Option<String>,
    /// `user:ID`, `key:ID`, `plan:ID`, `upgrade:ID` or `config`.
    #[param(example = "plan:leveler")]
    subject: Option<String>,
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
    responses((status = 200, body = Page<AuditView>), InvalidQuery, AdminRequired, Unavailable))]
pub async fn audit(
    State(state): State<ControlState>,
    _admin: Admin,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditView>>, ApiError> {
    let limit = pagination::limit(query.limit)?;
    let before = pagination::cursor::<Uuid>(query.cursor.as_deref())?;
    let filter = AuditFilter { actor: query.actor, subject: query.subject };
    let rows = state.store.audit(&filter, before, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |row| row.id.to_string(), view)))
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
