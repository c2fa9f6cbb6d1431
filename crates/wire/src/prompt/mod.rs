//! The parts of a prompt that cost tokens: messages, texts, images, other media.
//!
//! Keeps references into the body and copies nothing. The walk is the same for sizing and for
//! counting, so the two can never disagree about what counts; it reads each byte once. It errs towards
//! counting too much: members it does not know count as text. A part weighs the same wherever it
//! occurs, in a message, in the output of a tool, or nested in another part; encoded media weigh as
//! media, and sealed text (encrypted reasoning, signatures) as such.

use super::cursor::Cursor;
use super::json::{self, each_element};
use super::prompt_walk::PromptWalk;
use serde_json::value::RawValue;

/// The parts of a request that a model reads.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    main: MainInput<'a>,
    /// `tools`, `response_format` and the like, which upstreams write into the prompt.
    extras: Vec<ExtraField<'a>>,
    pub size: PromptSize,
}

/// A member beside the main part that a model may read.
#[derive(Debug, Clone)]
pub struct ExtraField<'a> {
    /// `None` for one that counts as it is written.
    pub(super) name: Option<String>,
    pub(super) json: &'a str,
}

/// The messages or texts of a prompt.
#[derive(Debug, Clone, Copy)]
enum MainInput<'a> {
    Empty,
    /// An array of objects, each with its content.
    Messages(&'a RawValue),
    /// A string that is one message.
    Message(&'a RawValue),
    /// A string, or an array of strings, tokens, or arrays of tokens; in no template.
    Texts(&'a RawValue),
}

/// Counts of each kind of part in a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptSize {
    pub messages: u64,
    pub names: u64,
    /// Bytes of text at most: escapes count as they are written.
    pub text_bytes: u64,
    pub images: u64,
    /// Bytes of audio and files as they are written.
    pub media_bytes: u64,
    /// Bytes of sealed text as they are written.
    pub sealed_bytes: u64,
    /// Text that came as tokens.
    pub tokens: u64,
    /// Tokens of what went before, which the upstream has and the body has not.
    pub previous_response_tokens: u64,
}

/// One part, in the order of the body.
#[derive(Debug, Clone, Copy)]
pub enum PromptPiece<'a> {
    /// The beginning of a message.
    Message,
    /// The message has a name; its text follows by itself.
    Name,
    /// JSON of a text, or of anything else that counts as one.
    Text(&'a str),
    /// Base64 of a text, which the upstream decodes.
    EncodedText(&'a str),
    /// A picture, or a medium behind a link.
    Image,
    /// JSON of encoded audio, video or a file.
    Media(&'a str),
    /// JSON of a text that only its maker can read.
    Sealed(&'a str),
    /// A token by its number.
    Token,
    /// Bytes of a name that may be read.
    Unknown(u64),
}

/// The reason `messages` is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadMessages {
    NotAnArray,
    Empty,
    /// This element is not an object.
    NotAnObject(u64),
}

impl<'a> Prompt<'a> {
    /// Reads `messages`, with the other members that become part of the prompt.
    ///
    /// # Errors
    /// [`BadMessages`].
    pub fn read(messages: &'a RawValue, extras: Vec<ExtraField<'a>>) -> Result<Self, BadMessages> {
        let mut count = 0;
        let mut not_an_object = None;
        each_element(messages.get(), |message| {
            if not_an_object.is_none() && !message.get().starts_with('{') {
                not_an_object = Some(count);
            }
            count += 1;
        })
        .map_err(|_| BadMessages::NotAnArray)?;
        if let Some(at) = not_an_object {
            return Err(BadMessages::NotAnObject(at));
        }
        if count == 0 {
            return Err(BadMessages::Empty);
        }
        Ok(Self::of(MainInput::Messages(messages), extras))
    }

    /// A prompt whose main part is one message, a string.
    #[must_use]
    pub fn of_text(text: &'a RawValue, extras: Vec<ExtraField<'a>>) -> Self {
        Self::of(MainInput::Message(text), extras)
    }

    /// A prompt whose main part is at the upstream already.
    #[must_use]
    pub fn of_extras(extras: Vec<ExtraField<'a>>) -> Self {
        Self::of(MainInput::Empty, extras)
    }

    /// A string, or an array of strings, tokens, or arrays of tokens; `None` for anything else.
    #[must_use]
    pub fn of_texts(texts: &'a RawValue, extras: Vec<ExtraField<'a>>) -> Option<Self> {
        let mut is_good = texts.get().starts_with('"');
        if !is_good {
            let mut count = 0_u64;
            let mut are_good = true;
            each_element(texts.get(), |text| {
                count += 1;
                are_good &= is_text_or_token(text) || is_tokens(text);
            })
            .ok()?;
            is_good = are_good && count > 0;
        }
        is_good.then(|| Self::of(MainInput::Texts(texts), extras))
    }

    fn of(main: MainInput<'a>, extras: Vec<ExtraField<'a>>) -> Self {
        let mut prompt = Self { main, extras, size: PromptSize::default() };
        prompt.size = prompt.measure();
        prompt
    }

    /// Calls `visit` with every piece.
    pub fn each(&self, visit: &mut dyn FnMut(PromptPiece<'a>)) {
        match self.main {
            MainInput::Empty => {}
            MainInput::Messages(messages) => each_message(messages, visit),
            MainInput::Message(message) => {
                visit(PromptPiece::Message);
                // The role that the upstream gives it.
                visit(PromptPiece::Token);
                visit_text(message.get(), visit);
            }
            MainInput::Texts(texts) => each_text(texts, visit),
        }
        for extra in &self.extras {
            match &extra.name {
                None => visit_text(extra.json, visit),
                Some(name) => {
                    let mut cursor = Cursor::new(extra.json);
                    PromptWalk { visit: &mut *visit, context: None }.member(name, &mut cursor);
                }
            }
        }
    }

    fn measure(&self) -> PromptSize {
        let mut size = PromptSize::default();
        self.each(&mut |piece| match piece {
            PromptPiece::Message => size.messages += 1,
            PromptPiece::Name => size.names += 1,
            PromptPiece::Text(json) => size.text_bytes += json::text_len_in(json) as u64,
            PromptPiece::EncodedText(payload) => size.text_bytes += payload.len() as u64,
            PromptPiece::Image => size.images += 1,
            PromptPiece::Media(json) => size.media_bytes += json::text_len_in(json) as u64,
            PromptPiece::Sealed(json) => size.sealed_bytes += json::text_len_in(json) as u64,
            PromptPiece::Token => size.tokens += 1,
            PromptPiece::Unknown(bytes) => size.tokens += bytes.div_ceil(3),
        });
        size
    }
}

fn each_message<'a>(messages: &'a RawValue, visit: &mut dyn FnMut(PromptPiece<'a>)) {
    let mut cursor = Cursor::new(messages.get());
    cursor.enter(b'[');
    while cursor.next_element() {
        visit(PromptPiece::Message);
        PromptWalk { visit: &mut *visit, context: None }.object(&mut cursor);
    }
}

fn each_text<'a>(texts: &'a RawValue, visit: &mut dyn FnMut(PromptPiece<'a>)) {
    if texts.get().starts_with('[') {
        let _ = each_element(texts.get(), |text| each_text(text, visit));
    } else if texts.get().starts_with('"') {
        visit_text(texts.get(), visit);
    } else {
        visit(PromptPiece::Token);
    }
}

fn is_text_or_token(raw: &RawValue) -> bool {
    raw.get().starts_with('"') || raw.get().parse::<u64>().is_ok()
}

fn is_tokens(raw: &RawValue) -> bool {
    let mut are_tokens = true;
    let walked = each_element(raw.get(), |token| {
        are_tokens &= token.get().parse::<u64>().is_ok();
    });
    walked.is_ok() && are_tokens
}

pub(super) fn visit_text<'a>(json: &'a str, visit: &mut dyn FnMut(PromptPiece<'a>)) {
    if json != "null" {
        visit(PromptPiece::Text(json));
    }
}

#[cfg(test)]
mod tests;
