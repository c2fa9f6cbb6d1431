//! A chat request body: what the gateway reads of it, and the few changes it makes.

use bytes::Bytes;

/// The fields the gateway reads. Everything else stays bytes.
#[derive(Debug)]
pub struct ChatRequest<'a> {
    body: &'a [u8],
    pub model: String,
    pub stream: bool,
    /// The caller asked for `stream_options.include_usage`.
    pub include_usage: bool,
    /// `max_completion_tokens`, or `max_tokens`; the smaller when both are there.
    pub max_output: Option<u64>,
    /// Number of choices, at least 1.
    pub n: u64,
}

/// What goes upstream in place of what the caller wrote; `None` and `false` leave it alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    pub model: Option<&'a str>,
    /// Replaces whichever limit the caller sent; where none was sent, it goes in under `limit_field`.
    pub max_output: Option<u64>,
    pub limit_field: LimitField,
    /// Switches `stream_options.include_usage` on.
    pub include_usage: bool,
}

/// The name an upstream knows the output limit by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitField {
    #[default]
    MaxCompletionTokens,
    MaxTokens,
}

/// Why a body was not accepted: goes into OpenAI's error object with status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadBody {
    pub message: String,
    pub param: Option<String>,
    pub code: Option<&'static str>,
}

impl<'a> ChatRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BadBody`] when it is not a JSON object, has a key twice at the top level, lacks `model`
    /// or `messages`, or a field the gateway reads has the wrong type.
    pub fn parse(body: &'a [u8]) -> Result<Self, BadBody> {
        let _ = body;
        Err(BadBody { message: String::new(), param: None, code: None })
    }

    /// The body with `changes` spliced in; every other byte is the caller's.
    #[must_use]
    pub fn splice(&self, changes: Changes<'_>) -> Bytes {
        let _ = changes;
        Bytes::copy_from_slice(self.body)
    }
}
