//! The body of `/v1/embeddings`.

use super::texts::Texts;
use super::{InvalidBody, ModelRequest, PromptReader};
use serde::Deserialize;

#[derive(Deserialize)]
struct EmbeddingsBody {
    model: String,
    input: Texts,
    encoding_format: Option<String>,
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<ModelRequest, InvalidBody> {
    let body: EmbeddingsBody = serde_json::from_slice(body)?;
    let mut prompt = PromptReader::without_template();
    body.input.read_into(&mut prompt);
    Ok(ModelRequest {
        model: body.model,
        max_tokens: Some(0),
        choices: body.input.count(),
        in_base64: body.encoding_format.as_deref() == Some("base64"),
        ..prompt.into_request()
    })
}
