//! Every error of the control plane, and the one place that turns it into a response.
//!
//! The body is `{"error":{"message","type","code","param"}}`, as on `/v1`. Causes go to the log,
//! never to the client.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use quota::backend::QuotaUnavailable;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use store::StoreError;
use utoipa::ToSchema;

/// An error with the message that the client reads.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error(
        "No route has this path. Model calls are below /v1, so the base URL of a client must end in /v1. `GET /api` lists the other routes."
    )]
    RouteNotFound,
    #[error(
        "This route does not support this method. The `Allow` header lists the methods that it supports."
    )]
    MethodNotAllowed,
    #[error(
        "The Host header is not allowed on the admin port. Use the IP address of the port, `localhost`, or a name listed in `admin_names`."
    )]
    ForeignHost,

    #[error("There is no {0} with this id. Check the id.")]
    NotFound(&'static str),
    #[error(
        "The request body is larger than {limit} bytes, which is the limit of this route. Send a smaller body."
    )]
    BodyTooLarge { limit: usize },
    #[error("The request body must be JSON. Send it with `Content-Type: application/json`.")]
    UnsupportedMediaType,
    #[error("The request body is not valid JSON: {0}.")]
    MalformedJson(String),
    #[error("{problem}")]
    InvalidValue { param: String, problem: String },
    /// A field of a form of the console; the sentence is in the language of its page.
    #[error("{0}")]
    FormField(String),

    #[error(
        "This route requires an access token. Log in with `POST /api/v1/users/login` and send the token as `Authorization: Bearer ...`."
    )]
    TokenMissing,
    #[error("The access token is not valid, or its session has ended. Log in again.")]
    InvalidToken,
    #[error(
        "The access token has expired. Get a new one with `POST /api/v1/users/refresh`, or log in again."
    )]
    ExpiredToken,
    #[error("The refresh token is not valid or was already used. Log in again.")]
    InvalidRefreshToken,
    #[error("The e-mail address or the password is wrong.")]
    InvalidCredentials,
    #[error("The current password is wrong.")]
    WrongPassword,
    #[error(
        "This account has no password. Set one on the page of the account in the console, or with `POST /api/v1/users/forgot-password`."
    )]
    NoPassword,
    #[error(
        "This account has a second factor. Send the code of the authenticator app, or a recovery code, as `code`."
    )]
    SecondFactorRequired,
    #[error(
        "The code is wrong, has expired, or was already used. Send the next code of the authenticator app, or an unused recovery code."
    )]
    InvalidCode,
    #[error(
        "This change requires a code, because the account has a second factor. Send the code of the authenticator app, or a recovery code, as `code`."
    )]
    CodeRequired,
    #[error(
        "The code is wrong, has expired, or was already used. Send the next code of the authenticator app."
    )]
    WrongCode,
    #[error(
        "The second factor of this account cannot be checked, because the server's `SECRET_KEY` has changed. Ask an admin to remove it, then set it up again."
    )]
    UnreadableSecondFactor,
    #[error(
        "This route requires an access token or an API key. Send it as `Authorization: Bearer ...`."
    )]
    CredentialMissing,
    #[error("This API key does not exist. Check that it was copied completely.")]
    InvalidKey,
    #[error("This API key was revoked. Use another key.")]
    RevokedKey,
    #[error("This API key has expired. Use another key.")]
    ExpiredKey,
    #[error(
        "This route does not accept API keys. Log in with `POST /api/v1/users/login` and send the access token as `Authorization: Bearer ...`."
    )]
    AccessTokenRequired,

    #[error("This account is suspended. Ask the operator to resume it.")]
    Suspended,
    #[error(
        "Verify the e-mail address of this account first: open the link that was mailed to it, or request another one with `POST /api/v1/users/verify-email/send`."
    )]
    EmailUnverified,
    #[error(
        "This link is not valid: it was used, has expired, or was replaced by a newer one. Request a new one."
    )]
    InvalidLink,
    #[error(
        "This sign-in is not valid: it has expired, was used, or began in another browser. Start it again."
    )]
    InvalidSignIn,
    #[error(
        "The sign-in provider did not confirm who you are. Start again; if it happens again, ask the operator."
    )]
    SignInRejected,
    #[error(
        "The sign-in provider reports no verified e-mail address that this gateway accepts. Verify it there, or ask the operator."
    )]
    ProviderEmailRequired,
    #[error(
        "The sign-in provider did not report that you have signed in again. Log out and log in again, or confirm with a password."
    )]
    NotReauthenticated,
    #[error("This route requires the role `admin`, or for reading `auditor`.")]
    AdminsOnly,
    #[error(
        "This route requires the role `admin`. The role `auditor` reads everything and changes only its own account."
    )]
    ReadOnlyRole,
    #[error("Registration is closed. Ask the operator for an account.")]
    RegistrationClosed,
    #[error(
        "Admins cannot demote, suspend, delete or invite themselves, or remove their own second factor, with this route. Ask another admin."
    )]
    OwnAccountLockout,
    #[error(
        "This is the account of the last admin, which cannot be deleted, suspended or demoted. Give another user the role `admin` first."
    )]
    LastAdmin,
    #[error("Another account had this e-mail address today. It can be used again from {0}.")]
    AddressReserved(Timestamp),

    #[error(
        "An account with this e-mail address exists, which cannot be linked automatically. Log in to it and link the sign-in provider on the page of the account."
    )]
    AccountNotLinked,
    #[error("This identity of the sign-in provider belongs to another account, or to none.")]
    IdentityTaken,
    #[error("Another identity of the sign-in provider is linked to this account. Unlink it first.")]
    IdentityExists,
    #[error("This identity is the only way to log in to this account. Set a password first.")]
    OnlyWayIn,
    #[error("The e-mail address of this account is verified already.")]
    AlreadyVerified,
    #[error("This gateway has an admin already. Log in as one, or ask one for an account.")]
    AdminExists,
    #[error(
        "This gateway sends no mails, because no mail server is configured. Ask the operator for help with your account."
    )]
    MailNotConfigured,
    #[error("Too many mails are waiting for the mail server. Retry in a few minutes.")]
    MailQueueFull,
    #[error("The second factor is already enabled. Disable it before setting it up again.")]
    SecondFactorEnabled,
    #[error(
        "There is no second factor to enable or change. Begin with `POST /api/v1/users/second-factor`."
    )]
    NoSecondFactor,
    #[error("Another account already has this {0}. Choose a different one.")]
    AlreadyTaken(&'static str),
    #[error("A plan with this id already exists. Choose a different id.")]
    PlanExists,
    #[error("The account already has this plan. Choose a different one.")]
    SamePlan,
    #[error("This plan is closed to new subscribers. Choose one of `GET /api/v1/plans`.")]
    RetiredPlan,
    #[error("This upgrade request is no longer pending: it was approved, rejected or superseded.")]
    AlreadyDecided,
    #[error(
        "This upgrade request is outdated: the user's plan has changed since, or the requested plan is closed to new subscribers. Reject it; the user can send a new one."
    )]
    UpgradeOutdated,
    #[error("An account can have at most {0} active keys. Revoke one first.")]
    TooManyKeys(usize),
    #[error("The configuration was not reloaded; the previous one stays in effect: {0}")]
    ReloadFailed(String),

    #[error("Another test of an upstream is running. Retry in a few seconds.")]
    UpstreamTestRunning,

    #[error("Too many attempts. Retry in {} s.", .0.as_secs() + 1)]
    TooManyAttempts(Duration),
    #[error(
        "The sign-in provider is unavailable. Retry in a few minutes, or log in with a password."
    )]
    ProviderUnavailable,
    #[error("Too many passwords are being checked. Retry in a few seconds.")]
    Busy,
    #[error("The database is unavailable. Retry in a few seconds.")]
    StoreUnavailable(#[source] StoreError),
    #[error("The quota store is unavailable. Retry in a few seconds.")]
    QuotaUnavailable(#[source] QuotaUnavailable),
    #[error("Internal error. Report it to the operator with the `x-request-id` of this reply.")]
    Internal,
}

/// The error that a response reports: an extension of the response, from which the console makes a page.
#[derive(Debug, Clone)]
pub struct ReportedError(pub Arc<ApiError>);

/// The body of every error, on both planes.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// What happened and what to do, for people.
    #[schema(example = "This route requires the role `admin`, or for reading `auditor`.")]
    message: String,
    /// The kind of error: `invalid_request_error`, `permission_error`, `rate_limit_error` or
    /// `server_error`.
    #[serde(rename = "type")]
    #[schema(example = "permission_error")]
    kind: &'static str,
    /// The error code, for programs; `null` for internal errors.
    #[schema(required, example = "admins_only")]
    code: Option<&'static str>,
    /// The field or parameter that caused the error.
    #[schema(required)]
    param: Option<String>,
}

const INVALID: &str = "invalid_request_error";
const PERMISSION: &str = "permission_error";
const LIMIT: &str = "rate_limit_error";
const SERVER: &str = "server_error";

impl ApiError {
    /// A field or parameter with an invalid value.
    #[must_use]
    pub fn invalid(param: &str, problem: impl Into<String>) -> Self {
        Self::InvalidValue { param: param.to_owned(), problem: problem.into() }
    }

    /// A field of a form of the console, with a sentence in the language of its page.
    #[must_use]
    pub fn form_field(sentence: impl Into<String>) -> Self {
        Self::FormField(sentence.into())
    }

    /// A field that names a model the gateway does not have.
    #[must_use]
    pub fn unknown_model(param: &str, name: &str) -> Self {
        Self::invalid(
            param,
            format!("`{param}` contains `{name}`, which is not a model of this gateway."),
        )
    }

    /// The current password is missing.
    #[must_use]
    pub fn password_required() -> Self {
        Self::invalid("current_password", "`current_password` is required for this change.")
    }

    /// Status, type and code.
    fn parts(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        use StatusCode as S;
        match self {
            Self::ForeignHost => (S::MISDIRECTED_REQUEST, INVALID, Some("foreign_host")),
            Self::RouteNotFound => (S::NOT_FOUND, INVALID, Some("not_found")),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, INVALID, Some("method_not_allowed")),

            Self::NotFound("plan") => (S::NOT_FOUND, INVALID, Some("plan_not_found")),
            Self::NotFound(_) => (S::NOT_FOUND, INVALID, Some("not_found")),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, INVALID, Some("body_too_large")),
            Self::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, INVALID, Some("not_json")),
            Self::MalformedJson(_) => (S::BAD_REQUEST, INVALID, Some("not_json")),
            Self::InvalidValue { .. } | Self::FormField(_) => {
                (S::UNPROCESSABLE_ENTITY, INVALID, Some("invalid_value"))
            }

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

            Self::SecondFactorRequired => {
                (S::UNAUTHORIZED, INVALID, Some("second_factor_required"))
            }
            Self::InvalidCode => (S::UNAUTHORIZED, INVALID, Some("invalid_code")),

            Self::CodeRequired => (S::FORBIDDEN, PERMISSION, Some("second_factor_required")),
            Self::WrongCode => (S::FORBIDDEN, PERMISSION, Some("wrong_code")),
            Self::UnreadableSecondFactor => {
                (S::FORBIDDEN, PERMISSION, Some("second_factor_unreadable"))
            }
            Self::WrongPassword => (S::FORBIDDEN, PERMISSION, Some("wrong_password")),
            Self::NoPassword => (S::FORBIDDEN, PERMISSION, Some("no_password")),
            Self::Suspended => (S::FORBIDDEN, PERMISSION, Some("account_suspended")),
            Self::EmailUnverified => (S::FORBIDDEN, PERMISSION, Some("email_unverified")),
            Self::InvalidLink => (S::FORBIDDEN, PERMISSION, Some("invalid_link")),
            Self::InvalidSignIn => (S::FORBIDDEN, PERMISSION, Some("invalid_sign_in")),
            Self::SignInRejected => (S::FORBIDDEN, PERMISSION, Some("sign_in_rejected")),
            Self::ProviderEmailRequired => {
                (S::FORBIDDEN, PERMISSION, Some("provider_email_required"))
            }
            Self::NotReauthenticated => (S::FORBIDDEN, PERMISSION, Some("not_reauthenticated")),
            Self::AdminsOnly => (S::FORBIDDEN, PERMISSION, Some("admins_only")),
            Self::ReadOnlyRole => (S::FORBIDDEN, PERMISSION, Some("read_only_role")),
            Self::RegistrationClosed => (S::FORBIDDEN, PERMISSION, Some("registration_closed")),
            Self::OwnAccountLockout => (S::CONFLICT, INVALID, Some("own_account")),
            Self::LastAdmin => (S::CONFLICT, INVALID, Some("last_admin")),
            Self::AddressReserved(_) => (S::CONFLICT, INVALID, Some("email_reserved")),

            Self::AccountNotLinked => (S::CONFLICT, INVALID, Some("account_not_linked")),
            Self::IdentityTaken => (S::CONFLICT, INVALID, Some("identity_taken")),
            Self::IdentityExists => (S::CONFLICT, INVALID, Some("identity_exists")),
            Self::OnlyWayIn => (S::CONFLICT, INVALID, Some("only_way_in")),
            Self::AlreadyVerified => (S::CONFLICT, INVALID, Some("already_verified")),
            Self::AdminExists => (S::CONFLICT, INVALID, Some("admin_exists")),
            Self::MailNotConfigured => (S::CONFLICT, INVALID, Some("mail_not_configured")),
            Self::MailQueueFull => (S::SERVICE_UNAVAILABLE, SERVER, Some("mail_queue_full")),
            Self::SecondFactorEnabled => (S::CONFLICT, INVALID, Some("second_factor_enabled")),
            Self::NoSecondFactor => (S::CONFLICT, INVALID, Some("no_second_factor")),
            Self::AlreadyTaken("username") => (S::CONFLICT, INVALID, Some("username_taken")),
            Self::AlreadyTaken(_) => (S::CONFLICT, INVALID, Some("email_taken")),
            Self::PlanExists => (S::CONFLICT, INVALID, Some("plan_exists")),
            Self::SamePlan => (S::CONFLICT, INVALID, Some("same_plan")),
            Self::RetiredPlan => (S::CONFLICT, INVALID, Some("plan_retired")),
            Self::AlreadyDecided => (S::CONFLICT, INVALID, Some("already_decided")),
            Self::UpgradeOutdated => (S::CONFLICT, INVALID, Some("request_outdated")),
            Self::TooManyKeys(_) => (S::CONFLICT, INVALID, Some("too_many_keys")),
            Self::ReloadFailed(_) => (S::CONFLICT, INVALID, Some("not_reloaded")),

            Self::UpstreamTestRunning => (S::CONFLICT, INVALID, Some("test_running")),

            Self::TooManyAttempts(_) => (S::TOO_MANY_REQUESTS, LIMIT, Some("too_many_tries")),
            Self::ProviderUnavailable => {
                (S::SERVICE_UNAVAILABLE, SERVER, Some("provider_unavailable"))
            }
            Self::Busy => (S::SERVICE_UNAVAILABLE, SERVER, Some("busy")),
            Self::StoreUnavailable(_) => {
                (S::SERVICE_UNAVAILABLE, SERVER, Some("store_unavailable"))
            }
            Self::QuotaUnavailable(_) => {
                (S::SERVICE_UNAVAILABLE, SERVER, Some("quota_store_unavailable"))
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, SERVER, None),
        }
    }

    /// The field or parameter that caused the error.
    fn param(&self) -> Option<String> {
        match self {
            Self::InvalidValue { param, .. } => Some(param.clone()),
            Self::AlreadyTaken(field) => Some((*field).to_owned()),
            Self::InvalidLink => Some("token".to_owned()),
            Self::WrongPassword | Self::NoPassword => Some("current_password".to_owned()),
            Self::SecondFactorRequired
            | Self::InvalidCode
            | Self::CodeRequired
            | Self::WrongCode => Some("code".to_owned()),
            Self::NotFound("plan") | Self::SamePlan | Self::RetiredPlan => {
                Some("plan_id".to_owned())
            }
            _ => None,
        }
    }

    /// The HTTP status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.parts().0
    }

    /// The body of the response.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let (_, kind, code) = self.parts();
        ErrorBody {
            error: ErrorDetail { message: self.to_string(), kind, code, param: self.param() },
        }
    }

    /// Seconds for the `Retry-After` header.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
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
        response.extensions_mut().insert(ReportedError(Arc::new(self)));
        response
    }
}
