//! Dialects: what an upstream refuses or calls differently within a surface that it offers.
//!
//! Applied to the request, and undone in the reply. A body that needs no change stays as it is, byte for byte; in
//! one that does, only the members concerned are written again.

mod members;
mod union_schema;
mod tools;
mod names;
mod custom;
mod xai;
mod reply;
mod stream;

pub use reply::DialectReply;
pub use stream::DialectStream;

use crate::json;
use crate::surface::Surface;
use members::{Edit, edit_object};
use serde_json::value::RawValue;
use std::borrow::Cow;
use xai::Plan;

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
    /// Servers of open models.
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
        let is_planned = self == Self::Xai && surface == Surface::Responses;
        let plan = is_planned.then(|| Plan::of(text));
        let drops_choice = self == Self::Xai && !is_planned && xai::choice_without_tools(text);
        let edited = edit_object(text, |name, value| match (name, &plan) {
            ("client_metadata", _) => Edit::Drop,
            ("metadata", _) => without(value, "user_id"),
            ("reasoning", _) if !options.takes_effort => without(value, "effort"),
            ("reasoning_effort", _) if !options.takes_effort => Edit::Drop,
            ("tools", Some(plan)) => plan.tools(value),
            ("input", Some(plan)) => plan.input(value),
            ("tool_choice", Some(plan)) => plan.tool_choice(value),
            ("tool_choice", None) if drops_choice => Edit::Drop,
            _ => Edit::Keep,
        });
        let reply = plan.map(|plan| DialectReply::new(plan.names, text)).unwrap_or_default();
        let body = edited.map_or(Cow::Borrowed(body), |body| Cow::Owned(body.into_bytes()));
        DialectRequest { body, reply }
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
