//! Registration, login, refresh and logout.

use super::keys::new_key;
use crate::control::account_links;
use crate::control::api_error::ApiError;
use crate::control::auth::identity::{LogInProof, TokenPair};
use crate::control::auth::verified_user::VerifiedUser;
use crate::control::auth::{AttemptTime, CurrentUser};
use crate::control::http::extract::{JsonBody, PreferredLanguage};
use crate::control::http::middleware::RequestContext;
use crate::control::openapi::errors::{
    AlreadyExists, InvalidBody, InvalidCredentials, InvalidRefreshToken, LoginRequired,
    RateLimited, RegistrationClosed, Unavailable,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Code, Email, NewEmail, NewPassword, Password, Username};
use crate::control::views::user::UserView;
use crate::mail::message::Language;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use domain::actor::{Actor, AuditContext};
use domain::key::PlainKey;
use domain::user::{Role, User};
use serde::{Deserialize, Serialize};
use store::NewUser;
use store::sessions::{Credentials, SessionClient};
use system::clock;
use utoipa::ToSchema;

/// Name of the key that is created with an account.
pub const DEFAULT_KEY: &str = "default";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    pub email: NewEmail,
    pub password: NewPassword,
    /// Must be unique.
    #[schema(inline = false)]
    pub username: Option<Username>,
}

/// A new account with its first key and a session.
#[derive(Serialize, ToSchema)]
pub struct Registered {
    user: UserView,
    /// The API key. It cannot be shown again. `null` if the e-mail address has to be verified first: the mail with
    /// the link is on its way.
    #[schema(required, example = "sk-kx-...")]
    api_key: Option<String>,
    #[serde(flatten)]
    tokens: TokenPair,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    email: Email,
    password: Password,
    /// Required if the account has a second factor.
    #[serde(default)]
    code: Option<Code>,
}

/// A user and the tokens of a new session.
#[derive(Serialize, ToSchema)]
pub struct LoggedIn {
    user: UserView,
    #[serde(flatten)]
    tokens: TokenPair,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The most recent refresh token of the session.
    #[schema(example = "rt-kx-...")]
    refresh_token: String,
}

/// Register
///
/// Creates an account with its first API key and logs in. If a mail server is configured, a link that verifies the
/// e-mail address is mailed.
#[utoipa::path(post, path = "/api/v1/users/register", tag = "Accounts", request_body = Registration,
    responses((status = 201, body = Registered), InvalidBody, AlreadyExists, RegistrationClosed, RateLimited, Unavailable))]
pub async fn register(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<Registration>,
) -> Result<(StatusCode, Json<Registered>), ApiError> {
    let NewAccount { checked, secret } = create_account(&state, &context, form, language).await?;
    let user = UserView::of(&state, checked.credentials.user.clone()).await?;
    let tokens =
        state.identity.begin(&*state.store, checked, context.client(), clock::now()).await?;
    let api_key = secret.map(|secret| secret.reveal().to_owned());
    Ok((StatusCode::CREATED, Json(Registered { user, api_key, tokens })))
}

/// A new account with its first key.
pub struct NewAccount {
    pub checked: VerifiedUser,
    /// `None` if the e-mail address has to be verified first.
    pub secret: Option<PlainKey>,
}

/// Creates the account of a user who registers, with its first key, and mails a link that verifies the address.
pub async fn create_account(
    state: &ControlState,
    context: &RequestContext,
    form: Registration,
    language: Language,
) -> Result<NewAccount, ApiError> {
    let identity = &state.identity;
    let plan = identity.accounts.default_plan.clone().filter(|_| identity.accounts.registration);
    let plan = plan.ok_or(ApiError::RegistrationClosed)?;
    identity.may_register(context.address, clock::instant())?;
    if state.store.plan(&plan).await?.is_some_and(|plan| !plan.is_open_to(None)) {
        return Err(ApiError::RegistrationClosed);
    }
    let now = clock::now();
    let new = NewUser {
        email: form.email.0,
        username: form.username.map(|name| name.0),
        password_hash: Some(identity.passwords.hash(&form.password.0).await?),
        email_verified: false,
        role: Role::User,
        plan,
        created_at: now,
    };
    // The actor of the creation is the gateway: the user does not exist yet.
    let by =
        AuditContext { actor: Actor::Gateway, at: now, request_id: Some(context.request_id()) };
    let user = state.store.register_user(&new, identity.secret(), &by).await?;
    context.set_user(user.id);
    let by = AuditContext { actor: Actor::User(user.id), ..by };
    let secret = first_key(state, &user, &by).await?;
    account_links::offer_verification(state, &user, (context.address, language)).await;
    let credentials = Credentials { user, password_hash: new.password_hash };
    Ok(NewAccount { checked: VerifiedUser::without_factor(credentials), secret })
}

/// Log in
///
/// An unknown e-mail address and a wrong password get the same reply after the same time. If the account has a
/// second factor, the reply to the right password without `code` is 401 `second_factor_required`: send the same
/// request again with the code.
#[utoipa::path(post, path = "/api/v1/users/login", tag = "Accounts", request_body = LogIn,
    responses((status = 200, body = LoggedIn), InvalidBody, InvalidCredentials, RateLimited, Unavailable))]
pub async fn login(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    JsonBody(form): JsonBody<LogIn>,
) -> Result<Json<LoggedIn>, ApiError> {
    let identity = &state.identity;
    let presented = LogInProof {
        email: &form.email.0,
        password: &form.password.0,
        code: form.code.as_ref().map(|code| &*code.0),
    };
    let from = (context.address, AttemptTime::now());
    let checked = identity.check(&*state.store, presented, from).await?;
    context.set_user(checked.credentials.user.id);
    logged_in(&state, checked, context.client()).await.map(Json)
}

/// Refresh the access token
///
/// A refresh token can be used once. Using it a second time ends the session.
#[utoipa::path(post, path = "/api/v1/users/refresh", tag = "Accounts", request_body = Refresh,
    responses((status = 200, body = TokenPair), InvalidBody, InvalidRefreshToken, Unavailable))]
pub async fn refresh(
    State(state): State<ControlState>,
    Extension(context): Extension<RequestContext>,
    JsonBody(form): JsonBody<Refresh>,
) -> Result<Json<TokenPair>, ApiError> {
    let identity = &state.identity;
    let (token, client) = (&form.refresh_token, context.client());
    identity.refresh(&*state.store, token, client, clock::now()).await.map(Json)
}

/// Log out
///
/// Ends the session. Its access token and refresh token stop working immediately.
#[utoipa::path(post, path = "/api/v1/users/logout", tag = "Accounts", security(("token" = [])),
    responses((status = 204, description = "The session has ended"), LoginRequired, Unavailable))]
pub async fn logout(
    State(state): State<ControlState>,
    current: CurrentUser,
) -> Result<StatusCode, ApiError> {
    state.store.end_session(current.session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The first key of a new user; none if the e-mail address has to be verified first.
async fn first_key(
    state: &ControlState,
    user: &User,
    by: &AuditContext,
) -> Result<Option<PlainKey>, ApiError> {
    if account_links::require_verified(state, user).is_err() {
        return Ok(None);
    }
    let (secret, key) = new_key(state, DEFAULT_KEY, by.at)?;
    state.store.add_key(user.id, &key, by).await?;
    Ok(Some(secret))
}

/// Begins a session of a user whose password was verified.
pub async fn logged_in(
    state: &ControlState,
    checked: VerifiedUser,
    client: SessionClient,
) -> Result<LoggedIn, ApiError> {
    let user = checked.credentials.user.clone();
    let tokens = state.identity.begin(&*state.store, checked, client, clock::now()).await?;
    Ok(LoggedIn { user: UserView::of(state, user).await?, tokens })
}
