//! `POST /v1/completions`, the legacy endpoint: a prompt is one text, several, or tokens.

use super::chat::{ChunkStream, read_chunk_reply};
use super::{Description, Output, no_dependencies, no_id, openai_error};
use crate::cut::{ChunkStyle, StreamSummary};
use crate::field_names::COUNTS;
use crate::fields::Fields;
use crate::json::each_element;
use crate::request::BadBody;

pub(super) static DESCRIPTION: Description = Description {
    path: "/completions",
    output: Output::Tokens(&["max_tokens"]),
    streams: true,
    usage_needs_option: true,
    bills_prompt: true,
    choices,
    prompt: |fields| fields.texts("prompt"),
    dependencies: no_dependencies,
    stream_reader: |include_usage| {
        Box::new(ChunkStream::new(StreamSummary::new(ChunkStyle::Text), include_usage))
    },
    read_reply: read_chunk_reply,
    id_of: no_id,
    error: openai_error,
};

/// Each prompt gets its own answers, and of `best_of` that are made all are paid.
fn choices(fields: &Fields<'_>) -> Result<u64, BadBody> {
    let answers = fields.largest_count(&COUNTS)?;
    Ok(answers.saturating_mul(prompts(fields)))
}

fn prompts(fields: &Fields<'_>) -> u64 {
    let Some(prompt) = fields.given("prompt") else { return 1 };
    let mut prompts = 0;
    // An array of numbers is one prompt in tokens.
    let walked = each_element(prompt.get(), |element| {
        prompts += u64::from(element.get().starts_with(['"', '[']));
    });
    if walked.is_ok() { prompts.max(1) } else { 1 }
}
