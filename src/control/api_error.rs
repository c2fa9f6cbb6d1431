//! Every way the control plane says no, and the one place that turns it into a response.
//!
//! The body is `{"error":{"message","type","code","param"}}`, as on `/v1`. Causes go to the log,
//! never to the client.

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
    NoSuchRoute,
    #[error("This route does not answer this method.")]
    MethodNotAllowed,
    #[error(
        "The Host header is not allowed on this port. Use its address, localhost, or a name listed in `admin_names`."
    )]
    ForeignHost,
    #[error("{0} is not built yet.")]
    NotBuilt(&'static str),

    #[error("There is no {0} with this id.")]
    NoSuch(&'static str),
    #[error("The body is larger than {limit} bytes.")]
    BodyTooLarge { limit: usize },
    #[error("Send the body as JSON, with `Content-Type: application/json`.")]
    NotJsonType,
    #[error("The body is not JSON: {0}.")]
    NotJson(String),
    #[error("{problem}")]
    Invalid { param: String, problem: String },

    #[error("Log in and send the access token as `Authorization: Bearer ...`.")]
    NoToken,
    #[error("This access token is not valid. Log in again.")]
    BadToken,
    #[error("This access token has expired. Refresh it, or log in again.")]
    ExpiredToken,
    #[error("This refresh token is not valid, or was used before. Log in again.")]
    BadRefreshToken,
    #[error("E-mail or password is wrong.")]
    WrongCredentials,
    #[error("The current password is wrong.")]
    WrongPassword,
    #[error("Send an access token or an API key as `Authorization: Bearer ...`.")]
    NoKey,
    #[error("This API key is not known. Check that it was copied whole.")]
    UnknownKey,
    #[error("This API key has been revoked.")]
    RevokedKey,
    #[error("This API key has expired.")]
    ExpiredKey,
    #[error("API keys do not open this route. Log in and send the access token.")]
    KeyNotEnough,

    #[error("This account is suspended.")]
    Suspended,
    #[error("Only admins may do this.")]
    AdminsOnly,
    #[error("Registration is closed. Ask the operator for an account.")]
    RegistrationClosed,
    #[error("An admin cannot take away their own role or suspend themselves.")]
    OwnAccount,

    #[error("There is an account with this {0} already.")]
    Taken(&'static str),
    #[error("There is a plan with this id already.")]
    PlanTaken,
    #[error("This is the plan you have.")]
    SamePlan,
    #[error("This plan cannot be chosen any more.")]
    RetiredPlan,
    #[error("This request has been decided already.")]
    DecidedBefore,
    #[error(
        "This request is out of date: the user has another plan by now, or the plan is retired."
    )]
    OutdatedRequest,
    #[error("An account can have {0} live keys at most. Revoke one first.")]
    TooManyKeys(usize),
    #[error("The configuration was not reloaded: {0}")]
    NotReloaded(String),

    #[error("Too many tries. Wait {} s before the next one.", .0.as_secs() + 1)]
    TooManyTries(Duration),
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
        Self::Invalid { param: param.to_owned(), problem: problem.into() }
    }

    /// Status, type and code.
    fn parts(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        use StatusCode as S;
        match self {
            Self::ForeignHost => (S::MISDIRECTED_REQUEST, INVALID, Some("foreign_host")),
            Self::NoSuchRoute => (S::NOT_FOUND, INVALID, Some("not_found")),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, INVALID, Some("method_not_allowed")),
            Self::NotBuilt(_) => (S::NOT_IMPLEMENTED, SERVER, Some("not_implemented")),

            Self::NoSuch("plan") => (S::NOT_FOUND, INVALID, Some("plan_not_found")),
            Self::NoSuch(_) => (S::NOT_FOUND, INVALID, Some("not_found")),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, INVALID, Some("body_too_large")),
            Self::NotJsonType => (S::UNSUPPORTED_MEDIA_TYPE, INVALID, Some("not_json")),
            Self::NotJson(_) => (S::BAD_REQUEST, INVALID, Some("not_json")),
            Self::Invalid { .. } => (S::UNPROCESSABLE_ENTITY, INVALID, Some("invalid_value")),

            Self::NoToken | Self::NoKey => (S::UNAUTHORIZED, INVALID, Some("not_authenticated")),
            Self::BadToken => (S::UNAUTHORIZED, INVALID, Some("invalid_token")),
            Self::ExpiredToken => (S::UNAUTHORIZED, INVALID, Some("token_expired")),
            Self::BadRefreshToken => (S::UNAUTHORIZED, INVALID, Some("invalid_refresh_token")),
            Self::WrongCredentials => (S::UNAUTHORIZED, INVALID, Some("invalid_credentials")),
            Self::UnknownKey | Self::RevokedKey | Self::ExpiredKey => {
                (S::UNAUTHORIZED, INVALID, Some("invalid_api_key"))
            }
            Self::KeyNotEnough => (S::UNAUTHORIZED, INVALID, Some("access_token_required")),

            Self::WrongPassword => (S::FORBIDDEN, PERMISSION, Some("wrong_password")),
            Self::Suspended => (S::FORBIDDEN, PERMISSION, Some("account_suspended")),
            Self::AdminsOnly => (S::FORBIDDEN, PERMISSION, Some("admins_only")),
            Self::RegistrationClosed => (S::FORBIDDEN, PERMISSION, Some("registration_closed")),
            Self::OwnAccount => (S::CONFLICT, INVALID, Some("own_account")),

            Self::Taken("username") => (S::CONFLICT, INVALID, Some("username_taken")),
            Self::Taken(_) => (S::CONFLICT, INVALID, Some("email_taken")),
            Self::PlanTaken => (S::CONFLICT, INVALID, Some("plan_exists")),
            Self::SamePlan => (S::CONFLICT, INVALID, Some("same_plan")),
            Self::RetiredPlan => (S::CONFLICT, INVALID, Some("plan_retired")),
            Self::DecidedBefore => (S::CONFLICT, INVALID, Some("already_decided")),
            Self::OutdatedRequest => (S::CONFLICT, INVALID, Some("request_outdated")),
            Self::TooManyKeys(_) => (S::CONFLICT, INVALID, Some("too_many_keys")),
            Self::NotReloaded(_) => (S::CONFLICT, INVALID, Some("not_reloaded")),

            Self::TooManyTries(_) => (S::TOO_MANY_REQUESTS, LIMIT, Some("too_many_tries")),
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
            Self::Invalid { param, .. } => Some(param.clone()),
            Self::Taken(field) => Some((*field).to_owned()),
            Self::WrongPassword => Some("current_password".to_owned()),
            Self::NoSuch("plan") | Self::SamePlan | Self::RetiredPlan => Some("plan_id".to_owned()),
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
            Self::TooManyTries(wait) => Some(wait.as_secs() + 1),
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
            StoreError::Missing(what) => Self::NoSuch(what),
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
            UserError::EmailTaken => Self::Taken("email"),
            UserError::UsernameTaken => Self::Taken("username"),
            UserError::NoSuchPlan(_) => Self::NoSuch("plan"),
            UserError::Store(error) => error.into(),
        }
    }
}

impl From<CountersError> for ApiError {
    fn from(error: CountersError) -> Self {
        Self::CountersUnavailable(error)
    }
}
