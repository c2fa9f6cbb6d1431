//! Dialects: what an upstream refuses or calls differently within a surface that it offers.
//!
//! Applied to the request, and undone in the reply. A body that needs no change stays as it is, byte for byte; in
//! one that does, only the members concerned are written again.

mod members;
mod union_schema;
mod tools;
mod names;
mod custom;
mod allowed;
mod chat;
mod xai;
mod reply;
mod chat_stream;
mod stream;

pub use reply::DialectReply;
pub use stream::DialectStream;

use crate::json;
use crate::surface::Surface;
use chat::ChatPlan;
use members::{Edit, edit_object};
use serde_json::value::RawValue;
use std::borrow::Cow;
use xai::Plan as ResponsesPlan;

/// Headers in which clients send ids of installations and paths of workspaces. They stay at the gateway.
pub const PERSONAL_HEADERS: [&str; 1] = ["x-codex-turn-metadata"];

/// The dialect of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Everything as OpenAI and Anthropic have it.
    #[default]
    OpenAi,
    /// xAI's: responses without namespaces, custom tools, cached searches and unions as schemas, and no choice
    /// without tools.
    Xai,
    /// Requests as OpenAI has them, to servers of open models whose chat templates often take one system message, the
    /// first. Only translated requests differ.
    ChatOnly,
}

/// What a dialect has to know of the model.
#[derive(Debug, Clone, Copy)]
pub struct DialectOptions {
    /// The model takes an effort of reasoning.
    pub takes_effort: bool,
}

/// A request in the upstream's dialect, and how its reply is read.
#[derive(Debug)]
pub struct DialectRequest<'a> {
    pub body: Cow<'a, [u8]>,
    pub reply: DialectReply,
}

impl Dialect {
    /// True if requests are not written as OpenAI and Anthropic have them.
    #[must_use]
    pub fn changes_requests(self) -> bool {
        match self {
            Self::Xai => true,
            Self::OpenAi | Self::ChatOnly => false,
        }
    }

    /// Writes a request in this dialect. A body that cannot be read stays as it is: the upstream will refuse it.
    #[must_use]
    pub fn of_request(
        self,
        surface: Surface,
        body: &[u8],
        options: DialectOptions,
    ) -> DialectRequest<'_> {
        let Some(text) = json::object_text(body) else {
            return DialectRequest { body: Cow::Borrowed(body), reply: DialectReply::default() };
        };
        let plan = self.plan(surface, text);
        let edited = edit_object(text, |name, value| match name {
            "client_metadata" => Edit::Drop,
            "metadata" => without(value, "user_id"),
            "reasoning" if !options.takes_effort => without(value, "effort"),
            "reasoning_effort" if !options.takes_effort => Edit::Drop,
            name => plan.edit(name, value),
        });
        let reply = plan.into_reply(text);
        let body = edited.map_or(Cow::Borrowed(body), |body| Cow::Owned(body.into_bytes()));
        DialectRequest { body, reply }
    }
}

/// How a request is written in a dialect.
enum Plan {
    /// Only what no upstream may see is left out.
    Plain,
    Responses(ResponsesPlan),
    Chat(ChatPlan),
    /// Other surfaces lose a choice without tools.
    WithoutChoice,
}

impl Dialect {
    fn plan(self, surface: Surface, body: &str) -> Plan {
        match (self, surface) {
            (Self::Xai, Surface::Responses) => Plan::Responses(ResponsesPlan::of(body)),
            (Self::Xai, Surface::ChatCompletions) => Plan::Chat(ChatPlan::of(body)),
            (Self::Xai, _) if xai::choice_without_tools(body) => Plan::WithoutChoice,
            _ => Plan::Plain,
        }
    }
}

impl Plan {
    fn edit(&self, member: &str, value: &RawValue) -> Edit {
        match self {
            Self::Responses(plan) => plan.edit(member, value),
            Self::Chat(plan) => plan.edit(member, value),
            Self::WithoutChoice if member == "tool_choice" => Edit::Drop,
            Self::WithoutChoice | Self::Plain => Edit::Keep,
        }
    }

    fn into_reply(self, body: &str) -> DialectReply {
        match self {
            Self::Responses(plan) => plan.into_reply(body),
            Self::Chat(plan) => plan.into_reply(),
            Self::WithoutChoice | Self::Plain => DialectReply::default(),
        }
    }
}

/// An object without one of its members.
fn without(object: &RawValue, member: &str) -> Edit {
    let edited =
        edit_object(object.get(), |name, _| if name == member { Edit::Drop } else { Edit::Keep });
    Edit::of(edited)
}

#[cfg(test)]
mod tests;
