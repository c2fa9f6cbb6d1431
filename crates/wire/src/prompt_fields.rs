//! Decides which members of a request body, beside the messages, count as part of the prompt.
//!
//! Upstreams write many members into the prompt: tools, schemas, documents, templates. So every member
//! with text counts, unless it is known never to reach a model, or to be a short parameter.

use super::prompt::ExtraField;
use serde_json::value::RawValue;

/// Members that reach no model: they name the caller, the call or its reply.
const UNREAD: [&str; 18] = [
    "model",
    "user",
    "user_id",
    "metadata",
    "client_metadata",
    "store",
    "stream",
    "stream_options",
    "previous_response_id",
    "conversation",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "request_id",
    "session_id",
    "trace",
    "logit_bias",
    "service_tier",
];
/// Parameters whose values are words, numbers or small objects of these.
const PARAMETERS: [&str; 48] = [
    "audio",
    "background",
    "betas",
    "container",
    "context_management",
    "encoding_format",
    "enable_search",
    "function_call",
    "generationConfig",
    "generation_config",
    "image_config",
    "include",
    "include_reasoning",
    "mcp_servers",
    "modalities",
    "moderation",
    "options",
    "output_config",
    "output_format",
    "aspect_ratio",
    "plugins",
    "prompt_cache_options",
    "provider",
    "quality",
    "reasoning",
    "reasoning_effort",
    "reasoning_format",
    "resolution",
    "sampling_params",
    "search_options",
    "search_parameters",
    "search_settings",
    "size",
    "speed",
    "stop",
    "stop_sequences",
    "stop_token_ids",
    "style",
    "task",
    "thinking",
    "thinking_config",
    "tool_choice",
    "transforms",
    "truncate",
    "truncation",
    "verbosity",
    "voice",
    "web_search_options",
];
/// Longest parameter, in bytes of JSON: beyond it there is text in it.
const MAX_PARAMETER_LEN: usize = 256;
/// Members that count as they are written, and whose names cost nothing beside.
const AS_WRITTEN: [&str; 9] = [
    "tools",
    "functions",
    "response_format",
    "prediction",
    "system",
    "instructions",
    "text",
    "prompt",
    "input",
];

/// The member as a part of the prompt, if a model may read it.
pub(super) fn extra_field<'a>(name: &str, value: &'a RawValue) -> Option<ExtraField<'a>> {
    let json = value.get();
    let has_text = json.starts_with(['"', '{', '[']);
    let is_parameter = || json.len() <= MAX_PARAMETER_LEN && PARAMETERS.contains(&name);
    if !has_text || UNREAD.contains(&name) || is_parameter() {
        return None;
    }
    let name = (!AS_WRITTEN.contains(&name)).then(|| name.to_owned());
    Some(ExtraField { name, json })
}
