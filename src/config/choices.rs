//! Configuration values that are one of a few words.

use super::mail::MailTls;
use super::value::{FromConfig, RawValue};
use super::{Billing, Durability, Environment, LogFormat};
use crate::upstream::catalog::OnHangUp;
use wire::dialect::Dialect;
use wire::request::LimitField;

/// The choice whose word the value is.
fn choose<T: Copy, const N: usize>(value: &RawValue, choices: [(&str, T); N]) -> Option<T> {
    let text = value.text()?;
    choices.into_iter().find(|(word, _)| *word == text).map(|(_, choice)| choice)
}

impl FromConfig for Environment {
    fn expected() -> String {
        "development or production".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(value, [("development", Self::Development), ("production", Self::Production)])
    }
}

impl FromConfig for Durability {
    fn expected() -> String {
        "process or power".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(value, [("process", Self::Process), ("power", Self::Power)])
    }
}

impl FromConfig for Billing {
    fn expected() -> String {
        "open or manual (stripe is not built yet)".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(value, [("open", Self::Open), ("manual", Self::Manual)])
    }
}

impl FromConfig for LogFormat {
    fn expected() -> String {
        "pretty or json".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(value, [("pretty", Self::Pretty), ("json", Self::Json)])
    }
}

impl FromConfig for MailTls {
    fn expected() -> String {
        "starttls, implicit or none".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(
            value,
            [("starttls", Self::Starttls), ("implicit", Self::Implicit), ("none", Self::None)],
        )
    }
}

impl FromConfig for LimitField {
    fn expected() -> String {
        "max_completion_tokens or max_tokens".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(
            value,
            [("max_completion_tokens", Self::MaxCompletionTokens), ("max_tokens", Self::MaxTokens)],
        )
    }
}

impl FromConfig for Dialect {
    fn expected() -> String {
        "openai, xai or chat_only".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(value, [("openai", Self::OpenAi), ("xai", Self::Xai), ("chat_only", Self::ChatOnly)])
    }
}

impl FromConfig for OnHangUp {
    fn expected() -> String {
        "cancel or drain".to_owned()
    }

    fn from_value(value: &RawValue) -> Option<Self> {
        choose(value, [("cancel", Self::Cancel), ("drain", Self::Drain)])
    }
}
