//! Errors of the operator's account: its credits are used up or its key is wrong. Each has the shape of the
//! upstream that sends it, and many look like an error in the request.

use http::StatusCode;
use serde_json::{Value, json};

/// An error of the operator's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountError {
    /// Credits used up, as Anthropic reports it: 400.
    CreditBalance,
    /// Payment overdue, as Alibaba reports it: 400.
    Arrearage,
    /// Billing limit reached, as `OpenAI` reports it: 400.
    BillingLimit,
    /// Spending limit reached, as xAI reports it: 403.
    SpendingLimit,
    /// Balance used up, as `DeepSeek` reports it: 402.
    NoBalance,
    /// Quota used up, as `OpenAI` reports it: 429.
    NoQuota,
    /// Key not valid, as Google reports it: 400.
    KeyNotValid,
}

const NAMES: [(&str, AccountError); 7] = [
    ("credit-balance", AccountError::CreditBalance),
    ("arrearage", AccountError::Arrearage),
    ("billing-limit", AccountError::BillingLimit),
    ("spending-limit", AccountError::SpendingLimit),
    ("no-balance", AccountError::NoBalance),
    ("no-quota", AccountError::NoQuota),
    ("key-not-valid", AccountError::KeyNotValid),
];

impl AccountError {
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, account_error)| *account_error)
    }

    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, account_error)| *account_error == self)
            .map_or("none", |(name, _)| name)
    }

    pub fn status(self) -> StatusCode {
        match self {
            Self::SpendingLimit => StatusCode::FORBIDDEN,
            Self::NoBalance => StatusCode::PAYMENT_REQUIRED,
            Self::NoQuota => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The reply's JSON body.
    pub fn json(self) -> String {
        let openai = |message: &str, kind: &str, code: &str| json!({"error": {"message": message, "type": kind, "param": Value::Null, "code": code}});
        let body = match self {
            Self::CreditBalance => {
                let message =
                    "Your credit balance is too low to access the API. Please add credits.";
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}})
            }
            Self::Arrearage => openai(
                "Access denied: the account is not in good standing.",
                "Arrearage",
                "Arrearage",
            ),
            Self::BillingLimit => openai(
                "Billing hard limit has been reached",
                "invalid_request_error",
                "billing_hard_limit_reached",
            ),
            Self::SpendingLimit => json!({
                "code": "permission-denied",
                "error": "Your team 00000000-0000-4000-8000-000000000000 has used all available credits or reached its monthly spending limit.",
            }),
            Self::NoBalance => {
                openai("Insufficient Balance", "unknown_error", "invalid_request_error")
            }
            Self::NoQuota => openai(
                "You exceeded your current quota, please check your plan and billing details.",
                "insufficient_quota",
                "insufficient_quota",
            ),
            Self::KeyNotValid => json!({"error": {
                "code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid. Please pass a valid API key.",
            }}),
        };
        body.to_string()
    }
}
