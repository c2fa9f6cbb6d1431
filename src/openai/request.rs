//! A request body: what the gateway reads of it, and the few changes it makes.
//!
//! A body is read in one bounded pass and stays bytes: fields the gateway does not know are never
//! decoded, let alone rewritten. The gateway and the upstream must read the same request, so
//! whatever two readers could take differently (a key twice, half a surrogate pair) is refused.

use super::bounds::Bounds;
use super::inspect::{self, Inspection};
use super::json::{self, each_member};
use super::names;
use super::prompt::{BadMessages, Prompt};
use super::splice;
use super::surface::Surface;
use super::tools::Costs;
use crate::account::plan::RequestPolicy;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Members a body may have at its top level. Real ones have a few dozen at most.
const MAX_MEMBERS: usize = 256;
/// Bytes a model's name may have.
const MAX_MODEL_LEN: usize = 256;
/// Bytes a reply's id may have.
const MAX_NAME_LEN: usize = 256;
/// Choices one call may ask for, as at OpenAI.
const MAX_CHOICES: u64 = 128;

/// The fields the gateway reads. Everything else stays bytes.
#[derive(Debug)]
pub struct Request<'a> {
    pub surface: Surface,
    pub(super) body: &'a [u8],
    pub(super) written: Written<'a>,
    pub model: String,
    pub stream: bool,
    /// The caller asked for `stream_options.include_usage`.
    pub include_usage: bool,
    /// The limit on the output of one choice; the smallest when it is given under several names.
    pub max_output: Option<u64>,
    /// Number of choices, at least 1.
    pub n: u64,
    /// What the model will read.
    pub prompt: Prompt<'a>,
    /// `prompt_cache_key` as it stands in the body: calls that share it have prompts that begin alike
    /// (OpenAI's and xAI's pages on prompt caching).
    pub cache_key: Option<&'a str>,
    pub ties: Ties,
    /// What it asks for that tokens do not bound.
    pub(super) costs: Costs<'a>,
    /// What it refers to in the operator's account.
    pub(super) inspection: Inspection,
}

/// What a call has to do with others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ties {
    /// The kept reply that it goes on from.
    pub previous: Option<String>,
    /// Whether the upstream will keep its reply.
    pub is_kept: bool,
    /// Whether its reply is to be fetched later.
    pub is_deferred: bool,
}

/// The values that may be changed, as they stand in the body.
#[derive(Debug, Clone, Default)]
pub(super) struct Written<'a> {
    pub model: Option<&'a RawValue>,
    pub bounds: Bounds<'a>,
    pub stream_options: Option<&'a RawValue>,
    /// True when the caller's `stream_options` has other members than `include_usage`.
    pub has_other_stream_options: bool,
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
    /// Takes out what the caller's plan does not include.
    pub policy: Option<&'a RequestPolicy>,
    /// Takes the caller's `stream_options` out: the upstream does not know them.
    pub drop_stream_options: bool,
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

fn has_other_stream_options(options: Option<&RawValue>) -> bool {
    let mut others = false;
    if let Some(options) = options {
        let _ = json::each_member(options.get(), |name, _| others |= name != "include_usage");
    }
    others
}

impl<'a> Request<'a> {
    /// Reads a body that was sent to `surface`.
    ///
    /// # Errors
    /// [`BadBody`] when it is not a JSON object, has a key twice at the top level, lacks `model`
    /// or what the model is to read, or a field the gateway reads has the wrong type.
    pub fn parse(surface: Surface, body: &'a [u8]) -> Result<Self, BadBody> {
        let fields = Fields::read(body)?;
        let told = surface.description();
        names::refuse_routing(|name| fields.given(name).map(RawValue::get))?;
        let options = if told.usage_is_asked_for { fields.object("stream_options")? } else { None };
        let include_usage = options.as_ref().and_then(|options| options.get("include_usage"));
        let bounds = Bounds::read(surface, &fields)?;
        let model = fields.model()?;
        let stream = fields.flag("stream")?;
        if stream && !told.streams {
            return Err(BadBody::wrong_value("stream", "there are no streams here"));
        }
        let n = (told.choices)(&fields)?;
        let prompt = (told.prompt)(&fields)?;
        let ties = (told.ties)(&fields)?;
        let text = std::str::from_utf8(body).unwrap_or_default();
        Ok(Self {
            surface,
            body,
            model,
            stream,
            include_usage: bool_of("stream_options.include_usage", include_usage)?,
            max_output: bounds.max_output,
            n,
            prompt,
            cache_key: fields.given("prompt_cache_key").map(RawValue::get),
            ties,
            costs: Costs::read(surface, &fields)?,
            inspection: inspect::inspect(surface, text)?,
            written: Written {
                model: fields.get("model"),
                bounds,
                stream_options: fields.get("stream_options"),
                has_other_stream_options: has_other_stream_options(fields.given("stream_options")),
                include_usage,
            },
        })
    }

    /// True when the caller's `stream_options` has other members than `include_usage`.
    #[must_use]
    pub fn has_other_stream_options(&self) -> bool {
        self.written.has_other_stream_options
    }

    /// Whether the caller's plan lets the request pass.
    ///
    /// # Errors
    /// [`BadBody`] that names what the plan does not include.
    pub fn permit(&self, policy: &RequestPolicy) -> Result<(), BadBody> {
        match &self.inspection.reference {
            Some(path) if !policy.account_references => Err(BadBody::reference(path)),
            _ => self.costs.permit(policy),
        }
    }

    /// Whether the upstream runs tools of its own for it, when `policy` has taken out what it does not allow.
    #[must_use]
    pub fn runs_server_tools(&self, policy: &RequestPolicy) -> bool {
        self.costs.runs_server_tools(policy)
    }

    /// Names of what [`splice`](Self::splice) takes out under `policy`.
    #[must_use]
    pub fn stripped(&self, policy: &RequestPolicy) -> Vec<String> {
        self.costs.stripped(policy)
    }

    /// The request for an answer that was deferred: it has no body, and was paid when it was deferred.
    #[must_use]
    pub fn to_fetch(model: &str) -> Self {
        Self {
            surface: Surface::ChatCompletions,
            body: b"",
            written: Written::default(),
            model: model.to_owned(),
            stream: false,
            include_usage: false,
            max_output: Some(0),
            n: 1,
            prompt: Prompt::of_extras(Vec::new()),
            cache_key: None,
            ties: Ties::default(),
            costs: Costs::default(),
            inspection: Inspection::default(),
        }
    }

    /// Whether it has been paid by an earlier call.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.body.is_empty()
    }

    /// The body with `changes` spliced in; every other byte is the caller's.
    #[must_use]
    pub fn splice(&self, changes: Changes<'_>) -> Bytes {
        splice::splice(self, changes)
    }

    /// Whether the gateway has to ask for a stream's usage by itself.
    #[must_use]
    pub fn wants_usage_asked_for(&self) -> bool {
        self.stream && !self.include_usage && self.surface.description().usage_is_asked_for
    }

    /// The name by which an upstream that knows chat's limit as `field` knows this surface's.
    pub(super) fn limit_name(&self, field: LimitField) -> Option<&'static str> {
        match self.surface.limits() {
            [] => None,
            [only] => Some(only),
            _ => Some(field.as_str()),
        }
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

    pub(super) fn unsupported(param: &str, why: &str) -> Self {
        let message = format!("Unsupported parameter: '{param}' is not supported: {why}.");
        Self { message, param: Some(param.to_owned()), code: Some("unsupported_parameter") }
    }

    fn reference(path: &str) -> Self {
        let message = format!(
            "'{path}' refers to something kept in the account behind this gateway, which its callers \
             share: send the content itself."
        );
        Self { message, param: Some(path.to_owned()), code: Some("reference_not_allowed") }
    }

    pub(super) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self { message, param: Some(param.to_owned()), code: Some("missing_required_parameter") }
    }

    pub(super) fn wrong_type(param: &str, expected: &str) -> Self {
        let message = format!("Invalid type for '{param}': expected {expected}.");
        Self { message, param: Some(param.to_owned()), code: Some("invalid_type") }
    }

    pub(super) fn wrong_value(param: &str, why: &str) -> Self {
        let message = format!("Invalid value for '{param}': {why}.");
        Self { message, param: Some(param.to_owned()), code: Some("invalid_value") }
    }
}

/// An object's members, each name once.
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

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
    pub(super) fn of_object(path: &str, json: &'a str) -> Result<Self, BadBody> {
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
        if let Some(name) = twice {
            let name: String = name.chars().take(64).collect();
            return Err(BadBody::wrong_value(&format!("{path}{name}"), "duplicate key"));
        }
        for (name, _) in &members {
            if let Some(known) = imitated(path, name) {
                let why = format!("ambiguous capitalization; use '{known}'");
                return Err(BadBody::wrong_value(&format!("{path}{name}"), &why));
            }
        }
        Ok(Self(members))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The value, unless it is absent or `null`.
    pub(super) fn given(&self, name: &str) -> Option<&'a RawValue> {
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
        let raw = self.required("model")?;
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

    pub(super) fn limit(&self, name: &str) -> Result<Option<u64>, BadBody> {
        let Some(raw) = self.given(name) else { return Ok(None) };
        match raw.get().parse::<u64>() {
            Ok(limit) if limit > 0 => Ok(Some(limit)),
            _ => Err(BadBody::wrong_type(name, "a positive integer or null")),
        }
    }

    /// How many answers are asked for under `name`: 1 where nothing is said.
    pub(super) fn count(&self, name: &str) -> Result<u64, BadBody> {
        let Some(raw) = self.given(name) else { return Ok(1) };
        match raw.get().parse::<u64>() {
            Ok(n) if (1..=MAX_CHOICES).contains(&n) => Ok(n),
            _ => Err(BadBody::wrong_type(name, "an integer from 1 to 128")),
        }
    }

    /// The largest of several counts.
    pub(super) fn largest_count(&self, names: &[&str]) -> Result<u64, BadBody> {
        names.iter().try_fold(1, |most, name| Ok(self.count(name)?.max(most)))
    }

    /// One answer, where a surface gives no more.
    pub(super) fn one_answer(&self) -> Result<u64, BadBody> {
        let several = names::COUNTS.iter().find(|name| self.count(name).is_ok_and(|n| n > 1));
        match several {
            Some(name) => Err(BadBody::wrong_value(
                name,
                "only one completion per request is supported on this endpoint",
            )),
            None => self.largest_count(&names::COUNTS),
        }
    }

    /// The messages under `name`, with the other members that become part of the prompt.
    pub(super) fn messages(&self, name: &str, extras: &[&str]) -> Result<Prompt<'a>, BadBody> {
        let messages = self.required(name)?;
        Prompt::read(messages, self.all_given(extras)).map_err(|bad| match bad {
            BadMessages::NotAnArray => BadBody::wrong_type(name, "an array of objects"),
            BadMessages::Empty => BadBody::wrong_value(name, "it is empty"),
            BadMessages::NotAnObject(at) => {
                BadBody::wrong_type(&format!("{name}[{at}]"), "an object")
            }
        })
    }

    /// The text under `name`, or texts, or tokens.
    pub(super) fn texts(&self, name: &str) -> Result<Prompt<'a>, BadBody> {
        let expected = "a string, or an array of strings or of tokens";
        let texts = self.required(name)?;
        Prompt::of_texts(texts).ok_or_else(|| BadBody::wrong_type(name, expected))
    }

    /// Whether `name` is true.
    pub(super) fn flag(&self, name: &str) -> Result<bool, BadBody> {
        bool_of(name, self.get(name))
    }

    /// The short text under `name`, where there is one.
    pub(super) fn name(&self, name: &str) -> Result<Option<String>, BadBody> {
        let Some(raw) = self.given(name) else { return Ok(None) };
        let text: String =
            serde_json::from_str(raw.get()).map_err(|_| BadBody::wrong_type(name, "a string"))?;
        if text.is_empty() || text.len() > MAX_NAME_LEN || text.chars().any(char::is_control) {
            return Err(BadBody::wrong_value(name, "it is no id"));
        }
        Ok(Some(text))
    }

    /// The value, which has to be there.
    pub(super) fn required(&self, name: &str) -> Result<&'a RawValue, BadBody> {
        self.given(name).ok_or_else(|| BadBody::missing(name))
    }

    /// Those of the members that are there.
    pub(super) fn all_given(&self, names: &[&str]) -> Vec<&'a RawValue> {
        names.iter().filter_map(|name| self.given(name)).collect()
    }
}

/// The name that a member of the object at `path` can be taken for.
fn imitated(path: &str, name: &str) -> Option<&'static str> {
    if path.is_empty() {
        return names::imitated(name);
    }
    names::imitated_of(name, [&names::LIMITS, &names::BUDGETS, &names::COUNTS, &["include_usage"]])
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
