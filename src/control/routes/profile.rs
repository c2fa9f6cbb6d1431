//! The account of the logged-in user.

use super::session::{LoggedIn, logged_in};
use crate::control::account_links;
use crate::control::api_error::ApiError;
use crate::control::auth::verified_user::VerifiedUser;
use crate::control::auth::{AnyCredential, AttemptTime, CurrentUser};
use crate::control::http::extract::{JsonBody, PreferredLanguage};
use crate::control::http::middleware::RequestContext;
use crate::control::openapi::errors::{
    AlreadyExists, InvalidBody, LoginRequired, RateLimited, Unauthenticated, Unavailable,
    WrongPassword,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Code, NewEmail, NewPassword, Password, Username, present};
use crate::control::views::user::UserView;
use crate::mail::SecurityEvent;
use crate::mail::message::Language;
use axum::extract::State;
use axum::{Extension, Json};
use domain::user::User;
use serde::Deserialize;
use std::net::IpAddr;
use store::UserChange;
use store::sessions::Credentials;
use system::clock;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileChange {
    /// `null` removes the username.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Username>)]
    pub username: Option<Option<Username>>,
    /// Requires `current_password`.
    #[serde(default)]
    pub email: Option<NewEmail>,
    #[serde(default)]
    pub current_password: Option<Password>,
    /// Required to change the e-mail address if the account has a second factor.
    #[serde(default)]
    pub code: Option<Code>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    pub current_password: Password,
    /// Required if the account has a second factor.
    #[serde(default)]
    pub code: Option<Code>,
    pub new_password: NewPassword,
}

/// Get your account
#[utoipa::path(get, path = "/api/v1/users/profile", tag = "Accounts",
    security(("token" = []), ("key" = [])),
    responses((status = 200, body = UserView), Unauthenticated, Unavailable))]
pub async fn show(
    State(state): State<ControlState>,
    credential: AnyCredential,
) -> Result<Json<UserView>, ApiError> {
    let user = match credential {
        AnyCredential::User(user) => *user,
        AnyCredential::Key(caller) => {
            state.store.user(caller.user).await?.ok_or(ApiError::InvalidKey)?
        }
    };
    UserView::of(&state, user).await.map(Json)
}

/// Change your account
///
/// Role, plan and limits can only be changed by an admin. Another e-mail address is not verified; the former one
/// gets a notice.
#[utoipa::path(patch, path = "/api/v1/users/profile", tag = "Accounts", security(("token" = [])),
    request_body = ProfileChange,
    responses((status = 200, body = UserView), InvalidBody, LoginRequired, WrongPassword, AlreadyExists, RateLimited, Unavailable))]
pub async fn change(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    current: CurrentUser,
    JsonBody(form): JsonBody<ProfileChange>,
) -> Result<Json<UserView>, ApiError> {
    let reader = (context.address, language);
    let user = change_own(&state, &current, form, reader).await?;
    UserView::of(&state, user).await.map(Json)
}

/// Changes the account of the logged-in user, who is at this address and reads mails in this language.
pub async fn change_own(
    state: &ControlState,
    current: &CurrentUser,
    form: ProfileChange,
    reader: (IpAddr, Language),
) -> Result<User, ApiError> {
    if let Some(email) = &form.email
        && email.0 != current.user.email
    {
        let password = form.current_password.as_ref().ok_or_else(|| {
            ApiError::invalid(
                "current_password",
                "`current_password` is required to change the e-mail address.",
            )
        })?;
        let proof = (&*password.0, form.code.as_ref().map(|code| &*code.0));
        let current = (&current.user, current.session);
        state.identity.confirm(&*state.store, current, proof, AttemptTime::now()).await?;
    }
    state.identity.may_change(current.user.id, clock::instant())?;
    let change = UserChange {
        email: form.email.map(|email| email.0),
        username: form.username.map(|name| name.map(|name| name.0)),
        secret: Some(state.identity.secret().clone()),
        ..UserChange::default()
    };
    let changed = state.store.change_user(current.user.id, &change, &current.by).await?;
    let changed = changed.ok_or(ApiError::InvalidToken)?;
    account_links::after_change(state, &current.user, &changed, reader).await;
    Ok(changed)
}

/// Change your password
///
/// Ends all your sessions and begins a new one.
#[utoipa::path(post, path = "/api/v1/users/change-password", tag = "Accounts",
    security(("token" = [])), request_body = PasswordChange,
    responses((status = 200, body = LoggedIn), InvalidBody, LoginRequired, WrongPassword, RateLimited, Unavailable))]
pub async fn change_password(
    State(state): State<ControlState>,
    current: CurrentUser,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<PasswordChange>,
) -> Result<Json<LoggedIn>, ApiError> {
    let checked = replace_password(&state, &current, form, language).await?;
    logged_in(&state, checked, context.client()).await.map(Json)
}

/// Sets the password of a user who has none, such as one who signs in at a provider, and who was confirmed just now.
/// Ends all sessions. Returns what a new one begins with.
pub async fn set_first_password(
    state: &ControlState,
    current: &CurrentUser,
    (new_password, code): (&str, Option<&str>),
    language: Language,
) -> Result<VerifiedUser, ApiError> {
    let (identity, user) = (&state.identity, current.user.id);
    let found = state.store.credentials_of(user).await?.ok_or(ApiError::InvalidToken)?;
    if found.password_hash.is_some() {
        return Err(ApiError::password_required());
    }
    identity.may_change(user, clock::instant())?;
    let session = (&current.user, current.session);
    let has_passed_factor =
        identity.confirm_code(&*state.store, session, code, AttemptTime::now()).await?;
    change_password_to(state, current, (new_password, has_passed_factor), language).await
}

/// Changes the password of the logged-in user, which ends all sessions. Returns what a new one begins with.
pub async fn replace_password(
    state: &ControlState,
    current: &CurrentUser,
    form: PasswordChange,
    language: Language,
) -> Result<VerifiedUser, ApiError> {
    let identity = &state.identity;
    let proof = (&*form.current_password.0, form.code.as_ref().map(|code| &*code.0));
    let session = (&current.user, current.session);
    let confirmed = identity.confirm(&*state.store, session, proof, AttemptTime::now()).await;
    let new = (&*form.new_password.0, confirmed?);
    change_password_to(state, current, new, language).await
}

async fn change_password_to(
    state: &ControlState,
    current: &CurrentUser,
    (new_password, has_passed_factor): (&str, bool),
    language: Language,
) -> Result<VerifiedUser, ApiError> {
    let password_hash = Some(state.identity.passwords.hash(new_password).await?);
    let change = UserChange { password_hash: password_hash.clone(), ..UserChange::default() };
    let changed = state.store.change_user(current.user.id, &change, &current.by).await?;
    let user = changed.ok_or(ApiError::InvalidToken)?;
    account_links::notify(state, &user, language, SecurityEvent::PasswordChanged);
    Ok(VerifiedUser { credentials: Credentials { user, password_hash }, has_passed_factor })
}
