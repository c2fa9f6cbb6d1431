//! Formats of replies that are not text: embeddings, images, tokens.

use crate::answer::Answer;
use crate::reply::chat::Envelope;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The number of dimensions of an embedding.
const DIMENSIONS: u64 = 8;

/// The image that all requests get: a gray square.
pub const JPEG: &[u8] = include_bytes!("image.jpg");
/// The path below which the simulator serves its image.
pub const IMAGE_PATH: &str = "/sim/images/";

/// Images with their price: in base64, or as links to the simulator, whose address is `host`.
pub fn images(answer: &Answer, envelope: &Envelope, in_base64: bool, host: &str) -> String {
    let image = |number: u32| {
        if in_base64 {
            return json!({"b64_json": STANDARD.encode(JPEG), "mime_type": "image/jpeg"});
        }
        let url = format!("http://{host}{IMAGE_PATH}{}/{number}.jpg", envelope.id);
        json!({"url": url, "mime_type": "image/jpeg"})
    };
    let data: Vec<_> = (0..answer.choices).map(image).collect();
    let mut reply = json!({"data": data});
    if let Some(usage) = answer.reported_usage {
        reply["usage"] = json!({"cost_in_usd_ticks": usage.cost_ticks});
    }
    reply.to_string()
}

/// One embedding for each input.
pub fn embeddings(answer: &Answer, in_base64: bool) -> String {
    let embedding = |index: u32| {
        let numbers: Vec<f32> = (0..DIMENSIONS).map(|place| number(answer, index, place)).collect();
        let embedding: Value = if in_base64 {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            STANDARD.encode(bytes).into()
        } else {
            json!(numbers)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<_> = (0..answer.choices).map(embedding).collect();
    let mut reply = json!({"object": "list", "data": data, "model": answer.model});
    if let Some(usage) = answer.reported_usage {
        reply["usage"] = json!({"prompt_tokens": usage.prompt, "total_tokens": usage.prompt});
    }
    reply.to_string()
}

/// A number from -1 to 1 that is the same for the same input.
fn number(answer: &Answer, index: u32, place: u64) -> f32 {
    let word = answer.words_of(index).nth(usize::try_from(place).unwrap_or_default());
    let length = u8::try_from(word.unwrap_or_default().len()).unwrap_or(u8::MAX);
    f32::from(length) / 16.0 - 0.5
}

/// The o200k tokens of a text.
pub fn tokens(text: &str) -> String {
    let token = |(id, bytes): (u32, &[u8])| {
        let text = String::from_utf8_lossy(bytes);
        json!({"token_id": id, "string_token": text, "token_bytes": bytes})
    };
    let tokens: Vec<_> = o200k::encode(text).into_iter().map(token).collect();
    json!({"token_ids": tokens}).to_string()
}
