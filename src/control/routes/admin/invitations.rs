//! Adds users without a password, and makes the links by which they set one.

use crate::control::account_links::{self as links, Invitation};
use crate::control::api_error::ApiError;
use crate::control::auth::Admin;
use crate::control::http::extract::{JsonBody, PathParam, PreferredLanguage};
use crate::control::openapi::errors::{
    AdminRequired, InvalidBody, InvalidNewUser, InvalidUserChange, MailOff, PlanNotFound,
    Unavailable, UserNotFound,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{NewEmail, Username};
use crate::control::views::user::UserView;
use crate::mail::message::Language;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::PlanId;
use domain::user::{Role, User};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::NewUser;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUserForm {
    pub email: NewEmail,
    /// Must be unique.
    #[schema(inline = false)]
    pub username: Option<Username>,
    /// Default: `accounts.default_plan`, or the first plan.
    #[serde(default)]
    #[schema(example = "log-min")]
    pub plan_id: Option<String>,
    /// Default: `user`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(user|auditor|admin)$", example = "user")]
    pub role: Option<Role>,
    /// True: the invitation link is mailed to the user as well.
    #[serde(default)]
    pub send_mail: bool,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationForm {
    /// True: the link is mailed to the user as well.
    #[serde(default)]
    send_mail: bool,
}

/// An invitation link. It cannot be shown again.
#[derive(Serialize, ToSchema)]
pub struct InvitationView {
    /// Path of the link on this gateway.
    #[schema(example = "/console/invitation?token=lt-kx-...")]
    path: String,
    /// The whole link; `null` if `public_url` is not configured.
    #[schema(required, example = "https://api.example.com/console/invitation?token=lt-kx-...")]
    url: Option<String>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// True if it is mailed to the user. False as well if too many mails are waiting for the mail server.
    mailed: bool,
}

/// A new user with an invitation link.
#[derive(Serialize, ToSchema)]
pub struct InvitedUser {
    user: UserView,
    invitation: InvitationView,
}

/// Add a user
///
/// The user has no password and no key yet, and sets a password by the invitation link, which is valid for 7 days.
#[utoipa::path(post, path = "/api/v1/admin/users", tag = "Admin", security(("token" = [])),
    request_body = NewUserForm,
    responses((status = 201, body = InvitedUser), InvalidBody, AdminRequired, PlanNotFound, InvalidNewUser,
        MailOff, Unavailable))]
pub async fn add(
    State(state): State<ControlState>,
    admin: Admin,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<NewUserForm>,
) -> Result<(StatusCode, Json<InvitedUser>), ApiError> {
    let (user, invitation) = add_user(&state, &admin, form, language).await?;
    let invitation = InvitationView::of(invitation);
    let user = UserView::of(&state, user).await?;
    Ok((StatusCode::CREATED, Json(InvitedUser { user, invitation })))
}

/// Adds a user without a password, and makes an invitation link. Mail is in `language`.
pub async fn add_user(
    state: &ControlState,
    admin: &Admin,
    form: NewUserForm,
    language: Language,
) -> Result<(User, Invitation), ApiError> {
    // Before the user is added, who would be left without a mail.
    if form.send_mail && !state.mailer.is_on() {
        return Err(ApiError::MailNotConfigured);
    }
    let new = NewUser {
        email: form.email.0,
        username: form.username.map(|name| name.0),
        password_hash: None,
        email_verified: false,
        role: form.role.unwrap_or(Role::User),
        plan: plan(state, form.plan_id.as_deref()).await?,
        created_at: admin.by.at,
    };
    let user = state.store.add_user(&new, &admin.by).await?;
    let mail_in = form.send_mail.then_some(language);
    let invitation = links::invite(state, &user, mail_in, &admin.by).await?;
    Ok((user, invitation))
}

/// Invite a user
///
/// Makes a new link by which the user sets a password; an earlier one ends. Also for a user who forgot the password.
#[utoipa::path(post, path = "/api/v1/admin/users/{id}/invitation", tag = "Admin",
    security(("token" = [])), params(("id" = String, Path, description = "Id of the user")),
    request_body = InvitationForm,
    responses((status = 201, body = InvitationView), InvalidBody, AdminRequired, UserNotFound, InvalidUserChange,
        MailOff, Unavailable))]
pub async fn invite(
    State(state): State<ControlState>,
    admin: Admin,
    PathParam(id): PathParam,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<InvitationForm>,
) -> Result<(StatusCode, Json<InvitationView>), ApiError> {
    let user = state.user(&id).await?;
    if user.id == admin.user.id {
        return Err(ApiError::OwnAccountLockout);
    }
    let mail_in = form.send_mail.then_some(language);
    let invitation = links::invite(&state, &user, mail_in, &admin.by).await?;
    Ok((StatusCode::CREATED, Json(InvitationView::of(invitation))))
}

/// The named plan, or the one of new users; it must take new users.
async fn plan(state: &ControlState, id: Option<&str>) -> Result<PlanId, ApiError> {
    let id = match (id, &state.identity.accounts.default_plan) {
        (Some(id), _) => id,
        (None, Some(plan)) => plan.as_str(),
        (None, None) => return Err(ApiError::NotFound("plan")),
    };
    let plan = state.plan(id).await?;
    if plan.is_open_to(None) { Ok(plan.id) } else { Err(ApiError::RetiredPlan) }
}

impl InvitationView {
    fn of(invitation: Invitation) -> Self {
        let Invitation { link, is_mailed, .. } = invitation;
        Self { path: link.path, url: link.url, expires_at: link.expires_at, mailed: is_mailed }
    }
}
