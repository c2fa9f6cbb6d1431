//! `POST /api/v1/admin/config/reload`: what SIGHUP does, with an answer.

use crate::control::ControlState;
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::openapi::{Away, NotAdmin, NotReloaded};
use crate::store::audit::Change;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

/// A wish for the configuration to be read again, and where to say what came of it: nothing, or why
/// the old one stays.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;
/// Where such wishes go.
pub type Reloads = mpsc::Sender<ReloadRequest>;

/// The configuration was read again.
#[derive(Serialize, ToSchema)]
pub struct Reloaded {
    #[schema(example = "reloaded")]
    status: &'static str,
}

/// Reload the configuration
///
/// Upstreams, models, plans, limits and the log filter, without ending a stream. A bad file changes
/// nothing.
#[utoipa::path(post, path = "/api/v1/admin/config/reload", tag = "Admin",
    security(("token" = [])),
    responses((status = 200, body = Reloaded), NotAdmin, NotReloaded, Away))]
pub async fn reload(
    State(state): State<ControlState>,
    admin: Admin,
) -> Result<Json<Reloaded>, ApiError> {
    let (answer, answered) = oneshot::channel();
    let not_here = || ApiError::NotReloaded("this gateway was not started to reload.".to_owned());
    state.instance.reloads.send(answer).await.map_err(|_| not_here())?;
    answered.await.map_err(|_| not_here())?.map_err(ApiError::NotReloaded)?;
    let change =
        Change { action: "config.reload", subject: "config".to_owned(), before: None, after: None };
    state.store.note(&change, &admin.by).await?;
    Ok(Json(Reloaded { status: "reloaded" }))
}
