//! What a reply says, piece by piece: the form between the readers of replies and their writers.

use super::request::CallKind;
use crate::usage::Usage;

/// One step of a reply. Whole replies are read as the same steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplyEvent<'a> {
    /// The reply has begun.
    Start {
        model: Option<&'a str>,
        created: Option<u64>,
    },
    Text(&'a str),
    Refusal(&'a str),
    /// Reasoning that the caller may read.
    Reasoning(&'a str),
    /// The sealed form of the reasoning so far.
    Sealed(&'a str),
    /// The text, refusal or reasoning so far is complete. What follows is another item.
    ItemEnd,
    /// A call has begun. Its lane tells it from others that run at the same time.
    Call {
        lane: u64,
        kind: CallKind,
        call_id: &'a str,
        namespace: Option<&'a str>,
        name: &'a str,
    },
    /// The next piece of a call's input.
    CallInput {
        lane: u64,
        input: &'a str,
    },
    CallEnd {
        lane: u64,
    },
    /// The upstream has searched the web.
    Search {
        id: &'a str,
        query: &'a str,
    },
    Usage(Usage),
    Stop(StopReason),
    /// Nothing follows.
    End,
    Failed(Failure),
}

/// The reason that a reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The model has finished, with or without calls.
    Finished,
    MaxTokens,
    ContentFilter,
    /// A stop sequence of the caller, where it is known.
    StopSequence(String),
}

/// An error in the upstream's or the gateway's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub message: String,
    /// The field `type` of OpenAI's error object.
    pub kind: Option<String>,
    pub code: Option<String>,
    pub param: Option<String>,
}

impl Failure {
    /// An error of the gateway's own.
    pub fn of_gateway(message: &str) -> Self {
        Self {
            message: message.to_owned(),
            kind: Some("server_error".to_owned()),
            code: Some("upstream_cut".to_owned()),
            param: None,
        }
    }
}
