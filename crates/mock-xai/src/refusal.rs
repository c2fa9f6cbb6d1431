//! All refusals of the simulator, in xAI's shape: `{"code": …, "error": …}`.

use crate::account_error::AccountError;
use crate::request::InvalidBody;
use crate::settings::InvalidOverride;
use crate::strictness::NotSupported;
use http::StatusCode;

/// The reason a request is refused.
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
    InvalidBody(#[from] InvalidBody),
    #[error(transparent)]
    InvalidOverride(#[from] InvalidOverride),
    #[error("The request body is larger than the limit.")]
    TooLarge,
    #[error(
        "Too many requests for team 00000000-0000-4000-8000-000000000000 and model grok-4.3. \
         Your team's rate limit is Requests per Second (actual/limit): 2/2."
    )]
    TooMany { retry_after: u64 },
    #[error("{}", forced_status(*.0).1)]
    ForcedStatus(u16),
    #[error("the account of the simulated operator: {}", .0.name())]
    AccountError(AccountError),
    #[error("Invalid arguments: 'messages[0].content' has a part that the model cannot read.")]
    InvalidArguments,
    #[error("This model's maximum prompt length is 131072 but the request contains 131073 tokens.")]
    PromptTooLong,
    #[error("Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_SIMULATED")]
    ForbiddenPrompt,
    #[error("Your request was rejected as a result of our safety system.")]
    ContentPolicy,
    #[error("Unknown parameter: 'stream_options'.")]
    StreamOptions,
    #[error("The encrypted content of an item could not be verified.")]
    ForeignSeal,
    #[error(transparent)]
    NotSupported(#[from] NotSupported),
    #[error("Not Found")]
    NotOffered,
    #[error("The answer would have more choices or tokens than the simulator generates.")]
    AnswerTooLarge,
    #[error(
        "The backend grok-gpu-7.internal.example:8443 (10.1.2.3, fd00::17) refused the key {key} of \
         operator@example.com; see https://admin.internal.example/teams/42."
    )]
    LeakedSecrets { key: String },
}

impl Refusal {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoKey => StatusCode::UNAUTHORIZED,
            Self::WrongKey { .. }
            | Self::InvalidOverride(_)
            | Self::InvalidArguments
            | Self::PromptTooLong
            | Self::ContentPolicy
            | Self::StreamOptions
            | Self::ForeignSeal
            | Self::AnswerTooLarge
            | Self::LeakedSecrets { .. } => StatusCode::BAD_REQUEST,
            Self::ForbiddenPrompt => StatusCode::FORBIDDEN,
            Self::AccountError(account_error) => account_error.status(),
            Self::NotSupported(not_supported) => not_supported.status(),
            Self::UnknownModel(_)
            | Self::UnknownResponse(_)
            | Self::UnknownRoute
            | Self::NotOffered => StatusCode::NOT_FOUND,
            Self::InvalidBody(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::ForcedStatus(status) => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoKey => "unauthenticated",
            Self::WrongKey { .. }
            | Self::InvalidOverride(_)
            | Self::InvalidBody(_)
            | Self::TooLarge
            | Self::PromptTooLong
            | Self::AnswerTooLarge => "invalid-argument",
            Self::UnknownModel(_)
            | Self::UnknownResponse(_)
            | Self::UnknownRoute
            | Self::NotOffered => "not-found",
            Self::NotSupported(not_supported) => not_supported.code(),
            Self::TooMany { .. } => "resource-exhausted",
            Self::InvalidArguments => "invalid_arguments",
            Self::StreamOptions => "unknown_parameter",
            Self::ForeignSeal => "invalid_encrypted_content",
            Self::ContentPolicy => "content_policy_violation",
            Self::LeakedSecrets { .. } | Self::AccountError(_) | Self::ForbiddenPrompt => {
                "permission-denied"
            }
            Self::ForcedStatus(status) => forced_status(*status).0,
        }
    }

    /// The invalid field, for refusals in `OpenAI`'s shape.
    fn param(&self) -> Option<&'static str> {
        match self {
            Self::InvalidArguments | Self::ContentPolicy => Some("messages[0].content"),
            Self::StreamOptions => Some("stream_options"),
            Self::ForeignSeal => Some("input"),
            _ => None,
        }
    }

    /// The refusal as the first event of a stream of chat chunks or completions.
    pub fn chat_event(&self) -> String {
        format!("data: {}\n\n", self.json())
    }

    /// The refusal as the first event of a stream of `/v1/responses`.
    pub fn responses_event(&self) -> String {
        let (code, message, param) = (self.code(), self.to_string(), self.param());
        let error = serde_json::json!({"type": "error", "code": code, "message": message, "param": param, "sequence_number": 0});
        format!("event: error\ndata: {error}\n\n")
    }

    /// The refusal as the first event of a stream of `/v1/messages`.
    pub fn messages_event(&self) -> String {
        let error =
            serde_json::json!({"type": "invalid_request_error", "message": self.to_string()});
        let event = serde_json::json!({"type": "error", "error": error});
        format!("event: error\ndata: {event}\n\n")
    }

    /// The reply's JSON body.
    pub fn json(&self) -> String {
        if let Self::AccountError(account_error) = self {
            return account_error.json();
        }
        if let Self::NotOffered = self {
            // Servers of open models answer unknown paths so.
            return serde_json::json!({"detail": self.to_string()}).to_string();
        }
        if let Some(param) = self.param() {
            let (code, message) = (self.code(), self.to_string());
            let error = serde_json::json!({"message": message, "type": "invalid_request_error", "param": param, "code": code});
            return serde_json::json!({"error": error}).to_string();
        }
        serde_json::json!({"code": self.code(), "error": self.to_string()}).to_string()
    }
}

/// Code and text of a status that a fault orders.
fn forced_status(status: u16) -> (&'static str, &'static str) {
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
pub fn mask(key: &str) -> String {
    let (head, tail) = (
        key.get(..2).unwrap_or_default(),
        key.get(key.len().saturating_sub(2)..).unwrap_or_default(),
    );
    format!("{head}***{tail}")
}
