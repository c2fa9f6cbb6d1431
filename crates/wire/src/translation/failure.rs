//! Errors: read from either of OpenAI's surfaces, written in the caller's shape.

use super::event::Failure;
use super::json_writer::JsonWriter;
use super::object::Object;
use crate::error::ErrorBody;
use crate::surface::Surface;

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

/// The body of an error reply in the shape of `to`. One that has this shape already stays as it is.
pub(super) fn translate(to: Surface, status: u16, body: &[u8]) -> Vec<u8> {
    let object = crate::json::object_text(body).and_then(Object::read);
    let is_openai =
        object.as_ref().is_some_and(|object| object.object_leniently("error").has("message"));
    if is_openai && to != Surface::Messages {
        return body.to_vec();
    }
    let object = object.unwrap_or_default();
    let failure = Failure::read(&object);
    if to == Surface::Messages {
        let details = object.object_leniently("error").get("details");
        let error = ErrorBody {
            message: failure.message,
            kind: "server_error",
            param: None,
            code: None,
            details: details.and_then(|raw| serde_json::from_str(raw.get()).ok()),
        };
        return to.error(status, &error).into_bytes();
    }
    let mut out = Vec::new();
    JsonWriter::object(&mut out, |body| {
        body.child("error", |error| failure.write_openai(error));
    });
    out
}
