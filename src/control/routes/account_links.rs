//! Verifying an e-mail address, resetting a forgotten password, accepting an invitation.

use crate::control::account_links as links;
use crate::control::api_error::ApiError;
use crate::control::auth::CurrentUser;
use crate::control::http::extract::{JsonBody, PreferredLanguage};
use crate::control::http::middleware::RequestContext;
use crate::control::openapi::errors::{
    AlreadyVerified, InvalidBody, InvalidLink, LoginRequired, MailUnavailable, RateLimited,
    Unavailable, UsernameTaken,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Email, NewPassword, Username};
use crate::control::views::user::UserView;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailVerification {
    /// The token of the link in the mail.
    #[schema(example = "lt-kx-...")]
    token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgottenPassword {
    email: Email,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordReset {
    /// The token of the link in the mail.
    #[schema(example = "lt-kx-...")]
    token: String,
    new_password: NewPassword,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationAcceptance {
    /// The token of the invitation link.
    #[schema(example = "lt-kx-...")]
    token: String,
    password: NewPassword,
    /// Must be unique.
    #[schema(inline = false)]
    username: Option<Username>,
}

/// Request a verification mail
///
/// Mails a link that verifies your e-mail address. It is valid for 24 hours; an earlier one ends.
#[utoipa::path(post, path = "/api/v1/users/verify-email/send", tag = "Accounts",
    security(("token" = [])),
    responses((status = 202, description = "The mail will be sent"), LoginRequired, AlreadyVerified, RateLimited,
        MailUnavailable))]
pub async fn send_verification(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    current: CurrentUser,
) -> Result<StatusCode, ApiError> {
    links::send_verification(&state, &current.user, (context.address, language)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Verify an e-mail address
///
/// Uses the link of a verification mail.
#[utoipa::path(post, path = "/api/v1/users/verify-email", tag = "Accounts",
    request_body = EmailVerification,
    responses((status = 200, body = UserView), InvalidBody, InvalidLink, Unavailable))]
pub async fn verify_email(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    JsonBody(form): JsonBody<EmailVerification>,
) -> Result<Json<UserView>, ApiError> {
    let user = links::verify_email(&state, &form.token, &context).await?;
    UserView::of(&state, user).await.map(Json)
}

/// Request a password reset
///
/// Mails a link that sets a new password, if the address belongs to an account. The reply is the same if not.
#[utoipa::path(post, path = "/api/v1/users/forgot-password", tag = "Accounts",
    request_body = ForgottenPassword,
    responses((status = 202, description = "If the account exists, the mail will be sent"), InvalidBody, RateLimited,
        MailUnavailable))]
pub async fn forgot_password(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<ForgottenPassword>,
) -> Result<StatusCode, ApiError> {
    links::forgot_password(&state, &form.email.0, (context.address, language))?;
    Ok(StatusCode::ACCEPTED)
}

/// Reset a password
///
/// Uses the link of a password reset mail. Ends all sessions; log in with the new password.
#[utoipa::path(post, path = "/api/v1/users/reset-password", tag = "Accounts",
    request_body = PasswordReset,
    responses((status = 204, description = "The password is set"), InvalidBody, InvalidLink, Unavailable))]
pub async fn reset_password(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<PasswordReset>,
) -> Result<StatusCode, ApiError> {
    let new = (&*form.new_password.0, language);
    links::reset_password(&state, &form.token, new, &context).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Accept an invitation
///
/// Uses an invitation link to set your password. Log in afterwards.
#[utoipa::path(post, path = "/api/v1/users/accept-invitation", tag = "Accounts",
    request_body = InvitationAcceptance,
    responses((status = 200, body = UserView), InvalidBody, InvalidLink, UsernameTaken, Unavailable))]
pub async fn accept_invitation(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<InvitationAcceptance>,
) -> Result<Json<UserView>, ApiError> {
    let chosen = (&*form.password.0, form.username.map(|name| name.0));
    let user = links::accept_invitation(&state, &form.token, chosen, language, &context).await?;
    UserView::of(&state, user).await.map(Json)
}
