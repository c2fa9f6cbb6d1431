//! Every way the control plane says no, and the one place that turns it into a response.
//!
//! The body is `{"error":{"message","type","code","param"}}`, as on `/v1`. Causes go to the log,
//! never to the client.

use crate::account::caller::Denied;
use crate::quota::counters::CountersError;
use crate::store::{LIVE_KEYS, StoreError, UserError};
use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// A refusal. Its text is what the client reads.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(
        "Nothing is served at this path. Model calls are under /v1, so a client's base URL has to end in /v1. GET /api lists the other routes."
    )]
    RouteNotFound,
    #[error("This route does not answer this method.")]
    MethodNotAllowed,
    #[error(
        "The Host header is not allowed on this port. Use its address, localhost, or a name listed in `admin_names`."
    )]
    ForeignHost,
    #[error("{0} is not built yet.")]
    NotImplemented(&'static str),

    #[error("There is no {0} with this id.")]
    NotFound(&'static str),
    #[error("The body is larger than {limit} bytes.")]
    BodyTooLarge { limit: usize },
    #[error("Send the body as JSON, with `Content-Type: application/json`.")]
    UnsupportedMediaType,
    #[error("The body is not JSON: {0}.")]
    MalformedJson(String),
    #[error("{problem}")]
    InvalidValue { param: String, problem: String },

    #[error("Log in and send the access token as `Authorization: Bearer ...`.")]
    TokenMissing,
    #[error("This access token is not valid. Log in again.")]
    InvalidToken,
    #[error("This access token has expired. Refresh it, or log in again.")]
    ExpiredToken,
    #[error("This refresh token is not valid, or was used before. Log in again.")]
    InvalidRefreshToken,
    #[error("E-mail or password is wrong.")]
    InvalidCredentials,
    #[error("The current password is wrong.")]
    WrongPassword,
    #[error("Send an access token or an API key as `Authorization: Bearer ...`.")]
    CredentialMissing,
    #[error("This API key is not known. Check that it was copied whole.")]
    InvalidKey,
    #[error("This API key has been revoked.")]
    RevokedKey,
    #[error("This API key has expired.")]
    ExpiredKey,
    #[error("API keys do not open this route. Log in and send the access token.")]
    AccessTokenRequired,

    #[error("This account is suspended.")]
    Suspended,
    #[error("Only admins may do this.")]
    AdminsOnly,
    #[error("Registration is closed. Ask the operator for an account.")]
    RegistrationClosed,
    #[error("An admin cannot take away their own role or suspend themselves.")]
    OwnAccountLockout,

    #[error("There is an account with this {0} already.")]
    AlreadyTaken(&'static str),
    #[error("There is a plan with this id already.")]
    PlanExists,
    #[error("This is the plan you have.")]
    SamePlan,
    #[error("This plan cannot be chosen any more.")]
    RetiredPlan,
    #[error("This request has been decided already.")]
    AlreadyDecided,
    #[error(
        "This request is out of date: the user has another plan by now, or the plan is retired."
    )]
    UpgradeOutdated,
    #[error("An account can have {0} live keys at most. Revoke one first.")]
    TooManyKeys(usize),
    #[error("The configuration was not reloaded: {0}")]
    ReloadFailed(String),

    #[error("Too many tries. Wait {} s before the next one.", .0.as_secs() + 1)]
    TooManyAttempts(Duration),
    #[error("Too many log-ins at once. Try again in a moment.")]
    Busy,
    #[error("The database does not answer right now. Try again in a moment.")]
    StoreUnavailable(#[source] StoreError),
    #[error("The quota store does not answer right now. Try again in a moment.")]
    CountersUnavailable(#[source] CountersError),
    #[error("Something went wrong on our side.")]
    Internal,
}

/// Every refusal looks like this, on both planes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// A sentence for people.
    #[schema(example = "Only admins may do this.")]
    message: String,
    /// The kind of error: `invalid_request_error`, `permission_error`, `rate_limit_error` or
    /// `server_error`.
    #[serde(rename = "type")]
    #[schema(example = "permission_error")]
    kind: &'static str,
    /// What programs go by.
    #[schema(required, example = "admins_only")]
    code: Option<&'static str>,
    /// The field or parameter that is to blame.
    #[schema(required)]
    param: Option<String>,
}

const INVALID: &str = "invalid_request_error";
const PERMISSION: &str = "permission_error";
const LIMIT: &str = "rate_limit_error";
const SERVER: &str = "server_error";

impl ApiError {
    /// A field or parameter that does not hold what it must.
    #[must_use]
    pub fn invalid(param: &str, problem: impl Into<String>) -> Self {
        Self::InvalidValue { param: param.to_owned(), problem: problem.into() }
    }

    /// A field that names a model the gateway does not have.
    #[must_use]
    pub fn unknown_model(param: &str, name: &str) -> Self {
        Self::invalid(
            param,
            format!("`{param}` contains `{name}`, which is not a model of this gateway."),
        )
    }

    /// Status, type and code.
    fn parts(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        use StatusCode as S;
        match self {
            Self::ForeignHost => (S::MISDIRECTED_REQUEST, INVALID, Some("foreign_host")),
            Self::RouteNotFound => (S::NOT_FOUND, INVALID, Some("not_found")),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, INVALID, Some("method_not_allowed")),
            Self::NotImplemented(_) => (S::NOT_IMPLEMENTED, SERVER, Some("not_implemented")),

            Self::NotFound("plan") => (S::NOT_FOUND, INVALID, Some("plan_not_found")),
            Self::NotFound(_) => (S::NOT_FOUND, INVALID, Some("not_found")),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, INVALID, Some("body_too_large")),
            Self::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, INVALID, Some("not_json")),
            Self::MalformedJson(_) => (S::BAD_REQUEST, INVALID, Some("not_json")),
            Self::InvalidValue { .. } => (S::UNPROCESSABLE_ENTITY, INVALID, Some("invalid_value")),

            Self::TokenMissing | Self::CredentialMissing => {
                (S::UNAUTHORIZED, INVALID, Some("not_authenticated"))
            }
            Self::InvalidToken => (S::UNAUTHORIZED, INVALID, Some("invalid_token")),
            Self::ExpiredToken => (S::UNAUTHORIZED, INVALID, Some("token_expired")),
            Self::InvalidRefreshToken => (S::UNAUTHORIZED, INVALID, Some("invalid_refresh_token")),
            Self::InvalidCredentials => (S::UNAUTHORIZED, INVALID, Some("invalid_credentials")),
            Self::InvalidKey | Self::RevokedKey | Self::ExpiredKey => {
                (S::UNAUTHORIZED, INVALID, Some("invalid_api_key"))
            }
            Self::AccessTokenRequired => (S::UNAUTHORIZED, INVALID, Some("access_token_required")),

            Self::WrongPassword => (S::FORBIDDEN, PERMISSION, Some("wrong_password")),
            Self::Suspended => (S::FORBIDDEN, PERMISSION, Some("account_suspended")),
            Self::AdminsOnly => (S::FORBIDDEN, PERMISSION, Some("admins_only")),
            Self::RegistrationClosed => (S::FORBIDDEN, PERMISSION, Some("registration_closed")),
            Self::OwnAccountLockout => (S::CONFLICT, INVALID, Some("own_account")),

            Self::AlreadyTaken("username") => (S::CONFLICT, INVALID, Some("username_taken")),
            Self::AlreadyTaken(_) => (S::CONFLICT, INVALID, Some("email_taken")),
            Self::PlanExists => (S::CONFLICT, INVALID, Some("plan_exists")),
            Self::SamePlan => (S::CONFLICT, INVALID, Some("same_plan")),
            Self::RetiredPlan => (S::CONFLICT, INVALID, Some("plan_retired")),
            Self::AlreadyDecided => (S::CONFLICT, INVALID, Some("already_decided")),
            Self::UpgradeOutdated => (S::CONFLICT, INVALID, Some("request_outdated")),
            Self::TooManyKeys(_) => (S::CONFLICT, INVALID, Some("too_many_keys")),
            Self::ReloadFailed(_) => (S::CONFLICT, INVALID, Some("not_reloaded")),

            Self::TooManyAttempts(_) => (S::TOO_MANY_REQUESTS, LIMIT, Some("too_many_tries")),
            Self::Busy => (S::SERVICE_UNAVAILABLE, SERVER, Some("busy")),
            Self::StoreUnavailable(_) => {
                (S::SERVICE_UNAVAILABLE, SERVER, Some("store_unavailable"))
            }
            Self::CountersUnavailable(_) => {
                (S::SERVICE_UNAVAILABLE, SERVER, Some("quota_store_unavailable"))
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, SERVER, None),
        }
    }

    /// The field or parameter to blame.
    fn param(&self) -> Option<String> {
        match self {
            Self::InvalidValue { param, .. } => Some(param.clone()),
            Self::AlreadyTaken(field) => Some((*field).to_owned()),
            Self::WrongPassword => Some("current_password".to_owned()),
            Self::NotFound("plan") | Self::SamePlan | Self::RetiredPlan => {
                Some("plan_id".to_owned())
            }
            _ => None,
        }
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts().0
    }

    /// What the client reads.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let (_, kind, code) = self.parts();
        ErrorBody {
            error: ErrorDetail { message: self.to_string(), kind, code, param: self.param() },
        }
    }

    /// Seconds until trying again makes sense.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyAttempts(wait) => Some(wait.as_secs() + 1),
            _ => (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = std::error::Error::source(&self) {
            // The outage itself is logged once, where it is detected.
            tracing::debug!(%cause, "control plane request failed");
        }
        let status = self.status();
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"knockx\"");
            headers.insert(WWW_AUTHENTICATE, scheme);
        }
        headers.extend(self.retry_after().map(|seconds| (RETRY_AFTER, seconds.into())));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(what) => Self::NotFound(what),
            StoreError::TooManyKeys => Self::TooManyKeys(LIVE_KEYS),
            StoreError::Corrupt(_) => {
                tracing::error!(%error, "the store holds what it should not");
                Self::Internal
            }
            error @ (StoreError::Unavailable(_) | StoreError::Superseded) => {
                Self::StoreUnavailable(error)
            }
        }
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match error {
            UserError::EmailTaken => Self::AlreadyTaken("email"),
            UserError::UsernameTaken => Self::AlreadyTaken("username"),
            UserError::NoSuchPlan(_) => Self::NotFound("plan"),
            UserError::Store(error) => error.into(),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::KeyRevoked => Self::RevokedKey,
            Denied::KeyExpired => Self::ExpiredKey,
            Denied::UserSuspended => Self::Suspended,
        }
    }
}

impl From<CountersError> for ApiError {
    fn from(error: CountersError) -> Self {
        Self::CountersUnavailable(error)
    }
}
