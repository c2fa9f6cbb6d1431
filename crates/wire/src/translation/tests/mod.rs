mod golden;
mod properties;
mod endings;
mod golden_endings;
mod history;
mod hostile;
mod tool_names;

use super::{
    ReplyTranslation, TranslatedRequest, Translation, TranslationError, TranslationOptions,
};
use crate::surface::Surface;
use serde_json::Value;

pub(super) const OPTIONS: TranslationOptions<'static> = TranslationOptions {
    id: "01test",
    created_at: 1_790_000_000,
    system_first_only: false,
    replays_reasoning: false,
};

pub(super) const PAIRS: [(Surface, Surface); 4] = [
    (Surface::Messages, Surface::Responses),
    (Surface::Messages, Surface::ChatCompletions),
    (Surface::Responses, Surface::ChatCompletions),
    (Surface::ChatCompletions, Surface::Responses),
];

pub(super) fn translate(
    from: Surface,
    to: Surface,
    body: &Value,
) -> Result<TranslatedRequest, TranslationError> {
    Translation::of_request(from, to, body.to_string().as_bytes(), &OPTIONS)
}

/// The translation of replies to the smallest request, as a stream.
pub(super) fn reply_translation(from: Surface, to: Surface) -> ReplyTranslation {
    let messages = serde_json::json!([{"role": "user", "content": "Hi"}]);
    let body = match from {
        Surface::Responses => serde_json::json!({"model": "m", "input": "Hi", "stream": true}),
        _ => serde_json::json!({
            "model": "m", "max_tokens": 9, "messages": messages, "stream": true,
            "stream_options": {"include_usage": true},
        }),
    };
    translate(from, to, &body).unwrap().reply
}

/// Translates a stream in pieces of this many bytes.
pub(super) fn stream(reply: ReplyTranslation, upstream: &str, piece: usize) -> String {
    let (mut translator, mut out) = (reply.into_stream(), Vec::new());
    for bytes in upstream.as_bytes().chunks(piece) {
        translator.push(bytes, &mut out);
    }
    translator.finish(&mut out);
    String::from_utf8(out).unwrap()
}

/// The data of the events of a stream; `[DONE]` as a string.
pub(super) fn data(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))).collect()
}
