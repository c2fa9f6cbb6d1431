//! OpenAI's error object, and the upstream's errors read into it.
//!
//! The only place that knows how upstreams say no. Invariant: what concerns the operator's
//! account (a wrong key, used-up credits) never reaches the caller as the caller's own fault,
//! and no message carries keys, account ids or addresses.

use super::json;
use super::redact::redact;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// OpenAI's error object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    pub message: String,
    /// `type` on the wire.
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: Option<Cow<'static, str>>,
}

/// An upstream's error, ready for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    pub fault: Fault,
    /// The status the caller gets.
    pub status: u16,
    pub body: ErrorBody,
    /// What the upstream said, redacted, for the operator's log only.
    pub detail: String,
}

/// Whose fault it is, and so who may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request itself: no upstream would take it.
    Request,
    /// The prompt does not fit the model.
    TooLong,
    /// The upstream does not have the model.
    Model,
    /// The upstream's content rules.
    Content,
    /// The upstream limits the operator's rate.
    Rate,
    /// The operator's key is wrong, blocked or not allowed to do this.
    OperatorKey,
    /// The operator's credits are used up.
    OperatorQuota,
    /// The upstream is overloaded or being repaired.
    Unavailable,
    /// The upstream waited too long for itself.
    Timeout,
    /// Anything else that went wrong on the other side.
    Broken,
}

/// What the shapes of errors have in common: xAI's `{"code","error"}`, `{"error":"text"}`, and
/// OpenAI's `{"error":{"message","type","param","code"}}`.
#[derive(Debug, Default)]
struct Said {
    message: String,
    code: Option<String>,
    param: Option<String>,
    /// The body was JSON with an error in it.
    understood: bool,
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

impl ErrorBody {
    /// The error as it goes out: `{"error":{…}}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
        .to_string()
    }
}

impl Fault {
    /// Whether another upstream may do better.
    #[must_use]
    pub fn retriable(self) -> bool {
        !matches!(self, Self::Request | Self::TooLong | Self::Content)
    }

    /// Whether it speaks against the upstream's health.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(self, Self::OperatorKey | Self::OperatorQuota | Self::Unavailable | Self::Timeout | Self::Broken)
    }
}

impl UpstreamError {
    /// Reads a reply whose status is not a success.
    #[must_use]
    pub fn read(status: u16, content_type: Option<&str>, body: &[u8]) -> Self {
        let is_html = content_type.is_some_and(|kind| kind.contains("html"));
        let said = if is_html { Said::default() } else { Said::read(body) };
        Self::translate(status, said)
    }

    /// The error in a whole reply with a success status, if it is one: xAI answers some failures
    /// with 200 and an error body.
    #[must_use]
    pub fn in_reply(body: &[u8]) -> Option<Self> {
        let outer: Outer<'_> = serde_json::from_slice(body).ok()?;
        let is_answer = outer.choices.is_some_and(|raw| !json::is_null(raw));
        let is_error = outer.error.is_some_and(|raw| !json::is_null(raw));
        (is_error && !is_answer).then(|| Self::in_band(body))?
    }

    /// The error in an event of a stream that had begun.
    #[must_use]
    pub fn in_band(data: &[u8]) -> Option<Self> {
        let said = Said::read(data);
        said.understood.then(|| Self::translate(said.implied_status(), said))
    }

    fn translate(status: u16, said: Said) -> Self {
        let fault = said.fault(status);
        let detail = redact(&said.message);
        let (status, kind, code) = answer(fault, status);
        let message = own_words(fault).map_or_else(|| said.for_caller(&detail), str::to_owned);
        let (param, code) = match fault {
            Fault::Request => (said.param.clone(), said.openai_code()),
            Fault::TooLong => (Some("messages".to_owned()), code.map(Cow::Borrowed)),
            Fault::Model => (Some("model".to_owned()), code.map(Cow::Borrowed)),
            _ => (None, code.map(Cow::Borrowed)),
        };
        let kind = if said.is_about_tokens(fault) { "tokens" } else { kind };
        Self { fault, status, body: ErrorBody { message, kind, param, code }, detail }
    }
}

/// Status, type and code the caller gets: the one table.
fn answer(fault: Fault, upstream: u16) -> (u16, &'static str, Option<&'static str>) {
    const REQUEST: &str = "invalid_request_error";
    match fault {
        Fault::Request if upstream == 413 => (413, REQUEST, None),
        Fault::Request => (400, REQUEST, None),
        Fault::TooLong => (400, REQUEST, Some("context_length_exceeded")),
        Fault::Model => (404, REQUEST, Some("model_not_found")),
        Fault::Content => (403, REQUEST, Some("content_policy_violation")),
        Fault::Rate => (429, "requests", Some("rate_limit_exceeded")),
        Fault::OperatorKey => (502, "server_error", Some("upstream_auth")),
        Fault::OperatorQuota => (503, "server_error", Some("upstream_quota")),
        Fault::Unavailable => (503, "server_error", Some("upstream_unavailable")),
        Fault::Timeout => (504, "server_error", Some("upstream_timeout")),
        Fault::Broken => (502, "server_error", Some("upstream_error")),
    }
}

/// What the caller reads where the upstream's own words are for the operator.
fn own_words(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Request | Fault::TooLong | Fault::Model | Fault::Content => None,
        Fault::Rate => Some("The model's upstream is rate limited right now. Please try again shortly."),
        Fault::OperatorKey => Some("The gateway could not authenticate with the model's upstream."),
        Fault::OperatorQuota => Some("The gateway's account at the model's upstream is exhausted."),
        Fault::Unavailable => Some("The model's upstream is unavailable right now. Please try again."),
        Fault::Timeout => Some("The model's upstream took too long to answer."),
        Fault::Broken => Some("The model's upstream failed to answer this request."),
    }
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let Ok(outer) = serde_json::from_slice::<Outer<'_>>(body) else { return Self::default() };
        let given = |raw: Option<&RawValue>| {
            raw.filter(|raw| !json::is_null(raw)).map(|raw| json::text(raw).into_owned())
        };
        let mut said = Self { code: given(outer.code), ..Self::default() };
        let error = outer.error.filter(|raw| !json::is_null(raw));
        match error.map(|raw| (raw, serde_json::from_str::<Inner<'_>>(raw.get()))) {
            Some((_, Ok(inner))) => {
                said.message = given(inner.message).unwrap_or_default();
                said.param = given(inner.param).map(|param| redact(&param));
                said.code = given(inner.code).or(given(inner.kind)).or(said.code);
            }
            Some((raw, Err(_))) => said.message = json::text(raw).into_owned(),
            None => said.message = given(outer.message).or(given(outer.detail)).unwrap_or_default(),
        }
        said.understood = error.is_some() || !said.message.is_empty();
        said
    }

    fn fault(&self, status: u16) -> Fault {
        let message = self.message.trim().to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let code = self.code_word();
        match status {
            401 | 407 => Fault::OperatorKey,
            // Only at the start, so that a message quoting the caller's text cannot pose as one.
            400 | 403 if message.starts_with("incorrect api key") || message.starts_with("invalid api key") => {
                Fault::OperatorKey
            }
            400 | 403 if code == "invalid-api-key" => Fault::OperatorKey,
            402 => Fault::OperatorQuota,
            403 | 429 if is_out_of_money(&code) || has(&OUT_OF_MONEY) => Fault::OperatorQuota,
            429 => Fault::Rate,
            403 if has(&["usage guidelines", "safety", "content policy"]) => Fault::Content,
            403 => Fault::OperatorKey,
            400 | 413 | 422 if code == "context-length-exceeded" || has(&TOO_LONG) => Fault::TooLong,
            404 if self.understood => Fault::Model,
            404 | 405 => Fault::Broken,
            408 | 504 | 524 => Fault::Timeout,
            400..=499 if self.understood || status != 400 => Fault::Request,
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
    fn implied_status(&self) -> u16 {
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
    fn openai_code(&self) -> Option<Cow<'static, str>> {
        let code = self.code.as_deref().filter(|code| code.contains('_') && code.len() <= 64)?;
        let is_word = code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (is_word && code != "invalid_request_error").then(|| Cow::Owned(code.to_owned()))
    }

    fn for_caller(&self, redacted: &str) -> String {
        if redacted.trim().is_empty() {
            return "The model's upstream refused this request.".to_owned();
        }
        redacted.to_owned()
    }

    fn is_about_tokens(&self, fault: Fault) -> bool {
        fault == Fault::Rate && self.message.to_ascii_lowercase().contains("tokens per")
    }
}

const OUT_OF_MONEY: [&str; 5] =
    ["available credits", "spending limit", "exceeded your current quota", "billing", "credit balance"];
const TOO_LONG: [&str; 4] =
    ["maximum prompt length", "maximum context length", "context window", "prompt is too long"];

fn is_out_of_money(code: &str) -> bool {
    code == "insufficient-quota" || code.contains("spend-limit") || code.contains("usage-limit")
        || code.contains("credit")
}

#[cfg(test)]
#[path = "tests/error.rs"]
mod tests;
