//! What a prompt is made of, as far as its tokens go: texts, images, other media, messages.
//!
//! Keeps references into the body and copies nothing. The walk is the same for sizing and for
//! counting, so the two can never disagree about what counts. It errs towards counting too much:
//! members it does not know count as text. Encoded media never count as text.

use super::json::{self, each_element, each_member};
use serde_json::value::RawValue;

/// The parts of a request that a model reads.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    messages: &'a RawValue,
    /// `tools`, `functions` and `response_format`, which upstreams write into the prompt.
    extras: Vec<&'a RawValue>,
    pub size: PromptSize,
}

/// How much of each there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptSize {
    pub messages: u64,
    pub names: u64,
    /// Bytes of text at most: escapes count as they are written.
    pub text_bytes: u64,
    pub images: u64,
    /// Bytes of audio and files as they are written.
    pub media_bytes: u64,
}

/// One part, in the order of the body.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// A message begins.
    Message,
    /// The message has a name; its text follows by itself.
    Name,
    Text(&'a RawValue),
    Image,
    Media(&'a RawValue),
}

/// What is wrong with `messages`.
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
    pub fn read(messages: &'a RawValue, extras: Vec<&'a RawValue>) -> Result<Self, BadMessages> {
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
        let mut prompt = Self { messages, extras, size: PromptSize::default() };
        prompt.size = prompt.measure();
        Ok(prompt)
    }

    /// Calls `visit` with every piece.
    pub fn each(&self, visit: &mut dyn FnMut(Piece<'a>)) {
        // The body has been parsed before, so none of these walks can fail.
        let _ = each_element(self.messages.get(), |message| {
            visit(Piece::Message);
            let _ = each_member(message.get(), |name, value| match &*name {
                "content" => content(value, visit),
                "name" => {
                    visit(Piece::Name);
                    text(value, visit);
                }
                _ => text(value, visit),
            });
        });
        for extra in &self.extras {
            text(extra, visit);
        }
    }

    fn measure(&self) -> PromptSize {
        let mut size = PromptSize::default();
        self.each(&mut |piece| match piece {
            Piece::Message => size.messages += 1,
            Piece::Name => size.names += 1,
            Piece::Text(raw) => size.text_bytes += json::text_len(raw) as u64,
            Piece::Image => size.images += 1,
            Piece::Media(raw) => size.media_bytes += json::text_len(raw) as u64,
        });
        size
    }
}

/// A message's content: a string, or an array of parts.
fn content<'a>(value: &'a RawValue, visit: &mut dyn FnMut(Piece<'a>)) {
    if !value.get().starts_with('[') {
        return text(value, visit);
    }
    let _ = each_element(value.get(), |part| {
        if !part.get().starts_with('{') {
            return text(part, visit);
        }
        let _ = each_member(part.get(), |name, value| match &*name {
            "type" => {}
            "image_url" | "image" => visit(Piece::Image),
            "input_audio" | "file" => visit(Piece::Media(value)),
            // A media part of a kind yet unknown; a `text` part may well quote such an address.
            name if name != "text" && value.get().contains(";base64,") => {
                visit(Piece::Media(value));
            }
            _ => text(value, visit),
        });
    });
}

fn text<'a>(value: &'a RawValue, visit: &mut dyn FnMut(Piece<'a>)) {
    if !json::is_null(value) {
        visit(Piece::Text(value));
    }
}
