//! One's own account.

use super::plans::{LimitsView, PlanView};
use super::session::{LoggedIn, logged_in};
use crate::account::id::{PlanId, UserId};
use crate::account::plan::Plan;
use crate::account::user::{Role, User, UserStatus};
use crate::clock;
use crate::control::api_error::ApiError;
use crate::control::auth::{Reader, SignedIn};
use crate::control::http::extract::Form;
use crate::control::openapi::errors::{
    Away, BadBody, NotReader, NotSignedIn, Taken, TooOften, WrongPassword,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Email, NewPassword, Password, Username, present};
use crate::store::UserChange;
use crate::store::sessions::Credentials;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A user, with the plan and the limits in force.
#[derive(Serialize, ToSchema)]
pub struct UserView {
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    #[schema(example = "ada@example.com")]
    email: String,
    #[schema(required, example = "ada")]
    username: Option<String>,
    #[schema(value_type = String, example = "user")]
    role: Role,
    #[schema(value_type = String, example = "active")]
    status: UserStatus,
    plan: PlanView,
    /// The plan's, but for what an admin set for this user.
    limits: LimitsView,
    created_at: Timestamp,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileChange {
    /// `null` takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Username>)]
    username: Option<Option<Username>>,
    /// Needs `current_password`.
    #[serde(default)]
    email: Option<Email>,
    #[serde(default)]
    current_password: Option<Password>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    current_password: Password,
    new_password: NewPassword,
}

/// Your account
#[utoipa::path(get, path = "/api/v1/users/profile", tag = "Accounts",
    security(("token" = []), ("key" = [])),
    responses((status = 200, body = UserView), NotReader, Away))]
pub async fn show(
    State(state): State<ControlState>,
    reader: Reader,
) -> Result<Json<UserView>, ApiError> {
    let user = match reader {
        Reader::User(user) => *user,
        Reader::Key(caller) => state.store.user(caller.user).await?.ok_or(ApiError::UnknownKey)?,
    };
    UserView::of(&state, user).await.map(Json)
}

/// Change your account
///
/// Role, plan and limits are not yours to set.
#[utoipa::path(patch, path = "/api/v1/users/profile", tag = "Accounts", security(("token" = [])),
    request_body = ProfileChange,
    responses((status = 200, body = UserView), BadBody, NotSignedIn, WrongPassword, Taken, TooOften, Away))]
pub async fn change(
    State(state): State<ControlState>,
    who: SignedIn,
    Form(form): Form<ProfileChange>,
) -> Result<Json<UserView>, ApiError> {
    if let Some(email) = &form.email
        && email.0 != who.user.email
    {
        let password = form.current_password.as_ref().ok_or_else(|| {
            ApiError::invalid("current_password", "A new e-mail needs the current password.")
        })?;
        let now = clock::instant();
        state
            .identity
            .confirm(&*state.store, (&who.user, who.bearer.session), &password.0, now)
            .await?;
    }
    state.identity.may_change(who.user.id, clock::instant())?;
    let change = UserChange {
        email: form.email.map(|email| email.0),
        username: form.username.map(|name| name.map(|name| name.0)),
        ..UserChange::default()
    };
    let changed = state.store.change_user(who.user.id, &change, &who.by).await?;
    UserView::of(&state, changed.ok_or(ApiError::BadToken)?).await.map(Json)
}

/// Change your password
///
/// Ends all your sessions and begins a new one.
#[utoipa::path(post, path = "/api/v1/users/change-password", tag = "Accounts",
    security(("token" = [])), request_body = PasswordChange,
    responses((status = 200, body = LoggedIn), BadBody, NotSignedIn, WrongPassword, TooOften, Away))]
pub async fn change_password(
    State(state): State<ControlState>,
    who: SignedIn,
    Form(form): Form<PasswordChange>,
) -> Result<Json<LoggedIn>, ApiError> {
    let identity = &state.identity;
    let now = clock::instant();
    identity
        .confirm(&*state.store, (&who.user, who.bearer.session), &form.current_password.0, now)
        .await?;
    let password_hash = Some(identity.passwords.hash(&form.new_password.0).await?);
    let change = UserChange { password_hash: password_hash.clone(), ..UserChange::default() };
    let changed = state.store.change_user(who.user.id, &change, &who.by).await?;
    let user = changed.ok_or(ApiError::BadToken)?;
    logged_in(&state, Credentials { user, password_hash }).await.map(Json)
}

impl UserView {
    /// Of `user`, with its plan as it stands.
    pub async fn of(state: &ControlState, user: User) -> Result<Self, ApiError> {
        let plan = plan_of(state, &user.plan).await?;
        Ok(Self::new(user, plan))
    }

    /// Of `user`, who has `plan`.
    #[must_use]
    pub fn new(user: User, plan: Plan) -> Self {
        let limits = LimitsView::of(user.overrides.over(plan.limits.clone()));
        Self {
            id: user.id,
            email: user.email,
            username: user.username,
            role: user.role,
            status: user.status,
            plan: PlanView::of(plan),
            limits,
            created_at: user.created_at,
        }
    }
}

/// The plan that a user has; the store keeps it as long as one does.
pub async fn plan_of(state: &ControlState, plan: &PlanId) -> Result<Plan, ApiError> {
    state.store.plan(plan).await?.ok_or(ApiError::Internal)
}
