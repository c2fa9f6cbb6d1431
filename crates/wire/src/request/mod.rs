//! A request body: what the gateway reads of it, and the few changes it makes.
//!
//! A body is read in one bounded pass and stays bytes: fields the gateway does not know are never
//! decoded, let alone rewritten. The gateway and the upstream must read the same request, so
//! whatever two readers could take differently (a key twice, half a surrogate pair) is refused.

use super::field_names;
use super::fields::{Fields, bool_of};
use super::inspect::{self, Inspection};
use super::json;
use super::output_limits::OutputLimits;
use super::prompt::Prompt;
use super::rewrite;
use super::surface::Surface;
use super::tools::PaidFeatures;
use bytes::Bytes;
use domain::plan::RequestPolicy;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The fields the gateway reads. Everything else stays bytes.
#[derive(Debug)]
pub struct Request<'a> {
    pub surface: Surface,
    pub(super) body: &'a [u8],
    pub(super) original: OriginalFields<'a>,
    pub model: String,
    pub stream: bool,
    /// True if the caller set `stream_options.include_usage`.
    pub include_usage: bool,
    /// The limit on the output of one choice; the smallest when it is given under several names.
    pub max_output: Option<u64>,
    /// Number of choices, at least 1.
    pub n: u64,
    /// The input of the model.
    pub prompt: Prompt<'a>,
    /// `prompt_cache_key`, raw as in the body: calls that share it have prompts that begin alike
    /// (OpenAI's and xAI's pages on prompt caching).
    pub cache_key: Option<&'a str>,
    pub dependencies: Dependencies,
    /// The requested features whose cost tokens do not limit.
    pub(super) paid_features: PaidFeatures<'a>,
    /// References to objects in the operator's account.
    pub(super) inspection: Inspection,
}

/// The stored responses that a call reads or creates at the upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// The `previous_response_id` that it continues.
    pub previous_response: Option<String>,
    /// True if the upstream stores its reply.
    pub is_stored: bool,
    /// True if its reply is fetched by a later request.
    pub is_deferred: bool,
}

/// The caller's values that a [`Rewrite`] may replace, as they are in the body.
#[derive(Debug, Clone, Default)]
pub(super) struct OriginalFields<'a> {
    pub model: Option<&'a RawValue>,
    pub limits: OutputLimits<'a>,
    pub stream_options: Option<&'a RawValue>,
    /// True when the caller's `stream_options` has other members than `include_usage`.
    pub has_other_stream_options: bool,
    /// The value of `stream_options.include_usage`.
    pub include_usage: Option<&'a RawValue>,
}

/// The changes to make to a body before it is sent upstream; `None` and `false` change nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rewrite<'a> {
    pub model: Option<&'a str>,
    /// Replaces whichever limit the caller sent; where none was sent, it goes in under `limit_field`.
    pub max_output: Option<u64>,
    /// With `MaxTokens`, a limit given only as `max_completion_tokens` is sent under both names, since
    /// the upstream would ignore it otherwise.
    pub limit_field: LimitField,
    /// Sets `stream_options.include_usage` to true.
    pub include_usage: bool,
    /// Removes the features that the caller's plan does not include.
    pub policy: Option<&'a RequestPolicy>,
    /// Removes the caller's `stream_options`, for upstreams that do not support them.
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

/// The reason a body was refused: sent as OpenAI's error object with status 400.
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

fn stream_flag(surface: Surface, fields: &Fields<'_>) -> Result<bool, BadBody> {
    let stream = fields.flag("stream")?;
    if stream && !surface.description().streams {
        let why = "streaming is not supported on this endpoint";
        return Err(BadBody::wrong_value("stream", why));
    }
    Ok(stream)
}

impl<'a> Request<'a> {
    /// Reads a body that was sent to `surface`.
    ///
    /// # Errors
    /// [`BadBody`] when it is not a JSON object, has a key twice at the top level, lacks `model`
    /// or what the model is to read, or a field the gateway reads has the wrong type.
    pub fn parse(surface: Surface, body: &'a [u8]) -> Result<Self, BadBody> {
        // Some editors write a byte order mark, which some upstreams reject.
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let fields = Fields::read(body)?;
        let description = surface.description();
        field_names::refuse_routing(|name| fields.given(name).map(RawValue::get))?;
        let options =
            if description.usage_needs_option { fields.object("stream_options")? } else { None };
        let include_usage = options.as_ref().and_then(|options| options.get("include_usage"));
        let limits = OutputLimits::read(surface, &fields)?;
        let model = fields.model()?;
        let stream = stream_flag(surface, &fields)?;
        let n = (description.choices)(&fields)?;
        let prompt = (description.prompt)(&fields)?;
        let dependencies = (description.dependencies)(&fields)?;
        let text = std::str::from_utf8(body).unwrap_or_default();
        Ok(Self {
            surface,
            body,
            model,
            stream,
            include_usage: bool_of(
                "stream_options.include_usage",
                include_usage.map(RawValue::get),
            )?,
            max_output: limits.max_output,
            n,
            prompt,
            cache_key: fields.given("prompt_cache_key").map(RawValue::get),
            dependencies,
            paid_features: PaidFeatures::read(surface, &fields)?,
            inspection: inspect::inspect(surface, text)?,
            original: OriginalFields {
                model: fields.get("model"),
                limits,
                stream_options: fields.get("stream_options"),
                has_other_stream_options: has_other_stream_options(fields.given("stream_options")),
                include_usage,
            },
        })
    }

    /// True when the caller's `stream_options` has other members than `include_usage`.
    #[must_use]
    pub fn has_other_stream_options(&self) -> bool {
        self.original.has_other_stream_options
    }

    /// Checks the request against the caller's plan.
    ///
    /// # Errors
    /// [`BadBody`] that names the feature that the plan does not include.
    pub fn permit(&self, policy: &RequestPolicy) -> Result<(), BadBody> {
        match &self.inspection.reference {
            Some(path) if !policy.account_references => Err(BadBody::reference(path)),
            _ => self.paid_features.permit(policy),
        }
    }

    /// True if the upstream still runs server-side tools for it once `policy` is applied.
    #[must_use]
    pub fn runs_server_tools(&self, policy: &RequestPolicy) -> bool {
        self.paid_features.runs_server_tools(policy)
    }

    /// Names of the features that [`rewrite`](Self::rewrite) removes under `policy`.
    #[must_use]
    pub fn stripped_names(&self, policy: &RequestPolicy) -> Vec<String> {
        self.paid_features.stripped_names(policy)
    }

    /// The request that fetches a deferred completion. It has no body, and was charged when it was deferred.
    #[must_use]
    pub fn for_deferred_completion(model: &str) -> Self {
        Self {
            surface: Surface::ChatCompletions,
            body: b"",
            original: OriginalFields::default(),
            model: model.to_owned(),
            stream: false,
            include_usage: false,
            max_output: Some(0),
            n: 1,
            prompt: Prompt::of_extras(Vec::new()),
            cache_key: None,
            dependencies: Dependencies::default(),
            paid_features: PaidFeatures::default(),
            inspection: Inspection::default(),
        }
    }

    /// True if an earlier call was charged for it.
    #[must_use]
    pub fn is_prepaid(&self) -> bool {
        self.body.is_empty()
    }

    /// Returns the body with the changes of `rewrite`; every other byte is the caller's.
    #[must_use]
    pub fn rewrite(&self, rewrite: Rewrite<'_>) -> Bytes {
        rewrite::rewrite(self, rewrite)
    }

    /// True if the gateway must request the usage of the stream with `stream_options.include_usage`.
    #[must_use]
    pub fn needs_include_usage(&self) -> bool {
        self.stream && !self.include_usage && self.surface.description().usage_needs_option
    }

    /// The output limit's name on this surface, at an upstream that calls chat's limit `field`.
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

    /// For a field name that a server could case-fold into one that the gateway reads.
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

    /// What a response in the background used is known only after the call has been settled.
    pub(super) fn in_background() -> Self {
        Self::wrong_value("background", "background responses are not supported")
    }
}

#[cfg(test)]
mod tests;
