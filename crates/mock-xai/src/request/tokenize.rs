//! The body of `/v1/tokenize-text`.

use super::InvalidBody;
use serde::Deserialize;

/// The model and the text to tokenize.
#[derive(Deserialize)]
pub struct TokenizeRequest {
    pub model: String,
    pub text: String,
}

/// Reads the body of a request.
///
/// # Errors
/// [`InvalidBody`].
pub fn read(body: &[u8]) -> Result<TokenizeRequest, InvalidBody> {
    Ok(serde_json::from_slice(body)?)
}
