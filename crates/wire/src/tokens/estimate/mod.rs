//! Counts the tokens of a prompt before the upstream reports them.
//!
//! Two answers: [`estimate_prompt`] without a tokenizer, never below [`count_prompt`]; and
//! [`count_prompt`] with o200k, which is within a few per cent of what Grok bills on English and
//! code (its own tokenizer is not published). Both add what the chat template and the upstream's
//! hidden system prompt cost.

use crate::json;
use crate::media;
use crate::prompt::{PromptPiece, PromptSize};
use crate::request::Request;
use std::borrow::Cow;

/// Tokens that the chat template adds to each message, as OpenAI documents it for its own models.
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
/// The reply to messages is primed with this many tokens.
const REPLY: u64 = 3;
/// An image is charged as the largest that xAI has documented (six tiles of 256 and a preview of
/// 256); its size is unknown without decoding it, and small ones cost far less.
const PER_IMAGE: u64 = 1792;
/// Bytes of encoded audio or of a file for one token. Not documented anywhere; on the safe side
/// for compressed speech.
const MEDIA_BYTES_PER_TOKEN: u64 = 64;
/// Bytes of sealed text for one token. Sealed reasoning is base64 (4/3) of the cipher of its text, which has
/// 3.8 bytes a token in o200k: 5.1 if all of it were read again. Upstreams leave most of it out; what is
/// billed was measured at one token for 14 bytes. Counted as text it would be one for 1.5.
const SEALED_BYTES_PER_TOKEN: u64 = 8;
/// Text beyond this is not tokenized but taken at one token a byte: the limit on the work one
/// request can cause (about half a second). No model's context holds so much text.
pub const EXACT_BYTES: usize = 4 << 20;

/// An upper bound that costs no tokenizer: good when the quota is far away.
///
/// One token for each byte of text: every token of a byte-pair vocabulary stands for at least one
/// byte, so this holds for any text in any script. Usual text has three to four bytes a token.
#[must_use]
pub fn estimate_prompt(request: &Request<'_>, overhead: u64) -> u64 {
    if !request.surface.bills_prompt() || request.is_prepaid() {
        return 0;
    }
    fixed_tokens(&request.prompt.size)
        .saturating_add(request.prompt.size.text_bytes)
        .saturating_add(overhead)
}

/// The o200k count with the chat template's overhead: used when the quota is near.
///
/// Work is bounded by [`EXACT_BYTES`]; above a few hundred kilobytes of `prompt.size.text_bytes`
/// it takes milliseconds.
#[must_use]
pub fn count_prompt(request: &Request<'_>, overhead: u64) -> u64 {
    count_prompt_within(request, overhead, u64::MAX).unwrap_or(u64::MAX)
}

/// Like [`count_prompt`], but `None` once the count is above `most`: work is bounded by `most` too, so a
/// prompt that does not fit costs no more than one that does.
#[must_use]
pub fn count_prompt_within(request: &Request<'_>, overhead: u64, most: u64) -> Option<u64> {
    if !request.surface.bills_prompt() || request.is_prepaid() {
        return Some(0);
    }
    let fixed = fixed_tokens(&request.prompt.size).saturating_add(overhead);
    let mut texts = TextCounter { left: EXACT_BYTES, room: most.checked_sub(fixed), tokens: 0 };
    if min_prompt_tokens(request) > texts.room? {
        return None;
    }
    request.prompt.each(&mut |piece| match piece {
        PromptPiece::Text(json) => texts.add(|| json::text_in(json), u64::MAX),
        // Bytes that are no text may decode to more than they are.
        PromptPiece::EncodedText(payload) => {
            texts.add(|| media::decoded(payload).into(), payload.len() as u64);
        }
        _ => {}
    });
    texts.room.map(|_| fixed.saturating_add(texts.tokens))
}

/// The texts of a prompt as they are counted.
struct TextCounter {
    /// Bytes that are still tokenized.
    left: usize,
    /// Tokens that still fit; `None` once the texts have more.
    room: Option<u64>,
    tokens: u64,
}

impl TextCounter {
    /// Counts a text, which has `most` tokens at most; nothing is done for one that cannot fit any more.
    fn add<'t>(&mut self, text: impl FnOnce() -> Cow<'t, str>, most: u64) {
        let Some(room) = self.room else { return };
        let counted = count_within(&text(), &mut self.left, room.min(most)).or_else(|| {
            // Above what is possible: then it is that.
            (most <= room).then_some(most)
        });
        let counted = counted.map(|counted| counted.min(most));
        self.tokens = self.tokens.saturating_add(counted.unwrap_or(0));
        self.room = counted.and_then(|counted| room.checked_sub(counted));
    }
}

/// A lower bound of the tokens of the prompt's texts, whatever is in them.
#[must_use]
pub fn min_prompt_tokens(request: &Request<'_>) -> u64 {
    /// No token of o200k has more bytes, and JSON may write each as `\u0020`.
    const LONGEST_TOKEN: u64 = 128 * 6;
    if request.surface.bills_prompt() { request.prompt.size.text_bytes / LONGEST_TOKEN } else { 0 }
}

/// The o200k tokens of a text.
#[must_use]
pub fn count(text: &str) -> u64 {
    o200k::count(text) as u64
}

/// Tokens of so many pictures, and of so many bytes of other media and of sealed text.
#[must_use]
pub fn media_tokens(images: u64, media_bytes: u64, sealed_bytes: u64) -> u64 {
    images.saturating_mul(PER_IMAGE)
        + media_bytes.div_ceil(MEDIA_BYTES_PER_TOKEN)
        + sealed_bytes.div_ceil(SEALED_BYTES_PER_TOKEN)
}

/// The tokens that do not depend on the texts.
fn fixed_tokens(size: &PromptSize) -> u64 {
    size.messages * PER_MESSAGE
        + size.names * PER_NAME
        + media_tokens(size.images, size.media_bytes, size.sealed_bytes)
        + size.tokens
        + size.previous_response_tokens
        + if size.messages > 0 { REPLY } else { 0 }
}

/// Counts the first `left` bytes and takes the others at one token a byte; `None` above `most`.
fn count_within(text: &str, left: &mut usize, most: u64) -> Option<u64> {
    let (counted, rest) = text.split_at(text.floor_char_boundary(*left));
    *left -= counted.len();
    let most = most.checked_sub(rest.len() as u64)?;
    let within = usize::try_from(most).unwrap_or(usize::MAX);
    o200k::count_within(counted, within).map(|tokens| (tokens + rest.len()) as u64)
}

#[cfg(test)]
mod tests;
