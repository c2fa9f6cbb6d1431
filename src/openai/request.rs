//! A chat request body: what the gateway reads of it, and the few changes it makes.
//!
//! A body is read in one bounded pass and stays bytes: fields the gateway does not know are never
//! decoded, let alone rewritten. The gateway and the upstream must read the same request, so
//! whatever two readers could take differently (a key twice, half a surrogate pair) is refused.

use super::json::{self, each_member};
use super::prompt::{BadMessages, Prompt};
use super::splice;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Members a body may have at its top level. Real ones have a few dozen at most.
const MAX_MEMBERS: usize = 256;
/// Bytes a model's name may have.
const MAX_MODEL_LEN: usize = 256;
/// Choices one call may ask for, as at OpenAI.
const MAX_CHOICES: u64 = 128;

/// The fields the gateway reads. Everything else stays bytes.
#[derive(Debug)]
pub struct ChatRequest<'a> {
    pub(super) body: &'a [u8],
    pub(super) written: Written<'a>,
    pub model: String,
    pub stream: bool,
    /// The caller asked for `stream_options.include_usage`.
    pub include_usage: bool,
    /// `max_completion_tokens`, or `max_tokens`; the smaller when both are there.
    pub max_output: Option<u64>,
    /// Number of choices, at least 1.
    pub n: u64,
    /// What the model will read.
    pub prompt: Prompt<'a>,
}

/// The values that may be changed, as they stand in the body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written<'a> {
    pub model: Option<&'a RawValue>,
    pub max_tokens: Option<&'a RawValue>,
    pub max_completion_tokens: Option<&'a RawValue>,
    pub stream_options: Option<&'a RawValue>,
    /// The member inside `stream_options`.
    pub include_usage: Option<&'a RawValue>,
}

/// What goes upstream in place of what the caller wrote; `None` and `false` leave it alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    pub model: Option<&'a str>,
    /// Replaces whichever limit the caller sent; where none was sent, it goes in under `limit_field`.
    pub max_output: Option<u64>,
    /// With `MaxTokens` a limit sent as `max_completion_tokens` alone is sent as both: the upstream
    /// would overlook it.
    pub limit_field: LimitField,
    /// Switches `stream_options.include_usage` on.
    pub include_usage: bool,
}

/// The name an upstream knows the output limit by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        let fields = Fields::read(body)?;
        let stream_options = fields.object("stream_options")?;
        let include_usage = match &stream_options {
            None => None,
            Some(options) => options.get("include_usage"),
        };
        let max_tokens = fields.limit("max_tokens")?;
        let max_completion_tokens = fields.limit("max_completion_tokens")?;
        Ok(Self {
            body,
            model: fields.model()?,
            stream: bool_of("stream", fields.get("stream"))?,
            include_usage: bool_of("stream_options.include_usage", include_usage)?,
            max_output: [max_tokens, max_completion_tokens].into_iter().flatten().min(),
            n: fields.choices()?,
            prompt: fields.prompt()?,
            written: Written {
                model: fields.get("model"),
                max_tokens: fields.get("max_tokens"),
                max_completion_tokens: fields.get("max_completion_tokens"),
                stream_options: fields.get("stream_options"),
                include_usage,
            },
        })
    }

    /// The body with `changes` spliced in; every other byte is the caller's.
    #[must_use]
    pub fn splice(&self, changes: Changes<'_>) -> Bytes {
        splice::splice(self, changes)
    }
}

impl LimitField {
    /// The field's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
        }
    }
}

impl BadBody {
    fn unreadable(why: impl std::fmt::Display) -> Self {
        Self {
            message: format!("The request body could not be read: {why}."),
            param: None,
            code: None,
        }
    }

    fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self { message, param: Some(param.to_owned()), code: Some("missing_required_parameter") }
    }

    fn wrong_type(param: &str, expected: &str) -> Self {
        let message = format!("Invalid type for '{param}': expected {expected}.");
        Self { message, param: Some(param.to_owned()), code: Some("invalid_type") }
    }

    fn wrong_value(param: &str, why: &str) -> Self {
        let message = format!("Invalid value for '{param}': {why}.");
        Self { message, param: Some(param.to_owned()), code: Some("invalid_value") }
    }
}

/// An object's members, each name once.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn read(body: &'a [u8]) -> Result<Self, BadBody> {
        let text = std::str::from_utf8(body).map_err(|_| BadBody::unreadable("it is not UTF-8"))?;
        let is_object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
        if !is_object {
            return Err(BadBody::unreadable("it is not a JSON object"));
        }
        let fields = Self::of_object("", text)?;
        json::check(body).map_err(BadBody::unreadable)?;
        Ok(fields)
    }

    /// Members of the object `json`; `path` goes before their names in refusals.
    fn of_object(path: &str, json: &'a str) -> Result<Self, BadBody> {
        let mut members: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::new();
        let mut twice = None;
        let mut too_many = false;
        each_member(json, |name, value| {
            if members.len() == MAX_MEMBERS {
                too_many = true;
            } else if members.iter().any(|(other, _)| *other == name) {
                twice.get_or_insert(name);
            } else {
                members.push((name, value));
            }
        })
        .map_err(BadBody::unreadable)?;
        if too_many {
            return Err(BadBody::unreadable(format_args!(
                "it has more than {MAX_MEMBERS} members"
            )));
        }
        match twice {
            None => Ok(Self(members)),
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                Err(BadBody::wrong_value(&format!("{path}{name}"), "the key is there twice"))
            }
        }
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The value, unless it is absent or `null`.
    fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| !json::is_null(value))
    }

    fn object(&self, name: &str) -> Result<Option<Self>, BadBody> {
        match self.given(name) {
            None => Ok(None),
            Some(raw) if raw.get().starts_with('{') => {
                Self::of_object(&format!("{name}."), raw.get()).map(Some)
            }
            Some(_) => Err(BadBody::wrong_type(name, "an object or null")),
        }
    }

    fn model(&self) -> Result<String, BadBody> {
        let raw = self.given("model").ok_or_else(|| BadBody::missing("model"))?;
        let not_a_name = || BadBody::wrong_type("model", "a string");
        let name: String = serde_json::from_str(raw.get()).map_err(|_| not_a_name())?;
        if name.is_empty() {
            return Err(BadBody::wrong_value("model", "it is empty"));
        }
        if name.len() > MAX_MODEL_LEN {
            return Err(BadBody::wrong_value("model", "it is longer than 256 bytes"));
        }
        if name.chars().any(char::is_control) {
            return Err(BadBody::wrong_value("model", "it has control characters"));
        }
        Ok(name)
    }

    fn limit(&self, name: &str) -> Result<Option<u64>, BadBody> {
        let Some(raw) = self.given(name) else { return Ok(None) };
        match raw.get().parse::<u64>() {
            Ok(limit) if limit > 0 => Ok(Some(limit)),
            _ => Err(BadBody::wrong_type(name, "a positive integer or null")),
        }
    }

    fn choices(&self) -> Result<u64, BadBody> {
        let Some(raw) = self.given("n") else { return Ok(1) };
        match raw.get().parse::<u64>() {
            Ok(n) if (1..=MAX_CHOICES).contains(&n) => Ok(n),
            _ => Err(BadBody::wrong_type("n", "an integer from 1 to 128")),
        }
    }

    fn prompt(&self) -> Result<Prompt<'a>, BadBody> {
        let messages = self.given("messages").ok_or_else(|| BadBody::missing("messages"))?;
        let extras = ["tools", "functions", "response_format"];
        let extras = extras.into_iter().filter_map(|name| self.given(name)).collect();
        Prompt::read(messages, extras).map_err(|bad| match bad {
            BadMessages::NotAnArray => BadBody::wrong_type("messages", "an array of objects"),
            BadMessages::Empty => BadBody::wrong_value("messages", "it is empty"),
            BadMessages::NotAnObject(at) => {
                BadBody::wrong_type(&format!("messages[{at}]"), "an object")
            }
        })
    }
}

fn bool_of(name: &str, value: Option<&RawValue>) -> Result<bool, BadBody> {
    match value.map(RawValue::get) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(BadBody::wrong_type(name, "a boolean or null")),
    }
}

#[cfg(test)]
#[path = "tests/request.rs"]
mod tests;
