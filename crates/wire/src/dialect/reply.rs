//! Undoes a dialect in replies: calls get back the tools and names that the client knows.

use super::custom::{self, named};
use super::members::{Edit, edit_array, edit_object};
use super::stream::DialectStream;
use super::xai::text;
use crate::json;
use crate::tool_names::{CallKind, OriginalTool, ToolNames};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// What every object with something to restore contains: a call, or the tools of the request.
const MARKS: [&str; 3] = ["\"function_call\"", "\"tools\"", "\"tool_calls\""];

/// Restores tools in the replies to one request.
#[derive(Debug, Clone, Default)]
pub struct DialectReply(Arc<Original>);

#[derive(Debug, Default)]
struct Original {
    names: ToolNames,
    /// Members of the request that the reply repeats.
    tools: Option<Box<RawValue>>,
    tool_choice: Option<Box<RawValue>>,
}

impl DialectReply {
    /// `body` is the request as its caller sent it. The reply repeats its tools if their names or, as
    /// `chooses_some` says, their number is another one at the upstream.
    pub(super) fn new(names: ToolNames, body: &str, chooses_some: bool) -> Self {
        if names.is_empty() && !chooses_some {
            return Self::default();
        }
        let members = json::members(body.as_bytes(), ["tools", "tool_choice"]);
        let [tools, tool_choice] =
            members.unwrap_or_default().map(|raw| raw.map(ToOwned::to_owned));
        Self(Arc::new(Original { names, tools, tool_choice }))
    }

    /// For replies that do not repeat the tools.
    pub(super) fn of_names(names: ToolNames) -> Self {
        Self(Arc::new(Original { names, tools: None, tool_choice: None }))
    }

    /// True if replies pass as they are.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.names.is_empty() && self.0.tools.is_none() && self.0.tool_choice.is_none()
    }

    /// Bytes of the request that are kept for the reply.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let kept = [&self.0.tools, &self.0.tool_choice];
        kept.into_iter().flatten().map(|raw| raw.get().len()).sum()
    }

    /// A whole reply with the tools of the client; the same bytes where there is nothing to restore.
    #[must_use]
    pub fn reply<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        match std::str::from_utf8(body).ok().and_then(|text| self.restore(text)) {
            Some(restored) => Cow::Owned(restored.into_bytes()),
            None => Cow::Borrowed(body),
        }
    }

    /// The restoring of tools in a stream.
    #[must_use]
    pub fn into_stream(self) -> DialectStream {
        DialectStream::new(self)
    }

    /// The object with its tools restored; `None` where there are none.
    pub(super) fn restore(&self, object: &str) -> Option<String> {
        if self.is_identity() || !MARKS.iter().any(|mark| object.contains(mark)) {
            return None;
        }
        edit_object(object, |member, value| match member {
            "item" => self.restore_item(value),
            "output" => Edit::of(edit_array(value.get(), |item| self.restore_item(item))),
            "choices" => Edit::of(edit_array(value.get(), |choice| self.restore_choice(choice))),
            "response" => Edit::of(self.restore(value.get())),
            "tools" => as_sent(self.0.tools.as_deref()),
            "tool_choice" => as_sent(self.0.tool_choice.as_deref()),
            _ => Edit::Keep,
        })
    }

    fn restore_item(&self, item: &RawValue) -> Edit {
        if text(item, "type") != "function_call" {
            return Edit::Keep;
        }
        match self.original(&text(item, "name")) {
            None => Edit::Keep,
            Some(tool) if tool.kind == CallKind::Custom => custom::restore_call(item, tool),
            Some(tool) => Edit::of(edit_object(item.get(), |member, _| match member {
                "name" => Edit::Replace(named(tool)),
                _ => Edit::Keep,
            })),
        }
    }

    /// The message of a choice of a chat completion.
    fn restore_choice(&self, choice: &RawValue) -> Edit {
        Edit::of(edit_object(choice.get(), |member, message| match member {
            "message" => Edit::of(edit_object(message.get(), |member, calls| match member {
                "tool_calls" => Edit::of(edit_array(calls.get(), |call| self.restore_call(call))),
                _ => Edit::Keep,
            })),
            _ => Edit::Keep,
        }))
    }

    fn restore_call(&self, call: &RawValue) -> Edit {
        let [function] = json::members(call.get().as_bytes(), ["function"]).unwrap_or_default();
        let Some(function) = function else { return Edit::Keep };
        match self.original(&text(function, "name")) {
            Some(tool) if tool.kind == CallKind::Custom => {
                custom::restore_chat_call(call, function, &tool.name)
            }
            _ => Edit::Keep,
        }
    }

    /// The client's tool behind a name of the upstream's.
    pub(super) fn original(&self, flat: &str) -> Option<&OriginalTool> {
        self.0.names.original(flat)
    }
}

fn as_sent(sent: Option<&RawValue>) -> Edit {
    Edit::of(sent.map(|sent| sent.get().to_owned()))
}
