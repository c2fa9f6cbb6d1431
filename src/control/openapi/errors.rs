//! The error responses of routes, as sets that several routes share.

use crate::control::api_error::{ApiError, ErrorBody};
use axum::http::StatusCode;
use jiff::Timestamp;
use quota::backend::QuotaUnavailable;
use std::collections::BTreeMap;
use std::time::Duration;
use store::StoreError;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// Each name is a set of errors that routes have in common.
macro_rules! error_sets {
    ($($(#[$doc:meta])* $name:ident: [$($error:expr),* $(,)?];)*) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    described(vec![$($error),*])
                }
            }
        )*
    };
}

error_sets! {
    /// Any route.
    Unavailable: [
        ApiError::StoreUnavailable(StoreError::Unavailable(String::new())),
        ApiError::QuotaUnavailable(QuotaUnavailable),
        ApiError::Busy,
        ApiError::Internal,
    ];
    /// Routes with a body.
    InvalidBody: [
        ApiError::MalformedJson("expected value at line 1 column 1".to_owned()),
        ApiError::BodyTooLarge { limit: crate::control::http::middleware::BODY_BYTES },
        ApiError::UnsupportedMediaType,
        ApiError::invalid("email", "`email`: must be an e-mail address."),
    ];
    /// Routes with parameters.
    InvalidQuery: [ApiError::invalid("limit", "`limit` must be between 1 and 200, but is 500.")];
    /// Routes that require an access token.
    LoginRequired: [
        ApiError::TokenMissing,
        ApiError::InvalidToken,
        ApiError::ExpiredToken,
        ApiError::AccessTokenRequired,
        ApiError::Suspended,
    ];
    /// Routes that require an access token or an API key.
    Unauthenticated: [
        ApiError::CredentialMissing,
        ApiError::InvalidToken,
        ApiError::ExpiredToken,
        ApiError::InvalidKey,
        ApiError::Suspended,
    ];
    /// Routes that require the role `admin` or `auditor`.
    AdminReaderRequired: [
        ApiError::TokenMissing,
        ApiError::InvalidToken,
        ApiError::ExpiredToken,
        ApiError::AccessTokenRequired,
        ApiError::AdminsOnly,
        ApiError::Suspended,
    ];
    /// Routes that require the role `admin`.
    AdminRequired: [
        ApiError::TokenMissing,
        ApiError::InvalidToken,
        ApiError::ExpiredToken,
        ApiError::AccessTokenRequired,
        ApiError::AdminsOnly,
        ApiError::ReadOnlyRole,
        ApiError::Suspended,
    ];
    /// Login.
    InvalidCredentials: [
        ApiError::InvalidCredentials, ApiError::SecondFactorRequired, ApiError::InvalidCode, ApiError::Suspended,
        ApiError::UnreadableSecondFactor,
    ];
    /// Refreshing a session.
    InvalidRefreshToken: [ApiError::InvalidRefreshToken, ApiError::Suspended];
    /// Routes that require the current password.
    WrongPassword: [
        ApiError::WrongPassword, ApiError::NoPassword, ApiError::CodeRequired, ApiError::WrongCode, ApiError::UnreadableSecondFactor,
        ApiError::Suspended,
    ];
    /// Routes with the id of a session.
    SessionNotFound: [ApiError::NotFound("session")];
    /// Deleting an account.
    LastAdmin: [ApiError::LastAdmin];
    /// Deleting a user.
    OwnAccount: [ApiError::OwnAccountLockout, ApiError::LastAdmin];
    /// Routes with the id of an identity.
    IdentityNotFound: [ApiError::NotFound("identity")];
    /// Unlinking an identity.
    OnlyWayIn: [ApiError::OnlyWayIn];
    /// Setting up a second factor.
    SecondFactorEnabled: [ApiError::SecondFactorEnabled];
    /// Routes that need a second factor.
    NoSecondFactor: [ApiError::NoSecondFactor];
    /// Routes that limit attempts.
    RateLimited: [ApiError::TooManyAttempts(Duration::from_secs(3))];
    /// Registration.
    RegistrationClosed: [ApiError::RegistrationClosed];
    /// Routes that set an e-mail address or a username.
    AlreadyExists: [
        ApiError::AlreadyTaken("email"), ApiError::AlreadyTaken("username"),
        ApiError::AddressReserved(Timestamp::UNIX_EPOCH),
    ];
    /// Adding the first admin.
    FirstAdminExists: [ApiError::AdminExists, ApiError::AlreadyTaken("email")];
    /// Accepting an invitation.
    UsernameTaken: [ApiError::AlreadyTaken("username")];
    /// Routes that use a one-time link.
    InvalidLink: [ApiError::InvalidLink];
    /// Routes that send a mail.
    MailUnavailable: [
        ApiError::MailNotConfigured,
        ApiError::StoreUnavailable(StoreError::Unavailable(String::new())),
        ApiError::MailQueueFull,
        ApiError::Internal,
    ];
    /// Routes that can mail what they respond with.
    MailOff: [ApiError::MailNotConfigured];
    /// Requesting a verification mail.
    AlreadyVerified: [ApiError::AlreadyVerified];
    /// Routes that add keys.
    EmailUnverified: [ApiError::EmailUnverified, ApiError::Suspended];
    /// Adding a user.
    InvalidNewUser: [
        ApiError::AlreadyTaken("email"), ApiError::AlreadyTaken("username"), ApiError::RetiredPlan,
    ];
    /// Routes with the id of a key.
    KeyNotFound: [ApiError::NotFound("key")];
    /// Routes that add keys.
    TooManyKeys: [ApiError::TooManyKeys(100)];
    /// Routes with the id of a plan.
    PlanNotFound: [ApiError::NotFound("plan")];
    /// Changing to a plan that exists.
    InvalidPlanChange: [ApiError::SamePlan, ApiError::RetiredPlan];
    /// Adding a plan.
    PlanExists: [ApiError::PlanExists];
    /// Routes with the id of a user.
    UserNotFound: [ApiError::NotFound("user")];
    /// Routes with the name of an upstream.
    UpstreamNotFound: [ApiError::NotFound("upstream")];
    /// Testing an upstream.
    UpstreamTestRunning: [ApiError::UpstreamTestRunning];
    /// Routes with the id of an announcement.
    AnnouncementNotFound: [ApiError::NotFound("announcement")];
    /// Routes with the id of a call.
    CallNotFound: [ApiError::NotFound("call")];
    /// Changing a user.
    InvalidUserChange: [
        ApiError::AlreadyTaken("email"), ApiError::AlreadyTaken("username"), ApiError::OwnAccountLockout,
        ApiError::RetiredPlan,
    ];
    /// Routes with the id of an upgrade request.
    UpgradeNotFound: [ApiError::NotFound("upgrade request")];
    /// Deciding an upgrade request.
    AlreadyDecided: [ApiError::AlreadyDecided, ApiError::UpgradeOutdated];
    /// Reloading the configuration.
    ReloadFailed: [ApiError::ReloadFailed("my.toml:3: ...".to_owned())];
}

/// Routes whose replies a client may cache.
pub struct NotModified;

impl IntoResponses for NotModified {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let not_modified =
            Response::new("Not modified: the `If-None-Match` of the request is current");
        BTreeMap::from([("304".to_owned(), not_modified.into())])
    }
}

/// Responses by status, with an example of each error.
fn described(errors: Vec<ApiError>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<StatusCode, Vec<ApiError>> = BTreeMap::new();
    for error in errors {
        by_status.entry(error.status()).or_default().push(error);
    }
    let response = |(status, errors): (StatusCode, Vec<ApiError>)| {
        (status.as_str().to_owned(), RefOr::T(response(status, &errors)))
    };
    by_status.into_iter().map(response).collect()
}

fn response(status: StatusCode, errors: &[ApiError]) -> Response {
    let examples = errors.iter().enumerate().map(|(place, error)| {
        let body = serde_json::to_value(error.body()).unwrap_or_default();
        let code = body["error"]["code"].as_str().unwrap_or("error").to_owned();
        let name = if place == 0 { code } else { format!("{code}_{place}") };
        (name, ExampleBuilder::new().value(Some(body)).build())
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ErrorBody::name())))
        .examples_from_iter(examples)
        .build();
    ResponseBuilder::new()
        .description(status.canonical_reason().unwrap_or_default())
        .content("application/json", content)
        .build()
}
