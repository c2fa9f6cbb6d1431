//! Field names that other servers read as something the gateway limits.
//!
//! The gateway forwards fields it does not know. So every name that requests more output, more
//! completions, another model or another billing route must be listed here: those of OpenAI,
//! xAI, Anthropic, vLLM, SGLang, llama.cpp, Ollama, TGI, LiteLLM, OpenRouter and Google.

use super::request::BadBody;

/// Limits on the output of one choice. Each is lowered to what is granted.
pub const LIMITS: [&str; 21] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "max_tokens_to_sample",
    "max_tokens_to_generate",
    "max_generated_tokens",
    "max_gen_toks",
    "max_gen_len",
    "max_output_len",
    "max_decode_tokens",
    "max_completion_length",
    "max_length",
    "n_predict",
    "num_predict",
    "num_tokens_to_generate",
    "maxTokens",
    "maxNewTokens",
    "maxOutputTokens",
    "maxCompletionTokens",
    "maxTokensToSample",
];

/// Least output, or budgets within the output that some servers put on top of it: none may be above the
/// limit.
pub const BUDGETS: [&str; 17] = [
    "min_tokens",
    "min_completion_tokens",
    "min_new_tokens",
    "min_output_tokens",
    "min_length",
    "budget_tokens",
    "thinking_budget",
    "thinking_budget_tokens",
    "thinking_tokens",
    "thinking_token_budget",
    "thinkingBudget",
    "reasoning_budget",
    "reasoning_tokens",
    "max_thinking_tokens",
    "max_reasoning_tokens",
    "minTokens",
    "budgetTokens",
];

/// Numbers of answers that are made, shown or not.
pub const COUNTS: [&str; 11] = [
    "n",
    "best_of",
    "num_return_sequences",
    "num_completions",
    "num_samples",
    "num_beams",
    "beam_width",
    "candidate_count",
    "candidateCount",
    "bestOf",
    "numCompletions",
];

/// Names of the number of images to generate.
pub const IMAGE_COUNTS: [&str; 9] = [
    "n",
    "num_images",
    "num_images_per_prompt",
    "num_outputs",
    "number_of_images",
    "numberOfImages",
    "sample_count",
    "sampleCount",
    "batch_size",
];

/// Other names of the number of images, which are only accepted if they are 1.
pub const OTHER_IMAGE_COUNTS: [&str; 24] = [
    "num",
    "count",
    "quantity",
    "samples",
    "num_samples",
    "batch",
    "batch_count",
    "n_iter",
    "n_images",
    "n_samples",
    "image_count",
    "images_count",
    "image_num",
    "output_count",
    "num_results",
    "num_generations",
    "max_images",
    "variations",
    "num_variations",
    "candidate_count",
    "num_candidates",
    "best_of",
    "num_return_sequences",
    "num_completions",
];

/// Objects in which some servers read the members above.
pub const OPTIONS: [&str; 13] = [
    "options",
    "generationConfig",
    "generation_config",
    "inferenceConfig",
    "inference_config",
    "parameters",
    "sampling_params",
    "thinking",
    "thinking_config",
    "thinkingConfig",
    "reasoning",
    "chat_template_kwargs",
    "nvext",
];

/// Members that name another model, another server or another way to it, and what to do instead.
const ROUTING: [&str; 27] = [
    "models",
    "route",
    "fallbacks",
    "context_window_fallbacks",
    "context_window_fallback_dict",
    "content_policy_fallbacks",
    "default_fallbacks",
    "preset",
    "model_list",
    "user_config",
    "custom_llm_provider",
    "litellm_params",
    "litellm_credential_name",
    "api_base",
    "base_url",
    "api_key",
    "api_token",
    "extra_body",
    "extra_headers",
    "extra_query",
    "adapter_id",
    "adapter_source",
    "lora",
    "lora_path",
    "lora_request",
    "kv_transfer_params",
    "speculative_model",
];

/// Every other name that is read at the top of a body.
const READ: [&str; 53] = [
    "model",
    "messages",
    "input",
    "prompt",
    "text",
    "system",
    "instructions",
    "stream",
    "stream_options",
    "tools",
    "functions",
    "tool_choice",
    "parallel_tool_calls",
    "include",
    "response_format",
    "prediction",
    "prompt_cache_key",
    "store",
    "deferred",
    "background",
    "previous_response_id",
    "conversation",
    "container",
    "file_ids",
    "vector_store_ids",
    "collection_ids",
    "cached_content",
    "cachedContent",
    "prompt_id",
    "data_sources",
    "service_tier",
    "serviceTier",
    "speed",
    "max_tool_calls",
    "max_turns",
    "size",
    "quality",
    "resolution",
    "width",
    "height",
    "provider",
    "ignore_eos",
    "use_beam_search",
    "search_parameters",
    "web_search_options",
    "web_search",
    "enable_search",
    "enable_web_search",
    "search_options",
    "search_settings",
    "plugins",
    "mcp_servers",
    "compound_custom",
];

/// Refuses members by which the call would go another way than the gateway sends it.
///
/// # Errors
/// [`BadBody`] that names the member.
pub fn refuse_routing<'a>(given: impl Fn(&str) -> Option<&'a str>) -> Result<(), BadBody> {
    let is_set = |json: &str| !matches!(json, "[]" | "{}" | "\"\"" | "false");
    for name in ROUTING {
        if given(name).is_some_and(is_set) {
            return Err(BadBody::unsupported(name, "routing is determined by `model`"));
        }
    }
    // A string may be a comment; an object is OpenRouter's choice of providers and their prices.
    if given("provider").is_some_and(|json| json.starts_with('{')) {
        return Err(BadBody::unsupported("provider", "routing is determined by `model`"));
    }
    if given("use_beam_search").is_some_and(is_set) {
        return Err(BadBody::unsupported(
            "use_beam_search",
            "beam search generates tokens that are not reported as usage",
        ));
    }
    Ok(())
}

/// The name that is read at the top of a body and that `name` can be taken for: servers in Go read
/// `Max_Tokens` as `max_tokens`. `None` for the name itself.
#[must_use]
pub fn imitated_name(name: &str) -> Option<&'static str> {
    find_imitated(name, [&READ[..], &LIMITS, &BUDGETS, &COUNTS, &IMAGE_COUNTS, &OPTIONS, &ROUTING])
}

/// Like [`imitated_name`], but only among the names in `known`.
#[must_use]
pub fn find_imitated<const N: usize>(
    name: &str,
    known: [&[&'static str]; N],
) -> Option<&'static str> {
    let mut found = None;
    let is_ascii = name.is_ascii();
    for known in known.into_iter().flatten() {
        // What is ASCII folds into names of its own length only.
        if is_ascii && name.len() != known.len() {
            continue;
        }
        if *known == name {
            return None;
        }
        if found.is_none() && folds_to(name, known) {
            found = Some(*known);
        }
    }
    found
}

/// True if both names are equal under Unicode's simple case folding; `known` is ASCII.
fn folds_to(name: &str, known: &str) -> bool {
    folded(name).eq(known.chars().map(|c| c.to_ascii_lowercase()))
}

/// The characters of a name under Unicode's simple case folding, as far as they fold into ASCII.
pub fn folded(name: &str) -> impl Iterator<Item = char> {
    // Two characters beyond ASCII fold into it: the long s and the Kelvin sign.
    name.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_in_go_reads_as_a_name_imitates_it() {
        for (name, known) in [
            ("Model", "model"),
            ("MODEL", "model"),
            ("Max_Tokens", "max_tokens"),
            ("max_to\u{212a}ens", "max_tokens"),
            ("me\u{17f}\u{17f}ages", "messages"),
            ("\u{17f}tream", "stream"),
            ("MaxTokens", "maxTokens"),
            ("N", "n"),
            ("Service_Tier", "service_tier"),
            ("FALLBACKS", "fallbacks"),
        ] {
            assert_eq!(imitated_name(name), Some(known), "{name}");
        }
        for name in
            ["model", "maxTokens", "max_tokens", "models", "modell", "\u{131}nput", "mode", ""]
        {
            assert_eq!(imitated_name(name), None, "{name}");
        }
    }
}
