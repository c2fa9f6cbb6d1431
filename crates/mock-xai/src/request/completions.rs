//! The body of `/v1/completions`.

use super::texts::Texts;
use super::{InvalidBody, ModelRequest, PromptReader, StreamOptions};
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct CompletionsBody<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    prompt: Texts,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    n: Option<u32>,
    best_of: Option<u32>,
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<ModelRequest, InvalidBody> {
    let body: CompletionsBody<'_> = serde_json::from_slice(body)?;
    let mut prompt = PromptReader::without_template();
    body.prompt.read_into(&mut prompt);
    let answers = body.n.unwrap_or(1).max(body.best_of.unwrap_or(1)).max(1);
    Ok(ModelRequest {
        model: body.model.into_owned(),
        stream: body.stream.unwrap_or(false),
        stream_options: body.stream_options.is_some(),
        include_usage: body.stream_options.is_some_and(|options| options.include_usage),
        max_tokens: body.max_tokens,
        choices: answers.saturating_mul(body.prompt.count()),
        ..prompt.into_request()
    })
}
