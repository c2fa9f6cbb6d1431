//! `POST /api/v1/admin/config/reload`: what SIGHUP does, with an answer.

use crate::account::by::By;
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::openapi::errors::{AdminRequired, ReloadFailed, Unavailable};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

/// A wish for the configuration to be read again, and where to say what came of it: the changed settings
/// that wait for a restart, or why the old one stays. Whoever grants it notes it in the audit log.
pub struct ReloadRequest {
    /// Who wishes it.
    pub by: By,
    pub answer: oneshot::Sender<Result<Vec<&'static str>, String>>,
}
/// Where such wishes go.
pub type Reloads = mpsc::Sender<ReloadRequest>;

/// The configuration was read again.
#[derive(Serialize, ToSchema)]
pub struct Reloaded {
    #[schema(example = "reloaded")]
    status: &'static str,
    /// Settings that have changed and are not in force before a restart.
    #[schema(example = json!(["[accounts]"]))]
    waiting_for_restart: Vec<&'static str>,
}

/// Reload the configuration
///
/// Upstreams, models, plans, limits and the log filter, without ending a stream. What else has changed waits
/// for a restart and is named. A bad file changes nothing.
#[utoipa::path(post, path = "/api/v1/admin/config/reload", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = Reloaded), AdminRequired, ReloadFailed, Unavailable))]
pub async fn reload(
    State(state): State<ControlState>,
    admin: Admin,
) -> Result<Json<Reloaded>, ApiError> {
    let (answer, answered) = oneshot::channel();
    let not_here = || ApiError::ReloadFailed("this gateway was not started to reload.".to_owned());
    let wish = ReloadRequest { by: admin.by, answer };
    state.instance.reloads.send(wish).await.map_err(|_| not_here())?;
    let answer = answered.await.map_err(|_| not_here())?;
    let waiting_for_restart = answer.map_err(ApiError::ReloadFailed)?;
    Ok(Json(Reloaded { status: "reloaded", waiting_for_restart }))
}
