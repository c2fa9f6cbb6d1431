//! Identities at the sign-in provider that are linked to the logged-in user. They are linked in the console, where a
//! browser can be sent to the provider.

use crate::control::api_error::ApiError;
use crate::control::auth::{AttemptTime, CurrentUser};
use crate::control::external_login;
use crate::control::http::extract::{JsonBody, PathParam, PreferredLanguage};
use crate::control::http::pagination::Page;
use crate::control::openapi::errors::{
    IdentityNotFound, InvalidBody, LoginRequired, OnlyWayIn, RateLimited, Unavailable,
    WrongPassword,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Code, Password};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::UserId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::external_identities::ExternalIdentity;
use utoipa::ToSchema;
use uuid::Uuid;

/// An identity that can log in to the account.
#[derive(Serialize, ToSchema)]
pub struct IdentityView {
    pub id: Uuid,
    /// The sign-in provider.
    #[schema(example = "https://accounts.google.com")]
    pub issuer: String,
    /// The provider's name for the person.
    #[schema(example = "110169484474386276334")]
    pub subject: String,
    /// The e-mail address that the provider reported when the identity was linked.
    #[schema(required, example = "ada@example.com")]
    pub email: Option<String>,
    pub linked_at: Timestamp,
    /// The last sign-in; `null` if there was none.
    #[schema(required)]
    pub last_used_at: Option<Timestamp>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlinkForm {
    current_password: Password,
    /// Required if the account has a second factor.
    #[serde(default)]
    code: Option<Code>,
}

/// List your identities at the sign-in provider
///
/// Where the operator has configured one, its button on the log-in page of the console signs you in, and the page of
/// your account links it. An account created this way has no password until you set one there.
#[utoipa::path(get, path = "/api/v1/users/identities", tag = "Accounts", security(("token" = [])),
    responses((status = 200, body = Page<IdentityView>), LoginRequired, Unavailable))]
pub async fn list(
    State(state): State<ControlState>,
    current: CurrentUser,
) -> Result<Json<Page<IdentityView>>, ApiError> {
    Ok(Json(Page::single(of_user(&state, current.user.id).await?)))
}

/// Unlink an identity
///
/// It can no longer log in to the account. Requires the current password.
#[utoipa::path(post, path = "/api/v1/users/identities/{id}/unlink", tag = "Accounts",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the identity")),
    request_body = UnlinkForm,
    responses((status = 204, description = "The identity is unlinked"), InvalidBody, LoginRequired, WrongPassword,
        IdentityNotFound, OnlyWayIn, RateLimited, Unavailable))]
pub async fn unlink(
    State(state): State<ControlState>,
    current: CurrentUser,
    PreferredLanguage(language): PreferredLanguage,
    PathParam(id): PathParam,
    JsonBody(form): JsonBody<UnlinkForm>,
) -> Result<StatusCode, ApiError> {
    let proof = (&*form.current_password.0, form.code.as_ref().map(|code| &*code.0));
    let session = (&current.user, current.session);
    state.identity.confirm(&*state.store, session, proof, AttemptTime::now()).await?;
    external_login::unlink(&state, &current, &id, language).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The identities of a user, the oldest first.
pub async fn of_user(state: &ControlState, user: UserId) -> Result<Vec<IdentityView>, ApiError> {
    let identities = state.store.identities_of(user).await?;
    Ok(identities.into_iter().map(IdentityView::from).collect())
}

impl From<ExternalIdentity> for IdentityView {
    fn from(identity: ExternalIdentity) -> Self {
        Self {
            id: identity.id,
            issuer: identity.issuer,
            subject: identity.subject,
            email: identity.email,
            linked_at: identity.linked_at,
            last_used_at: identity.used_at,
        }
    }
}
