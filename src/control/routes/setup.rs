//! Creates the first admin by the link in the gateway's log.

use super::session::{LoggedIn, logged_in};
use crate::control::account_links as links;
use crate::control::api_error::ApiError;
use crate::control::http::extract::JsonBody;
use crate::control::http::middleware::RequestContext;
use crate::control::openapi::errors::{FirstAdminExists, InvalidBody, InvalidLink, Unavailable};
use crate::control::state::ControlState;
use crate::control::views::fields::{NewEmail, NewPassword};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The token of the link that the gateway logs when it starts without an admin.
    #[schema(example = "su-kx-...")]
    token: String,
    email: NewEmail,
    password: NewPassword,
}

/// Create the first admin
///
/// Uses the link that the gateway logs when it starts without an admin, and logs in.
#[utoipa::path(post, path = "/api/v1/setup", tag = "Accounts", request_body = Setup,
    responses((status = 201, body = LoggedIn), InvalidBody, InvalidLink, FirstAdminExists, Unavailable))]
pub async fn setup(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    JsonBody(form): JsonBody<Setup>,
) -> Result<(StatusCode, Json<LoggedIn>), ApiError> {
    let admin = (form.email.0, &*form.password.0);
    let created = links::create_first_admin(&state, &form.token, admin, &context).await?;
    Ok((StatusCode::CREATED, Json(logged_in(&state, created, context.client()).await?)))
}
