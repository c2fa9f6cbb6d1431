//! The surfaces of the wire format: what callers may post to, one small description each.
//!
//! All calls take the same path; the differences are described here: where it is sent, how
//! its body is read, how its reply is read, and how the gateway ends it early.
//! Adding a surface is one file with a [`Description`] and one variant of [`Surface`].

mod chat;
mod responses;
mod partial_output;
mod counted_output;
mod completions;
mod embeddings;
mod images;
mod messages;
mod tokenize;

use super::error::ErrorBody;
use super::fields::Fields;
use super::json;
use super::prompt::Prompt;
use super::request::{BadBody, Dependencies};
use super::stream_reader::{StreamReader, UsageSink};

/// An endpoint of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    ChatCompletions,
    Responses,
    Completions,
    Embeddings,
    Images,
    Messages,
    CountTokens,
    TokenizeText,
}

/// The kind of output that a surface generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Tokens; with the names that callers may give the limit on those of one choice, the one to
    /// use first.
    Tokens(&'static [&'static str]),
    Images,
    /// Output that is not counted, or none.
    None,
}

/// The properties in which surfaces differ.
pub struct Description {
    /// Below an upstream's base path, and below `/v1` here.
    pub path: &'static str,
    output: Output,
    /// True if its reply can be a stream.
    pub(super) streams: bool,
    /// True if streams report usage only when `stream_options.include_usage` requests it.
    pub(super) usage_needs_option: bool,
    /// True if the prompt's tokens are billed.
    bills_prompt: bool,
    /// Returns the number of answers that the body requests.
    pub(super) choices: fn(&Fields<'_>) -> Result<u64, BadBody>,
    /// Reads the input of the model.
    pub(super) prompt: for<'a> fn(&Fields<'a>) -> Result<Prompt<'a>, BadBody>,
    /// Reads the stored responses that the call depends on.
    pub(super) dependencies: fn(&Fields<'_>) -> Result<Dependencies, BadBody>,
    /// Creates a reader of one stream; the argument is true if the client requested usage.
    stream_reader: fn(bool) -> Box<dyn StreamReader>,
    /// Reports a whole reply to a sink; returns false if it is not a JSON object.
    read_reply: fn(&[u8], &mut dyn UsageSink) -> bool,
    /// The id under which the upstream stores a whole reply.
    id_of: fn(&[u8]) -> Option<String>,
    /// An error as the body of a reply with this status.
    error: fn(u16, &ErrorBody) -> String,
}

impl Surface {
    /// Every surface, in order of declaration.
    pub const ALL: [Self; 8] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Completions,
        Self::Embeddings,
        Self::Images,
        Self::Messages,
        Self::CountTokens,
        Self::TokenizeText,
    ];

    /// The properties that are particular to this surface.
    #[must_use]
    pub fn description(self) -> &'static Description {
        match self {
            Self::ChatCompletions => &chat::DESCRIPTION,
            Self::Responses => &responses::DESCRIPTION,
            Self::Completions => &completions::DESCRIPTION,
            Self::Embeddings => &embeddings::DESCRIPTION,
            Self::Images => &images::DESCRIPTION,
            Self::Messages => &messages::MESSAGES,
            Self::CountTokens => &messages::COUNT_TOKENS,
            Self::TokenizeText => &tokenize::DESCRIPTION,
        }
    }

    /// The name in the configuration: its path without the slash.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.path().trim_start_matches('/')
    }

    /// Below an upstream's base path, and below `/v1` here.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.description().path
    }

    /// The kind of output that it generates.
    #[must_use]
    pub fn output(self) -> Output {
        self.description().output
    }

    /// True if the prompt's tokens are billed.
    #[must_use]
    pub fn bills_prompt(self) -> bool {
        self.description().bills_prompt
    }

    /// True if nothing is ever billed for it: neither tokens nor a request of the day.
    #[must_use]
    pub fn is_free(self) -> bool {
        !self.bills_prompt() && self.output() == Output::None
    }

    /// The names of its limit on the output of one choice, the one to use first.
    pub(super) fn limits(self) -> &'static [&'static str] {
        match self.output() {
            Output::Tokens(limits) => limits,
            Output::Images | Output::None => &[],
        }
    }

    /// The id under which the upstream stores a whole reply.
    #[must_use]
    pub fn id_of(self, body: &[u8]) -> Option<String> {
        (self.description().id_of)(body)
    }

    /// Creates a reader of one stream.
    #[must_use]
    pub fn stream_reader(self, include_usage: bool) -> Box<dyn StreamReader> {
        (self.description().stream_reader)(include_usage)
    }

    /// Reports a whole reply to `to`; returns false if it is not a JSON object.
    pub fn read_reply(self, body: &[u8], to: &mut dyn UsageSink) -> bool {
        (self.description().read_reply)(body, to)
    }

    /// An error as the body of a reply with this status.
    #[must_use]
    pub fn error(self, status: u16, error: &ErrorBody) -> String {
        (self.description().error)(status, error)
    }
}

/// The error body of all surfaces that OpenAI made.
fn openai_error(_status: u16, error: &ErrorBody) -> String {
    error.to_json()
}

/// For surfaces whose calls depend on no stored response.
#[expect(clippy::unnecessary_wraps, reason = "other surfaces' bodies can be refused here")]
fn no_dependencies(_fields: &Fields<'_>) -> Result<Dependencies, BadBody> {
    Ok(Dependencies::default())
}

/// For surfaces whose replies no upstream stores.
fn no_id(_body: &[u8]) -> Option<String> {
    None
}

/// For surfaces whose replies report no usage.
fn read_unmetered_reply(body: &[u8], _to: &mut dyn UsageSink) -> bool {
    json::is_object(body)
}

/// For surfaces that do not stream: a stream that an upstream sends anyway is relayed, and ends as
/// incomplete.
fn unsupported_stream(_include_usage: bool) -> Box<dyn StreamReader> {
    Box::new(chat::UnsupportedStream::new())
}

#[cfg(test)]
pub(crate) mod tests;
