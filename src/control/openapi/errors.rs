//! The refusals of routes, as sets that several of them share.

use crate::control::api_error::{ApiError, ErrorBody};
use crate::quota::counters::CountersError;
use crate::store::StoreError;
use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// Each name is a set of refusals that routes have in common.
macro_rules! refusals {
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

refusals! {
    /// What any route may answer.
    Unavailable: [
        ApiError::StoreUnavailable(StoreError::Unavailable(String::new())),
        ApiError::CountersUnavailable(CountersError),
        ApiError::Busy,
        ApiError::Internal,
    ];
    /// Routes with a body.
    InvalidBody: [
        ApiError::MalformedJson("expected value at line 1 column 1".to_owned()),
        ApiError::BodyTooLarge { limit: crate::control::http::middleware::BODY_BYTES },
        ApiError::UnsupportedMediaType,
        ApiError::invalid("email", "`email`: this is not an e-mail address."),
    ];
    /// Routes with parameters.
    InvalidQuery: [ApiError::invalid("limit", "`limit` is 1 to 200.")];
    /// Routes for somebody logged in.
    LoginRequired: [
        ApiError::TokenMissing,
        ApiError::InvalidToken,
        ApiError::ExpiredToken,
        ApiError::AccessTokenRequired,
        ApiError::Suspended,
    ];
    /// Routes for somebody logged in or with a key.
    Unauthenticated: [
        ApiError::CredentialMissing,
        ApiError::InvalidToken,
        ApiError::ExpiredToken,
        ApiError::InvalidKey,
        ApiError::Suspended,
    ];
    /// Routes for admins.
    AdminRequired: [
        ApiError::TokenMissing,
        ApiError::InvalidToken,
        ApiError::ExpiredToken,
        ApiError::AccessTokenRequired,
        ApiError::AdminsOnly,
        ApiError::Suspended,
    ];
    /// Log-in.
    InvalidCredentials: [ApiError::InvalidCredentials, ApiError::Suspended];
    /// Refreshing.
    InvalidRefreshToken: [ApiError::InvalidRefreshToken, ApiError::Suspended];
    /// Where the current password is asked for.
    WrongPassword: [ApiError::WrongPassword, ApiError::Suspended];
    /// Where tries are counted.
    RateLimited: [ApiError::TooManyAttempts(Duration::from_secs(3))];
    /// Registering.
    RegistrationClosed: [ApiError::RegistrationClosed];
    /// Where an e-mail or a name has to be nobody else's.
    AlreadyExists: [ApiError::AlreadyTaken("email"), ApiError::AlreadyTaken("username")];
    /// Keys by their id.
    KeyNotFound: [ApiError::NotFound("key")];
    /// Adding keys.
    TooManyKeys: [ApiError::TooManyKeys(100)];
    /// Plans by their id.
    PlanNotFound: [ApiError::NotFound("plan")];
    /// Plans that exist and still cannot be had.
    InvalidPlanChange: [ApiError::SamePlan, ApiError::RetiredPlan];
    /// Adding plans.
    PlanExists: [ApiError::PlanExists];
    /// Users by their id.
    UserNotFound: [ApiError::NotFound("user")];
    /// Changing users.
    InvalidUserChange: [
        ApiError::AlreadyTaken("email"), ApiError::AlreadyTaken("username"), ApiError::OwnAccountLockout,
        ApiError::RetiredPlan,
    ];
    /// Requests for plans by their id.
    UpgradeNotFound: [ApiError::NotFound("request")];
    /// Deciding them.
    AlreadyDecided: [ApiError::AlreadyDecided, ApiError::UpgradeOutdated];
    /// Reloading the configuration.
    ReloadFailed: [ApiError::ReloadFailed("my.toml, line 3: ...".to_owned())];
}

/// Routes whose replies may be kept by the client.
pub struct NotModified;

impl IntoResponses for NotModified {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let not_modified = Response::new("The client has it: its `If-None-Match` is current");
        BTreeMap::from([("304".to_owned(), not_modified.into())])
    }
}

/// Refusals by their status, each with what it looks like.
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
