//! The body of `/v1/images/generations`.

use super::{InvalidBody, ModelRequest, PromptReader};
use serde::Deserialize;

#[derive(Deserialize)]
struct ImagesBody {
    model: String,
    prompt: String,
    n: Option<u32>,
    response_format: Option<String>,
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<ModelRequest, InvalidBody> {
    let body: ImagesBody = serde_json::from_slice(body)?;
    let mut prompt = PromptReader::without_template();
    prompt.add_prompt(&body.prompt);
    let choices = body.n.unwrap_or(1).max(1);
    Ok(ModelRequest {
        model: body.model,
        max_tokens: Some(0),
        choices,
        in_base64: body.response_format.as_deref() == Some("b64_json"),
        ..ModelRequest { prompt_tokens: 0, ..prompt.into_request() }
    })
}
