//! `POST /api/v1/admin/config/reload`: the same as SIGHUP, with a reply.

use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::openapi::errors::{AdminRequired, ReloadFailed, Unavailable};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use domain::actor::AuditContext;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

/// A request to reload the configuration. The reply is the list of changed settings that require a
/// restart, or the reason why the previous configuration stays. The receiver writes the audit entry.
pub struct ReloadRequest {
    /// The admin who requests it.
    pub by: AuditContext,
    pub reply: oneshot::Sender<Result<Vec<&'static str>, String>>,
}
/// The channel to the task that reloads.
pub type Reloads = mpsc::Sender<ReloadRequest>;

/// The configuration was reloaded.
#[derive(Serialize, ToSchema)]
pub struct Reloaded {
    #[schema(example = "reloaded")]
    status: &'static str,
    /// Changed settings that take effect only after a restart.
    #[schema(example = json!(["[accounts]"]))]
    waiting_for_restart: Vec<&'static str>,
}

/// Reload the configuration
///
/// Reloads upstreams, models, plans, limits and the log filter without ending streams. Other changed settings
/// require a restart and are listed in the reply. An invalid file changes nothing.
#[utoipa::path(post, path = "/api/v1/admin/config/reload", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = Reloaded), AdminRequired, ReloadFailed, Unavailable))]
pub async fn reload(
    State(state): State<ControlState>,
    admin: Admin,
) -> Result<Json<Reloaded>, ApiError> {
    let waiting_for_restart = reload_config(&state, admin.by).await?;
    Ok(Json(Reloaded { status: "reloaded", waiting_for_restart }))
}

/// Reloads the configuration. Returns the changed settings that take effect only after a restart.
pub async fn reload_config(
    state: &ControlState,
    by: AuditContext,
) -> Result<Vec<&'static str>, ApiError> {
    let (reply, outcome) = oneshot::channel();
    let unsupported =
        || ApiError::ReloadFailed("this process cannot reload its configuration.".to_owned());
    let request = ReloadRequest { by, reply };
    state.instance.reloads.send(request).await.map_err(|_| unsupported())?;
    let outcome = outcome.await.map_err(|_| unsupported())?;
    outcome.map_err(ApiError::ReloadFailed)
}
