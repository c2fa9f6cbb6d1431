//! A refusal as a response, and the forms that several refusals share.

use serde_json::Value;
use std::borrow::Cow;
use wire::error::ErrorBody;

/// A refusal as it goes out.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: ErrorBody,
    pub headers: Vec<(&'static str, String)>,
    /// True if the connection must be closed, because its framing can no longer be trusted.
    pub close: bool,
}

impl Answer {
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn about(mut self, param: &str) -> Self {
        self.body.param = Some(param.to_owned());
        self
    }

    pub(super) fn with_details(mut self, details: Option<Value>) -> Self {
        self.body.details = details.map(Box::new);
        self
    }

    pub(super) fn closed(mut self) -> Self {
        self.close = true;
        self
    }
}

fn error(
    status: u16,
    kind: &'static str,
    text: impl Into<String>,
    code: Option<&'static str>,
) -> Answer {
    let (message, code) = (text.into(), code.map(Cow::Borrowed));
    let body = ErrorBody { message, kind, code, param: None, details: None };
    Answer { status, body, headers: Vec::new(), close: false }
}

pub(super) fn invalid(status: u16, text: impl Into<String>, code: Option<&'static str>) -> Answer {
    error(status, "invalid_request_error", text, code)
}

pub(super) fn closing(status: u16, text: impl Into<String>, code: Option<&'static str>) -> Answer {
    invalid(status, text, code).closed()
}

pub(super) fn server(status: u16, text: &str, code: &'static str) -> Answer {
    error(status, "server_error", text, Some(code))
}

pub(super) fn unauthorized(text: &str, code: Option<&'static str>) -> Answer {
    invalid(401, text, code).with("www-authenticate", "Bearer realm=\"knockx\"")
}

/// A refusal that a retry will overcome: OpenAI's SDKs honor the delay and retry.
pub(super) fn limited(
    text: impl Into<String>,
    kind: &'static str,
    code: &'static str,
    wait_ms: u64,
) -> Answer {
    error(429, kind, text, Some(code))
        .with("retry-after", wait_ms.div_ceil(1000).max(1).to_string())
        .with("retry-after-ms", wait_ms.max(1).to_string())
}

/// A refusal that lasts until the day ends: `x-should-retry` stops OpenAI's SDKs, the code
/// `insufficient_quota` stops LangChain's.
pub(super) fn exhausted(text: String, wait_ms: u64) -> Answer {
    error(429, "insufficient_quota", text, Some("insufficient_quota"))
        .with("retry-after", wait_ms.div_ceil(1000).max(1).to_string())
        .with("x-should-retry", "false")
}
