//! Dialects: what an upstream refuses or calls differently within a surface that it offers.
//!
//! Applied to the request, and undone in the reply. A body that needs no change stays as it is, byte for byte; in
//! one that does, only the members concerned are written again.

mod members;
mod union_schema;
mod tools;
mod xai;
mod reply;

pub use reply::{DialectReply, DialectStream};

use crate::json;
use crate::surface::Surface;
use members::{Edit, edit_object};
use reply::FlatNames;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Headers in which clients send ids of installations and paths of workspaces. They stay at the gateway.
pub const PERSONAL_HEADERS: [&str; 1] = ["x-codex-turn-metadata"];

/// The dialect of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Everything as OpenAI and Anthropic have it.
    #[default]
    OpenAi,
    /// xAI's: responses without namespaces, cached searches and unions as schemas.
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
        let mut names = FlatNames::default();
        let edited =
            json::object_text(body).and_then(|text| self.edit(surface, text, options, &mut names));
        let body = edited.map_or(Cow::Borrowed(body), |body| Cow::Owned(body.into_bytes()));
        DialectRequest { body, reply: DialectReply::new(names) }
    }

    fn edit(
        self,
        surface: Surface,
        text: &str,
        options: DialectOptions,
        names: &mut FlatNames,
    ) -> Option<String> {
        let is_xai = self == Self::Xai && surface == Surface::Responses;
        let without_search = is_xai && tools::drops_search(text);
        edit_object(text, |name, value| match name {
            "client_metadata" => Edit::Drop,
            "metadata" => without(value, "user_id"),
            "reasoning" if !options.takes_effort => without(value, "effort"),
            "reasoning_effort" if !options.takes_effort => Edit::Drop,
            "tools" if is_xai => xai::tools(value, names),
            "input" if is_xai => xai::input(value),
            "tool_choice" if is_xai => xai::tool_choice(value, without_search),
            _ => Edit::Keep,
        })
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
