//! A request in the form between the surfaces: what a reader found in one, and a writer puts into another.

pub(super) use crate::tool_names::CallKind;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;

/// A request for one answer of a model.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub model: Cow<'a, str>,
    /// Instructions before the conversation.
    pub instructions: Option<Cow<'a, str>>,
    pub items: Vec<Item<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<ToolChoice<'a>>,
    pub parallel_tool_calls: Option<bool>,
    pub sampling: Sampling<'a>,
    /// The limit on output, in tokens.
    pub max_output: Option<u64>,
    pub reasoning: ReasoningOptions<'a>,
    pub format: Option<Format<'a>>,
    pub verbosity: Option<Cow<'a, str>>,
    /// Groups requests that share a prompt prefix.
    pub cache_key: Option<Cow<'a, str>>,
    pub service_tier: Option<Cow<'a, str>>,
    pub stream: bool,
    /// The caller wants usage in the stream; only chat completions leave the choice.
    pub include_usage: bool,
}

/// One entry of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Message { role: Role, parts: Vec<Part<'a>> },
    Reasoning(Reasoning<'a>),
    Call(Call<'a>),
    CallOutput(CallOutput<'a>),
}

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    System,
    Developer,
    User,
    Assistant,
}

/// A piece of a message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(Cow<'a, str>),
    Refusal(Cow<'a, str>),
    /// An image: an address, or a `data:` URL.
    Image {
        url: Cow<'a, str>,
        detail: Option<Cow<'a, str>>,
    },
    /// A document as a `data:` URL.
    File {
        name: Option<Cow<'a, str>>,
        data: Cow<'a, str>,
    },
}

/// Reasoning of an earlier turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reasoning<'a> {
    pub text: Cow<'a, str>,
    /// The sealed reasoning: `encrypted_content`, or a `signature`.
    pub encrypted: Option<Cow<'a, str>>,
}

/// The model's call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "all surfaces call it `call_id`")]
pub(super) struct Call<'a> {
    pub kind: CallKind,
    pub call_id: Cow<'a, str>,
    pub namespace: Option<Cow<'a, str>>,
    pub name: Cow<'a, str>,
    /// The arguments as JSON text, or the free text.
    pub input: Cow<'a, str>,
}

/// The client's answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallOutput<'a> {
    pub kind: CallKind,
    pub call_id: Cow<'a, str>,
    pub parts: Vec<Part<'a>>,
}

/// A tool that the model may call.
#[derive(Debug)]
pub(super) enum Tool<'a> {
    Function(Function<'a>),
    Custom {
        namespace: Option<Cow<'a, str>>,
        name: Cow<'a, str>,
        description: Option<Cow<'a, str>>,
        format: Option<CustomFormat<'a>>,
    },
    /// Search by the upstream. The options are those of responses, as they are written.
    WebSearch(Vec<(&'static str, Cow<'a, str>)>),
}

/// A function that the client runs.
#[derive(Debug)]
pub(super) struct Function<'a> {
    pub namespace: Option<Cow<'a, str>>,
    pub name: Cow<'a, str>,
    pub description: Option<Cow<'a, str>>,
    /// A JSON schema.
    pub parameters: Option<&'a RawValue>,
    pub strict: Option<bool>,
}

/// The grammar of a custom tool's input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CustomFormat<'a> {
    pub syntax: Cow<'a, str>,
    pub definition: Cow<'a, str>,
}

/// The caller's rule on tool calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToolChoice<'a> {
    Auto,
    None,
    Required,
    Named { kind: CallKind, namespace: Option<Cow<'a, str>>, name: Cow<'a, str> },
    WebSearch,
}

/// The tools that a choice among some of them allows.
#[derive(Debug, Default)]
pub(super) struct AllowedTools<'a> {
    /// By namespace and name. A name without a namespace stands for the tool in any.
    pub tools: HashSet<(Option<Cow<'a, str>>, Cow<'a, str>)>,
    /// Namespaces with all of their tools.
    pub namespaces: HashSet<Cow<'a, str>>,
    pub web_search: bool,
}

impl AllowedTools<'_> {
    fn has(&self, namespace: Option<&str>, name: &str) -> bool {
        let is_named = |namespace: Option<&str>| {
            self.tools.contains(&(namespace.map(Cow::Borrowed), Cow::Borrowed(name)))
        };
        is_named(None)
            || namespace.is_some_and(|namespace| {
                is_named(Some(namespace)) || self.namespaces.contains(namespace)
            })
    }
}

/// Options of sampling, as numbers are written.
#[derive(Debug, Default)]
pub(super) struct Sampling<'a> {
    pub temperature: Option<&'a RawValue>,
    pub top_p: Option<&'a RawValue>,
    pub stop: Vec<Cow<'a, str>>,
    pub seed: Option<&'a RawValue>,
    pub frequency_penalty: Option<&'a RawValue>,
    pub presence_penalty: Option<&'a RawValue>,
}

/// Options of reasoning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReasoningOptions<'a> {
    pub effort: Option<Cow<'a, str>>,
    /// The kind of summary that the caller wants to see.
    pub summary: Option<Cow<'a, str>>,
    /// The caller sends sealed reasoning back in later requests.
    pub encrypted: bool,
}

/// The format of the answer.
#[derive(Debug)]
pub(super) enum Format<'a> {
    Text,
    JsonObject,
    JsonSchema {
        name: Cow<'a, str>,
        description: Option<Cow<'a, str>>,
        schema: &'a RawValue,
        strict: Option<bool>,
    },
}

impl<'a> Request<'a> {
    /// Adds a message to the conversation, unless it is empty.
    pub fn push_message(&mut self, role: Role, parts: Vec<Part<'a>>) {
        if !parts.is_empty() {
            self.items.push(Item::Message { role, parts });
        }
    }

    /// Keeps only the tools that `tool_choice` allows.
    pub fn keep_tools(&mut self, allowed: &AllowedTools<'_>) {
        self.tools.retain(|tool| match tool {
            Tool::Function(Function { namespace, name, .. })
            | Tool::Custom { namespace, name, .. } => allowed.has(namespace.as_deref(), name),
            Tool::WebSearch(_) => allowed.web_search,
        });
    }
}

impl Role {
    /// The role by its name; `None` for other names.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    /// True if the operator of the client wrote it.
    pub fn instructs(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }
}

impl<'a> Part<'a> {
    /// The text of a part that is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Refusal(text) => Some(text),
            Self::Image { .. } | Self::File { .. } => None,
        }
    }

    /// A list of one text.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Vec<Self> {
        vec![Self::Text(text.into())]
    }
}

/// The texts of `parts`, joined by `separator`; borrowed where there is one.
pub(super) fn joined<'p>(parts: &'p [Part<'_>], separator: &str) -> Cow<'p, str> {
    let mut texts = parts.iter().filter_map(Part::as_text);
    let Some(first) = texts.next() else { return Cow::Borrowed("") };
    let mut all = Cow::Borrowed(first);
    for text in texts {
        let all = all.to_mut();
        all.push_str(separator);
        all.push_str(text);
    }
    all
}
