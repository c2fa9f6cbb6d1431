//! Errors: read from either of OpenAI's surfaces, written in the caller's shape.

use super::event::Failure;
use super::json_writer::JsonWriter;
use super::object::Object;

/// Codes of a failed response that clients know: those of OpenAI's schema that the gateway or an upstream of another
/// API can mean, and two beyond it that OpenAI sends and Codex reads.
const RESPONSE_CODES: [&str; 7] = [
    "server_error",
    "rate_limit_exceeded",
    "invalid_prompt",
    "invalid_image",
    "image_content_policy_violation",
    "context_length_exceeded",
    "insufficient_quota",
];

impl Failure {
    /// Reads `error` objects and the flat form of `event: error`.
    pub fn read(object: &Object<'_>) -> Self {
        let error = object.object_leniently("error");
        let error = if error.has("message") { &error } else { object };
        let text = |name| error.text_leniently(name).map(std::borrow::Cow::into_owned);
        let flat = object.text_leniently("error").map(std::borrow::Cow::into_owned);
        let message = text("message").or(flat).filter(|message| !message.trim().is_empty());
        Self {
            message: message.unwrap_or_else(|| "The upstream reported an error.".to_owned()),
            kind: text("type").filter(|kind| kind != "error"),
            code: text("code"),
            param: text("param"),
        }
    }

    /// Writes `{"message","type","param","code"}`.
    pub fn write_openai(&self, error: &mut JsonWriter<'_>) {
        error.text("message", &self.message);
        error.text("type", self.kind.as_deref().unwrap_or("server_error"));
        error.text_or_null("param", self.param.as_deref());
        error.text_or_null("code", self.code.as_deref());
    }

    /// The code of a failed response. Typed clients cannot read a response with any other one.
    pub fn response_code(&self) -> &'static str {
        let code = self.code.as_deref().unwrap_or_default();
        RESPONSE_CODES.into_iter().find(|known| *known == code).unwrap_or("server_error")
    }

    /// The error's type on the surface of messages, for an error within a stream.
    pub fn messages_kind(&self) -> &'static str {
        let is = |name: &str| [&self.kind, &self.code].into_iter().flatten().any(|is| is == name);
        if is("rate_limit_exceeded") || is("rate_limit_error") || is("insufficient_quota") {
            "rate_limit_error"
        } else if is("upstream_unavailable") || is("service_unavailable_error") {
            "overloaded_error"
        } else if is("invalid_request_error") {
            "invalid_request_error"
        } else {
            "api_error"
        }
    }
}
