//! A request body: what the gateway reads of it, and the few changes it makes.
//!
//! A body is read in one bounded pass and stays bytes: fields the gateway does not know are never
//! decoded, let alone rewritten. The gateway and the upstream must read the same request, so
//! whatever two readers could take differently (a key twice, half a surrogate pair) is refused.

use super::bounds::Bounds;
use super::fields::{Fields, bool_of};
use super::inspect::{self, Inspection};
use super::json;
use super::names;
use super::prompt::Prompt;
use super::splice;
use super::surface::Surface;
use super::tools::Costs;
use bytes::Bytes;
use domain::plan::RequestPolicy;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

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
        // A byte order mark says nothing in UTF-8. Some editors write it, and some upstreams stumble over it.
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let fields = Fields::read(body)?;
        let told = surface.description();
        names::refuse_routing(|name| fields.given(name).map(RawValue::get))?;
        let options = if told.usage_is_asked_for { fields.object("stream_options")? } else { None };
        let include_usage = options.as_ref().and_then(|options| options.get("include_usage"));
        let bounds = Bounds::read(surface, &fields)?;
        let model = fields.model()?;
        let stream = fields.flag("stream")?;
        if stream && !told.streams {
            return Err(BadBody::wrong_value(
                "stream",
                "streaming is not supported on this endpoint",
            ));
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
    pub(super) fn unreadable(why: impl std::fmt::Display) -> Self {
        Self {
            message: format!("The request body could not be parsed: {why}."),
            param: None,
            code: None,
        }
    }

    pub(super) fn unsupported(param: &str, why: &str) -> Self {
        let message = format!("Unsupported parameter: '{param}' is not supported: {why}.");
        Self { message, param: Some(param.to_owned()), code: Some("unsupported_parameter") }
    }

    /// A name that a server could fold into one that the gateway reads.
    pub(super) fn odd_name(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let message = format!("Invalid field name '{path}': field names must be ASCII.");
        Self { message, param: Some(path), code: Some("invalid_name") }
    }

    fn reference(path: &str) -> Self {
        let message = format!(
            "'{path}' refers to an object in the upstream account, which all users of this gateway \
share. Send the content inline instead."
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

#[cfg(test)]
#[path = "tests/request.rs"]
mod tests;
