//! Every way the simulator says no, in xAI's shape: `{"code": …, "error": …}`.

use super::ask::Unreadable;
use super::settings::BadSteer;
use http::StatusCode;

/// A refused request.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "No API key was given. Send it in the Authorization header: 'Authorization: Bearer KEY'"
    )]
    NoKey,
    #[error(
        "Incorrect API key provided: {masked}. You can obtain an API key from https://console.x.ai."
    )]
    WrongKey { masked: String },
    #[error(
        "The model {0} does not exist or your team 00000000-0000-4000-8000-000000000000 does not have access to it."
    )]
    UnknownModel(String),
    #[error("Response with id={0} not found.")]
    UnknownResponse(String),
    #[error("The requested resource was not found.")]
    UnknownRoute,
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    BadSteer(#[from] BadSteer),
    #[error("The request body is larger than the limit.")]
    TooLarge,
    #[error(
        "Too many requests for team 00000000-0000-4000-8000-000000000000 and model grok-4.3. \
         Your team's rate limit is Requests per Second (actual/limit): 2/2."
    )]
    TooMany { retry_after: u64 },
    #[error("{}", ordered(*.0).1)]
    Ordered(u16),
}

impl Refusal {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoKey => StatusCode::UNAUTHORIZED,
            Self::WrongKey { .. } | Self::BadSteer(_) => StatusCode::BAD_REQUEST,
            Self::UnknownModel(_) | Self::UnknownResponse(_) | Self::UnknownRoute => {
                StatusCode::NOT_FOUND
            }
            Self::Unreadable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Ordered(status) => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoKey => "unauthenticated",
            Self::WrongKey { .. } | Self::BadSteer(_) | Self::Unreadable(_) | Self::TooLarge => {
                "invalid-argument"
            }
            Self::UnknownModel(_) | Self::UnknownResponse(_) | Self::UnknownRoute => "not-found",
            Self::TooMany { .. } => "resource-exhausted",
            Self::Ordered(status) => ordered(*status).0,
        }
    }

    /// The body.
    pub fn json(&self) -> String {
        serde_json::json!({"code": self.code(), "error": self.to_string()}).to_string()
    }
}

/// Code and text of a status that a fault orders.
fn ordered(status: u16) -> (&'static str, &'static str) {
    match status {
        410 => ("gone", "Live search is deprecated. Please switch to the Agent Tools API."),
        422 => (
            "invalid-argument",
            "Failed to deserialize the JSON body into the target type: invalid field",
        ),
        503 => ("unavailable", "The service is currently unavailable. Please try again later."),
        _ => ("internal", "An internal error occurred."),
    }
}

/// A key as an error message may show it: its ends.
pub fn masked(key: &str) -> String {
    let (head, tail) = (
        key.get(..2).unwrap_or_default(),
        key.get(key.len().saturating_sub(2)..).unwrap_or_default(),
    );
    format!("{head}***{tail}")
}
