//! What an upstream says when it says no: the shapes and the words.
//!
//! Reads xAI's `{"code","error"}`, with codes in kebab case or in gRPC's sentences,
//! `{"error":"text"}`, and OpenAI's `{"error":{"message","type","param","code"}}`; finds out whose
//! fault it is. What the caller is told of it is decided in [`super::error`].

use super::error::Fault;
use super::json;
use super::redact::redact;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What the shapes of errors have in common.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    pub message: String,
    pub param: Option<String>,
    code: Option<String>,
    /// There is an `error` that is not null.
    pub has_error: bool,
    /// The body is an answer, whatever else it is.
    pub has_choices: bool,
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// FastAPI's name for it.
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Inner<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    param: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
}

impl Complaint {
    /// Reads a body; one that is no error leaves everything empty.
    pub fn read(body: &[u8]) -> Self {
        let Some(outer) = json::object::<Outer<'_>>(body) else { return Self::default() };
        let given = |raw: Option<&RawValue>| {
            raw.filter(|raw| !json::is_null(raw)).map(|raw| json::text(raw).into_owned())
        };
        let mut said = Self { code: given(outer.code), ..Self::default() };
        let error = outer.error.filter(|raw| !json::is_null(raw));
        match error.map(|raw| (raw, json::object::<Inner<'_>>(raw.get().as_bytes()))) {
            Some((_, Some(inner))) => {
                said.message = given(inner.message).unwrap_or_default();
                said.param = given(inner.param).map(|param| redact(&param));
                said.code = given(inner.code).or(given(inner.kind)).or(said.code);
            }
            Some((raw, None)) => said.message = json::text(raw).into_owned(),
            None => said.message = given(outer.message).or(given(outer.detail)).unwrap_or_default(),
        }
        said.has_error = error.is_some();
        said.has_choices = outer.choices.is_some_and(|raw| !json::is_null(raw));
        said
    }

    /// The body was JSON with an error in it.
    pub fn understood(&self) -> bool {
        self.has_error || !self.message.is_empty()
    }

    /// Whose fault it is.
    pub fn fault(&self, status: u16) -> Fault {
        let message = self.message.trim().to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let code = self.code_word();
        // Only at the start, so that a message quoting the caller's text cannot pose as one.
        let has_bad_key = BAD_KEY.iter().any(|words| message.starts_with(words));
        match status {
            400 if code == "invalid-api-key" || has_bad_key => Fault::OperatorKey,
            402 => Fault::OperatorQuota,
            403 | 429 if is_out_of_money(&code) || has(&OUT_OF_MONEY) => Fault::OperatorQuota,
            429 => Fault::Rate,
            403 if has(&["usage guidelines", "safety", "content policy"]) => Fault::Content,
            401 | 403 | 407 => Fault::OperatorKey,
            400 | 413 | 422 if code == "context-length-exceeded" || has(&TOO_LONG) => {
                Fault::TooLong
            }
            404 if self.understood() => Fault::Model,
            404 | 405 => Fault::Broken,
            408 | 504 | 524 => Fault::Timeout,
            400..=499 if self.understood() || status != 400 => Fault::Request,
            503 | 529 => Fault::Unavailable,
            _ => Fault::Broken,
        }
    }

    /// The code in one spelling: `-` between lower-case words.
    fn code_word(&self) -> String {
        let code = self.code.as_deref().unwrap_or_default();
        code.to_ascii_lowercase().replace(['_', ' '], "-")
    }

    /// The HTTP status that would have come with this error, had it not come after a 200.
    pub fn implied_status(&self) -> u16 {
        let code = self.code_word();
        let says = |words: &[&str]| words.iter().any(|word| code.contains(word));
        if let Ok(status @ 400..=599) = code.parse() {
            status
        } else if says(&["exhausted", "rate-limit", "insufficient-quota"]) {
            429
        } else if says(&["invalid-api-key", "unauthenticated", "authentication"]) {
            401
        } else if says(&["permission"]) {
            403
        } else if says(&["not-found"]) {
            404
        } else if says(&["invalid", "context-length", "unknown-parameter"]) {
            400
        } else if says(&["deadline", "timeout"]) {
            504
        } else if says(&["internal", "server-error"]) {
            500
        } else {
            503
        }
    }

    /// The code to hand on where the upstream speaks OpenAI's dialect; gRPC's words mean nothing
    /// to OpenAI's clients.
    pub fn openai_code(&self) -> Option<Cow<'static, str>> {
        let code = self.code.as_deref().filter(|code| code.contains('_') && code.len() <= 64)?;
        let is_word = code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (is_word && code != "invalid_request_error").then(|| Cow::Owned(code.to_owned()))
    }

    /// The limit that was hit is one of tokens rather than requests.
    pub fn is_about_tokens(&self, fault: Fault) -> bool {
        fault == Fault::Rate && self.message.to_ascii_lowercase().contains("tokens per")
    }
}

const BAD_KEY: [&str; 2] = ["incorrect api key", "invalid api key"];
const OUT_OF_MONEY: [&str; 5] = [
    "available credits",
    "spending limit",
    "exceeded your current quota",
    "billing",
    "credit balance",
];
const TOO_LONG: [&str; 4] =
    ["maximum prompt length", "maximum context length", "context window", "prompt is too long"];

fn is_out_of_money(code: &str) -> bool {
    code == "insufficient-quota"
        || code.contains("spend-limit")
        || code.contains("usage-limit")
        || code.contains("credit")
}
