//! The surfaces of the wire format: what callers may post to, one small description each.
//!
//! A call goes the same way whatever it is for; what differs is told here: where it is sent, how
//! its body is read, how its reply is heard, and how the gateway words an ending of its own.
//! Adding a surface is one file with a [`Description`] and one variant of [`Surface`].

mod chat;

use super::error::ErrorBody;
use super::follow::{Follow, Listener};
use super::prompt::Prompt;
use super::request::{BadBody, Fields};

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    ChatCompletions,
}

/// What is particular to a surface.
pub struct Description {
    /// Below an upstream's base path, and below `/v1` here.
    pub path: &'static str,
    /// The names that callers may give the limit on the output of one choice, the one to use first.
    /// None: the surface has no output that is counted in tokens.
    pub(super) limits: &'static [&'static str],
    /// Whether its reply can be a stream.
    pub(super) streams: bool,
    /// Whether streams tell their usage only if `stream_options.include_usage` asks for it.
    pub(super) usage_is_asked_for: bool,
    /// How many answers the body asks for.
    pub(super) choices: fn(&Fields<'_>) -> Result<u64, BadBody>,
    /// What the model will read.
    pub(super) prompt: for<'a> fn(&Fields<'a>) -> Result<Prompt<'a>, BadBody>,
    /// A follower of one stream; the caller asked for its usage, or did not.
    follow: fn(bool) -> Box<dyn Follow>,
    /// Tells what a whole reply says.
    hear: fn(&[u8], &mut dyn Listener),
    /// An error as the body of a reply with this status.
    error: fn(u16, &ErrorBody) -> String,
}

impl Surface {
    /// Every surface.
    pub const ALL: [Self; 1] = [Self::ChatCompletions];

    /// What is particular to it.
    #[must_use]
    pub fn description(self) -> &'static Description {
        match self {
            Self::ChatCompletions => &chat::DESCRIPTION,
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

    /// Whether its output is counted in tokens.
    #[must_use]
    pub fn has_output(self) -> bool {
        !self.description().limits.is_empty()
    }

    /// A follower of one stream.
    #[must_use]
    pub fn follow(self, include_usage: bool) -> Box<dyn Follow> {
        (self.description().follow)(include_usage)
    }

    /// Tells `to` what a whole reply says.
    pub fn hear(self, body: &[u8], to: &mut dyn Listener) {
        (self.description().hear)(body, to);
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
