//! OpenAI's error object, and the upstream's errors read into it.
//!
//! The only place that decides what a client learns of an upstream's failure; how upstreams
//! word it is known to [`super::upstream_error_body`]. Invariant: what concerns the operator's
//! account (a wrong key, used-up credits) never reaches the caller as the caller's own fault,
//! and no message carries keys, account ids or addresses.

use super::redact::{Redactor, redact};
use super::upstream_error_body::{RawUpstreamError, may_have_error};
use serde_json::Value;
use std::borrow::Cow;

/// The error object of OpenAI's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    pub message: String,
    /// The field `type` of the JSON.
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: Option<Cow<'static, str>>,
    /// Numbers for programs, as the JSON field `details`; absent from most errors.
    pub details: Option<Box<Value>>,
}

/// An upstream's error, ready for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    pub fault: Fault,
    /// The status that the client receives.
    pub status: u16,
    pub body: ErrorBody,
    /// The upstream's own message, redacted; empty if it sent none.
    upstream_message: String,
    /// The upstream's own code, where it is one that clients may know.
    upstream_code: Option<Cow<'static, str>>,
    upstream_param: Option<String>,
    /// It is the `stream_options` of the request that the upstream does not take.
    pub refuses_stream_options: bool,
}

/// The cause of an upstream's error, which decides who may retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request itself: no upstream would take it.
    Request,
    /// The prompt does not fit the model.
    TooLong,
    /// The upstream does not have the model.
    Model,
    /// The upstream's content rules forbid the request or its answer.
    Content,
    /// The request has reasoning that another upstream has sealed.
    Sealed,
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

impl ErrorBody {
    /// The error as it goes out: `{"error":{…}}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let [message, kind] = [self.message.as_str(), self.kind].map(Value::from);
        let [param, code] = [self.param.as_deref(), self.code.as_deref()].map(Value::from);
        let details = self.details.as_ref();
        let details = details.map_or_else(String::new, |value| format!(",\"details\":{value}"));
        format!(
            "{{\"error\":{{\"message\":{message},\"type\":{kind},\"param\":{param},\"code\":{code}{details}}}}}"
        )
    }
}

impl Fault {
    /// The value of the field `fault` in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::TooLong => "too-long",
            Self::Model => "model",
            Self::Content => "content",
            Self::Sealed => "sealed-elsewhere",
            Self::Rate => "rate",
            Self::OperatorKey => "operator-key",
            Self::OperatorQuota => "operator-quota",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
        }
    }

    /// True if another upstream may succeed.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        !matches!(self, Self::Request | Self::TooLong | Self::Content)
    }
}

impl UpstreamError {
    /// Reads a reply whose status is not a success.
    #[must_use]
    pub fn read(status: u16, content_type: Option<&str>, body: &[u8]) -> Self {
        let is_html = content_type.is_some_and(|kind| kind.contains("html"));
        let raw = if is_html { RawUpstreamError::default() } else { RawUpstreamError::read(body) };
        Self::translate(status, &raw)
    }

    /// The error in a whole reply with a success status, if it is one: xAI answers some failures
    /// with 200 and an error body.
    #[must_use]
    pub fn in_reply(body: &[u8]) -> Option<Self> {
        if !may_have_error(body) {
            return None;
        }
        let raw = RawUpstreamError::read(body);
        let is_error = raw.has_error && !raw.has_choices;
        is_error.then(|| Self::translate(raw.implied_status(), &raw))
    }

    /// The error in the data of an event that may be anything else; `None` when it is no error.
    #[must_use]
    pub fn in_band(data: &[u8]) -> Option<Self> {
        if !may_have_error(data) {
            return None;
        }
        let raw = RawUpstreamError::read(data);
        raw.has_error.then(|| Self::translate(raw.implied_status(), &raw))
    }

    /// The error in the data of an event whose name says that it is one.
    #[must_use]
    pub fn of_event(data: &[u8]) -> Self {
        let raw = RawUpstreamError::read(data);
        Self::translate(raw.implied_status(), &raw)
    }

    /// Removes from it what is configured for the upstream that sent it.
    #[must_use]
    pub fn redacted(mut self, redactor: &Redactor) -> Self {
        // What is in the gateway's own words stays: a key may contain one of them.
        let is_message_theirs = self.body.message == self.upstream_message;
        let is_param_theirs = self.body.param == self.upstream_param;
        let is_code_theirs = self.body.code == self.upstream_code;
        let is_clean = |code: &Cow<'static, str>| redactor.redact(code) == *code;
        self.upstream_message = redactor.redact(&self.upstream_message);
        self.upstream_param = self.upstream_param.map(|param| redactor.redact(&param));
        self.upstream_code = self.upstream_code.filter(is_clean);
        if is_message_theirs {
            self.body.message.clone_from(&self.upstream_message);
        }
        if is_param_theirs {
            self.body.param.clone_from(&self.upstream_param);
        }
        if is_code_theirs {
            self.body.code.clone_from(&self.upstream_code);
        }
        self
    }

    /// True if the upstream's `message` may be relayed unchanged: it is about the caller's request and
    /// reveals nothing of the operator.
    #[must_use]
    pub fn can_relay(&self, message: &str) -> bool {
        !self.concerns_operator() && self.upstream_message == message
    }

    /// The error to report once the reply has begun: the upstream's own message, unless it is about the
    /// operator's account.
    #[must_use]
    pub fn in_stream(self) -> ErrorBody {
        if self.concerns_operator() {
            let message =
                format!("The response is incomplete: {}", lower_first(&self.body.message));
            return ErrorBody { message, ..self.body };
        }
        let code =
            self.upstream_code.or_else(|| self.body.code.filter(|_| !self.fault.is_retriable()));
        let reason = if self.upstream_message.trim().is_empty() {
            "the upstream reported an error."
        } else {
            &self.upstream_message
        };
        ErrorBody {
            message: format!("The response is incomplete: {reason}"),
            kind: if self.fault.is_retriable() { "server_error" } else { self.body.kind },
            param: self.upstream_param.or(self.body.param),
            code: code.or(Some(Cow::Borrowed("upstream_cut"))),
            details: None,
        }
    }

    fn concerns_operator(&self) -> bool {
        matches!(self.fault, Fault::Rate | Fault::OperatorKey | Fault::OperatorQuota)
    }

    fn translate(status: u16, raw: &RawUpstreamError) -> Self {
        let fault = raw.fault(status);
        let detail = redact(&raw.message);
        let (status, kind, code) = client_status(fault, status);
        let is_request = status == 400;
        let message =
            gateway_message(fault).map_or_else(|| client_message(fault, &detail), str::to_owned);
        let upstream_param = raw.param.as_deref().map(redact);
        let upstream_code = raw.openai_code().filter(|code| redact(code) == **code);
        let (param, code) = match fault {
            Fault::Request => (upstream_param.clone(), upstream_code.clone()),
            Fault::Sealed | Fault::Content if is_request => {
                (upstream_param.clone(), upstream_code.clone().or(code.map(Cow::Borrowed)))
            }
            Fault::TooLong => (Some("messages".to_owned()), code.map(Cow::Borrowed)),
            Fault::Model => (Some("model".to_owned()), code.map(Cow::Borrowed)),
            _ => (None, code.map(Cow::Borrowed)),
        };
        let kind = if raw.is_about_tokens(fault) { "tokens" } else { kind };
        Self {
            fault,
            status,
            body: ErrorBody { message, kind, param, code, details: None },
            upstream_message: detail,
            upstream_code,
            upstream_param,
            refuses_stream_options: fault == Fault::Request && raw.is_about_stream_options(),
        }
    }
}

/// Status, type and code that the client receives: the one table.
fn client_status(fault: Fault, upstream: u16) -> (u16, &'static str, Option<&'static str>) {
    const REQUEST: &str = "invalid_request_error";
    match fault {
        Fault::Request if upstream == 413 => (413, REQUEST, None),
        Fault::Request => (400, REQUEST, None),
        Fault::TooLong => (400, REQUEST, Some("context_length_exceeded")),
        Fault::Model => (404, REQUEST, Some("model_not_found")),
        Fault::Sealed => (400, REQUEST, Some("invalid_encrypted_content")),
        Fault::Content if matches!(upstream, 400 | 422) => {
            (400, REQUEST, Some("content_policy_violation"))
        }
        Fault::Content => (403, REQUEST, Some("content_policy_violation")),
        Fault::Rate => (429, "requests", Some("rate_limit_exceeded")),
        Fault::OperatorKey => (502, "server_error", Some("upstream_auth")),
        Fault::OperatorQuota => (503, "server_error", Some("upstream_quota")),
        Fault::Unavailable => (503, "server_error", Some("upstream_unavailable")),
        Fault::Timeout => (504, "server_error", Some("upstream_timeout")),
        Fault::Broken => (502, "server_error", Some("upstream_error")),
    }
}

/// The gateway's own message, where the upstream's is for the operator only.
fn gateway_message(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Request | Fault::TooLong | Fault::Model | Fault::Content | Fault::Sealed => None,
        Fault::Rate => {
            Some("The model's upstream is rate limited right now. Please try again shortly.")
        }
        Fault::OperatorKey => Some(
            "The gateway failed to authenticate with the model's upstream. Contact the operator of this gateway.",
        ),
        Fault::OperatorQuota => Some(
            "The gateway's account at the model's upstream is exhausted. Contact the operator of this gateway.",
        ),
        Fault::Unavailable => {
            Some("The model's upstream is unavailable right now. Please try again.")
        }
        Fault::Timeout => Some("The model's upstream did not respond in time."),
        Fault::Broken => Some("The model's upstream failed to process this request."),
    }
}

/// The upstream's own message, where it is about the caller's request.
fn client_message(fault: Fault, redacted: &str) -> String {
    let lower = redacted.to_ascii_lowercase();
    let is_of_account =
        ["team", "organization", "project", "account"].iter().any(|word| lower.contains(word));
    if fault == Fault::Model && is_of_account {
        return "The model's upstream does not offer this model.".to_owned();
    }
    if redacted.trim().is_empty() {
        return "The model's upstream rejected this request.".to_owned();
    }
    redacted.to_owned()
}

fn lower_first(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().collect::<String>()).unwrap_or_default()
        + letters.as_str()
}

#[cfg(test)]
mod tests;
