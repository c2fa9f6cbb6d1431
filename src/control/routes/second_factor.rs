//! The second factor of the logged-in user: set up in two steps, recovery codes, disabling.

use crate::control::account_links::notify;
use crate::control::api_error::ApiError;
use crate::control::auth::{AttemptTime, CurrentUser};
use crate::control::http::extract::{JsonBody, PreferredLanguage};
use crate::control::openapi::errors::{
    InvalidBody, LoginRequired, NoSecondFactor, RateLimited, SecondFactorEnabled, Unavailable,
    WrongPassword,
};
use crate::control::state::ControlState;
use crate::control::views::fields::{Code, Password};
use crate::control::views::qr_code;
use crate::mail::SecurityEvent;
use crate::mail::message::Language;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::UserId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::second_factors::Enabling;
use system::clock;
use utoipa::ToSchema;

/// State of the second factor.
#[derive(Serialize, ToSchema)]
pub struct SecondFactorView {
    /// True if log-ins require a code.
    pub enabled: bool,
    #[schema(required)]
    pub enabled_at: Option<Timestamp>,
    /// Number of recovery codes that were not used.
    pub recovery_codes_left: u32,
}

/// A second factor that is being set up.
#[derive(Serialize, ToSchema)]
pub struct SetUpView {
    /// The secret in base32, for apps into which it is typed.
    #[schema(example = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")]
    pub secret: String,
    /// The address for the authenticator app, to be shown as a QR code.
    #[schema(example = "otpauth://totp/KnockXPrime:ada@example.com?secret=...")]
    pub otpauth_uri: String,
    /// The QR code of this address as an SVG image.
    #[schema(example = "<svg ...>")]
    pub qr_svg: String,
}

/// Recovery codes. They cannot be shown again.
#[derive(Serialize, ToSchema)]
pub struct RecoveryCodesView {
    /// Each of them stands in for the authenticator app once.
    #[schema(example = json!(["01ab-cdef-ghjk"]))]
    pub recovery_codes: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetUpForm {
    current_password: Password,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnableForm {
    /// The code that the authenticator app shows.
    code: Code,
}

/// One of the two is required.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofForm {
    #[serde(default)]
    current_password: Option<Password>,
    #[serde(default)]
    code: Option<Code>,
}

/// Get the state of your second factor
#[utoipa::path(get, path = "/api/v1/users/second-factor", tag = "Accounts", security(("token" = [])),
    responses((status = 200, body = SecondFactorView), LoginRequired, Unavailable))]
pub async fn show(
    State(state): State<ControlState>,
    current: CurrentUser,
) -> Result<Json<SecondFactorView>, ApiError> {
    of_user(&state, current.user.id).await.map(Json)
}

/// Set up a second factor
///
/// Returns the secret for an authenticator app. Log-ins require no code until the first one was sent to
/// `POST /api/v1/users/second-factor/enable`. Setting up again replaces the secret.
#[utoipa::path(post, path = "/api/v1/users/second-factor", tag = "Accounts", security(("token" = [])),
    request_body = SetUpForm,
    responses((status = 200, body = SetUpView), InvalidBody, LoginRequired, WrongPassword, SecondFactorEnabled,
        RateLimited, Unavailable))]
pub async fn set_up(
    State(state): State<ControlState>,
    current: CurrentUser,
    JsonBody(form): JsonBody<SetUpForm>,
) -> Result<Json<SetUpView>, ApiError> {
    begin(&state, &current, &form.current_password.0).await.map(Json)
}

/// Enable the second factor
///
/// Takes the first code of the authenticator app. From then on log-ins require a code. Ends your other
/// sessions. The reply has the recovery codes.
#[utoipa::path(post, path = "/api/v1/users/second-factor/enable", tag = "Accounts",
    security(("token" = [])), request_body = EnableForm,
    responses((status = 200, body = RecoveryCodesView), InvalidBody, LoginRequired, WrongPassword,
        NoSecondFactor, RateLimited, Unavailable))]
pub async fn enable(
    State(state): State<ControlState>,
    current: CurrentUser,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<EnableForm>,
) -> Result<Json<RecoveryCodesView>, ApiError> {
    enable_with(&state, &current, &form.code.0, language).await.map(Json)
}

/// Replace the recovery codes
///
/// The previous codes stop working. Requires the current password or a code.
#[utoipa::path(post, path = "/api/v1/users/second-factor/recovery-codes", tag = "Accounts",
    security(("token" = [])), request_body = ProofForm,
    responses((status = 200, body = RecoveryCodesView), InvalidBody, LoginRequired, WrongPassword,
        NoSecondFactor, RateLimited, Unavailable))]
pub async fn recovery_codes(
    State(state): State<ControlState>,
    current: CurrentUser,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<ProofForm>,
) -> Result<Json<RecoveryCodesView>, ApiError> {
    replace_codes(&state, &current, form.proof(), language).await.map(Json)
}

/// Disable the second factor
///
/// Log-ins require no code any more. Requires the current password or a code.
#[utoipa::path(post, path = "/api/v1/users/second-factor/disable", tag = "Accounts",
    security(("token" = [])), request_body = ProofForm,
    responses((status = 204, description = "The second factor is disabled"), InvalidBody, LoginRequired,
        WrongPassword, NoSecondFactor, RateLimited, Unavailable))]
pub async fn disable(
    State(state): State<ControlState>,
    current: CurrentUser,
    PreferredLanguage(language): PreferredLanguage,
    JsonBody(form): JsonBody<ProofForm>,
) -> Result<StatusCode, ApiError> {
    disable_with(&state, &current, form.proof(), language).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// State of the second factor of a user.
pub async fn of_user(state: &ControlState, user: UserId) -> Result<SecondFactorView, ApiError> {
    let factor = state.store.second_factor(user).await?;
    let factor = factor.filter(|factor| factor.enabled_at.is_some());
    Ok(SecondFactorView {
        enabled: factor.is_some(),
        enabled_at: factor.as_ref().and_then(|factor| factor.enabled_at),
        recovery_codes_left: factor.map_or(0, |factor| factor.recovery_codes),
    })
}

/// Begins a set-up with a new secret: an earlier one may be known to another person.
pub async fn begin(
    state: &ControlState,
    current: &CurrentUser,
    password: &str,
) -> Result<SetUpView, ApiError> {
    let user = &current.user;
    let (proof, at) = ((Some(password), None), AttemptTime::now());
    let identity = &state.identity;
    identity.confirm_either(&*state.store, (user, current.session), proof, at).await?;
    identity.may_change(user.id, at.instant)?;
    let secret = identity.second_factor.new_secret(user.id)?;
    if !state.store.begin_second_factor(user.id, &secret, at.time).await? {
        return Err(ApiError::SecondFactorEnabled);
    }
    pending(state, current).await
}

/// The set-up that was begun, for a page that shows it again after a wrong code.
pub async fn pending(state: &ControlState, current: &CurrentUser) -> Result<SetUpView, ApiError> {
    let user = &current.user;
    let factor = state.store.second_factor(user.id).await?.ok_or(ApiError::NoSecondFactor)?;
    if factor.enabled_at.is_some() {
        return Err(ApiError::SecondFactorEnabled);
    }
    let secret = state.identity.second_factor.open(&factor.secret, user.id)?;
    let otpauth_uri = secret.uri(&user.email);
    Ok(SetUpView { secret: secret.base32(), qr_svg: qr_code::svg(&otpauth_uri)?, otpauth_uri })
}

/// Enables the second factor with the first code of the app.
pub async fn enable_with(
    state: &ControlState,
    current: &CurrentUser,
    code: &str,
    language: Language,
) -> Result<RecoveryCodesView, ApiError> {
    let (identity, user) = (&state.identity, current.user.id);
    let factor = state.store.second_factor(user).await?;
    let factor = factor.filter(|factor| factor.enabled_at.is_none());
    let factor = factor.ok_or(ApiError::NoSecondFactor)?;
    let secret = identity.second_factor.open(&factor.secret, user)?;
    let step = identity.check_first_code(current.session, &secret, code, AttemptTime::now())?;
    let (recovery_codes, digests) = identity.second_factor.new_recovery_codes(user)?;
    let enabling = Enabling {
        user,
        secret: factor.secret,
        step,
        recovery_codes: digests,
        session: current.session,
    };
    if !state.store.enable_second_factor(&enabling, &current.by).await? {
        return Err(ApiError::NoSecondFactor);
    }
    notify(state, &current.user, language, SecurityEvent::SecondFactorEnabled);
    Ok(RecoveryCodesView { recovery_codes })
}

/// Replaces the recovery codes; `proof` is the password and a code.
pub async fn replace_codes(
    state: &ControlState,
    current: &CurrentUser,
    proof: (Option<&str>, Option<&str>),
    language: Language,
) -> Result<RecoveryCodesView, ApiError> {
    let (identity, user) = (&state.identity, &current.user);
    let session = (user, current.session);
    identity.confirm(&*state.store, session, both(proof)?, AttemptTime::now()).await?;
    identity.may_change(user.id, clock::instant())?;
    let (recovery_codes, digests) = identity.second_factor.new_recovery_codes(user.id)?;
    if !state.store.replace_recovery_codes(user.id, &digests, &current.by).await? {
        return Err(ApiError::NoSecondFactor);
    }
    notify(state, user, language, SecurityEvent::RecoveryCodesReplaced);
    Ok(RecoveryCodesView { recovery_codes })
}

/// Disables the second factor; `proof` is the password and a code.
pub async fn disable_with(
    state: &ControlState,
    current: &CurrentUser,
    proof: (Option<&str>, Option<&str>),
    language: Language,
) -> Result<(), ApiError> {
    let session = (&current.user, current.session);
    state.identity.confirm(&*state.store, session, both(proof)?, AttemptTime::now()).await?;
    if !state.store.remove_second_factor(current.user.id, &current.by).await? {
        return Err(ApiError::NoSecondFactor);
    }
    notify(state, &current.user, language, SecurityEvent::SecondFactorRemoved);
    Ok(())
}

/// The password and the code, if the password was given. One of them alone must not remove the other.
fn both<'a>(
    (password, code): (Option<&'a str>, Option<&'a str>),
) -> Result<(&'a str, Option<&'a str>), ApiError> {
    Ok((password.ok_or_else(ApiError::password_required)?, code))
}

impl ProofForm {
    fn proof(&self) -> (Option<&str>, Option<&str>) {
        (
            self.current_password.as_ref().map(|password| &*password.0),
            self.code.as_ref().map(|code| &*code.0),
        )
    }
}
