//! Estimates the tokens of a message, a response item or a part of either.
//!
//! Containers are walked and their strings counted one by one; unknown values count as one text.

use super::cursor::Cursor;
use super::media::{self, MediaContext, MediaKind};
use super::prompt::{PromptPiece, visit_text};

/// Members that contain parts, or text, or an object of such.
const CONTAINERS: [&str; 21] = [
    "documents",
    "content",
    "output",
    "outputs",
    "result",
    "results",
    "summary",
    "parts",
    "attachments",
    "resource",
    "reasoning_details",
    "thinking_blocks",
    "tool_result",
    "tool_results",
    "response",
    "functionResponse",
    "function_response",
    "extra_content",
    "provider_specific_fields",
    "google",
    "files",
];
/// Members that contain a medium, and its kind.
const MEDIA: [(&str, MediaContext); 23] = [
    ("image", MediaContext::Image),
    ("images", MediaContext::Image),
    ("image_url", MediaContext::Image),
    ("imageUrl", MediaContext::Image),
    ("input_image", MediaContext::Image),
    ("image_data", MediaContext::Image),
    ("image_file", MediaContext::Image),
    ("screenshot", MediaContext::Image),
    ("audio", MediaContext::Sound),
    ("audio_url", MediaContext::Sound),
    ("input_audio", MediaContext::Sound),
    ("video", MediaContext::Sound),
    ("video_url", MediaContext::Sound),
    ("input_video", MediaContext::Sound),
    ("file", MediaContext::File),
    ("file_data", MediaContext::File),
    ("file_url", MediaContext::File),
    ("file_id", MediaContext::File),
    ("document", MediaContext::File),
    ("document_url", MediaContext::File),
    ("source", MediaContext::File),
    ("inline_data", MediaContext::File),
    ("inlineData", MediaContext::File),
];
/// Members that only their maker can read, in every dialect: OpenAI's and xAI's reasoning and compaction,
/// Anthropic's thinking and search results, Google's thoughts.
const SEALED: [&str; 9] = [
    "encrypted_content",
    "signature",
    "thinking_signature",
    "thought_signature",
    "thoughtSignature",
    "encrypted_index",
    "encrypted_stdout",
    "encrypted",
    "redacted_data",
];
/// Members that describe the others. Their values are single words.
const DESCRIPTIONS: [&str; 9] = [
    "type",
    "detail",
    "format",
    "media_type",
    "mime_type",
    "mimeType",
    "mime",
    "status",
    "cache_control",
];
/// Longest value that is taken for a word.
const MAX_WORD_LEN: usize = 64;
/// Members whose names do not count as text. The names of others do.
const PLAIN: [&str; 24] = [
    "role",
    "name",
    "id",
    "text",
    "refusal",
    "thinking",
    "reasoning",
    "reasoning_content",
    "title",
    "filename",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "tool_calls",
    "is_error",
    "annotations",
    "arguments",
    "input",
    "action",
    "queries",
    "code",
    "phase",
    "server_label",
    "logprobs",
];

/// A walk through a message, an item or a part.
pub(super) struct PromptWalk<'v, 'a> {
    pub visit: &'v mut dyn FnMut(PromptPiece<'a>),
    /// The medium it is in, if any.
    pub context: Option<MediaContext>,
}

impl<'a> PromptWalk<'_, 'a> {
    /// Reads the members of an object. Encoded data are read last, once the members that describe them are known.
    pub fn object(&mut self, cursor: &mut Cursor<'a>) {
        let mut data: Vec<(&'static str, &'a str)> = Vec::new();
        let mut siblings = Siblings::default();
        if !cursor.enter(b'{') {
            return self.text(cursor.skip());
        }
        while let Some(name) = cursor.next_member() {
            let is_string = cursor.peek() == Some(b'"');
            match &*name {
                "data" | "url" | "blob" | "bytes" | "base64" | "b64_json" if is_string => {
                    let name = if name == "url" { "url" } else { "data" };
                    data.push((name, cursor.skip()));
                }
                name if DESCRIPTIONS.contains(&name) => {
                    self.description(name, cursor, &mut siblings);
                }
                name => self.member(name, cursor),
            }
        }
        for (name, json) in data {
            match () {
                () if siblings.is_sealed => self.sealed(json),
                () if siblings.is_text => self.text(json),
                () => self.string(name, json, siblings.mime),
            }
        }
    }

    fn description(&mut self, name: &str, cursor: &mut Cursor<'a>, siblings: &mut Siblings<'a>) {
        let json = cursor.skip();
        if json.len() > MAX_WORD_LEN {
            return self.text(json);
        }
        let word = json.trim_matches('"');
        match name {
            "type" => {
                siblings.is_text = matches!(word, "text" | "input_text" | "output_text");
                siblings.is_sealed = word.contains("redacted") || word.contains("encrypted");
            }
            "media_type" | "mime_type" | "mimeType" | "mime" => siblings.mime = Some(word),
            _ => {}
        }
    }

    /// A member of an object.
    pub fn member(&mut self, name: &str, cursor: &mut Cursor<'a>) {
        let medium = MEDIA.iter().find(|(known, _)| *known == name).map(|(_, context)| *context);
        let is_container = medium.is_some() || self.context.is_some() || CONTAINERS.contains(&name);
        let is_known = medium.is_some()
            || [&CONTAINERS[..], &PLAIN, &SEALED].iter().any(|names| names.contains(&name));
        if !is_known {
            self.name(name);
        }
        if self.context.is_none() && name == "name" {
            (self.visit)(PromptPiece::Name);
        }
        match cursor.peek() {
            Some(b'{' | b'[') if is_container => {
                // A picture in a file is a picture.
                let context = medium.or(self.context);
                PromptWalk { visit: &mut *self.visit, context }.elements(name, cursor);
            }
            Some(b'"') if SEALED.contains(&name) => self.sealed(cursor.skip()),
            Some(b'"') => {
                let context = medium.or(self.context);
                PromptWalk { visit: &mut *self.visit, context }.string(name, cursor.skip(), None);
            }
            _ if name == "tool_calls" => self.with_seals(cursor),
            _ => self.text(cursor.skip()),
        }
    }

    /// The elements of an array under `name`, or the members of an object there.
    fn elements(&mut self, name: &str, cursor: &mut Cursor<'a>) {
        if !cursor.enter(b'[') {
            return self.object(cursor);
        }
        while cursor.next_element() {
            match cursor.peek() {
                Some(b'"') => self.string(name, cursor.skip(), None),
                _ => self.elements(name, cursor),
            }
        }
    }

    fn string(&mut self, name: &str, json: &'a str, mime: Option<&str>) {
        // The upstream passes these to the model as they are, even an encoded picture.
        const READ: [&str; 9] = [
            "text",
            "content",
            "output",
            "input",
            "arguments",
            "thinking",
            "summary",
            "refusal",
            "name",
        ];
        if READ.contains(&name) {
            return self.text(json);
        }
        (self.visit)(match media::kind(name, json, self.context, mime) {
            MediaKind::Text => PromptPiece::Text(json),
            MediaKind::Image | MediaKind::Link => PromptPiece::Image,
            MediaKind::Binary => PromptPiece::Media(json),
            MediaKind::EncodedText(payload) => PromptPiece::EncodedText(payload),
        });
    }

    fn sealed(&mut self, json: &'a str) {
        (self.visit)(if media::is_sealed(json) {
            PromptPiece::Sealed(json)
        } else {
            PromptPiece::Text(json)
        });
    }

    /// A value that is text as it is written, but for what is sealed in it.
    fn with_seals(&mut self, cursor: &mut Cursor<'a>) {
        let mut seals = Vec::new();
        let start = cursor.clone();
        find_seals(cursor, &mut seals);
        let whole = start.clone().skip();
        let mut text_from = 0;
        for json in seals {
            let at = json.as_ptr().addr() - whole.as_ptr().addr();
            self.text(&whole[text_from..at]);
            self.sealed(json);
            text_from = at + json.len();
        }
        self.text(&whole[text_from..]);
    }

    /// The name of a member that is not known to be one: an upstream may write it into the prompt.
    fn name(&mut self, name: &str) {
        (self.visit)(PromptPiece::Unknown(name.len() as u64));
    }

    fn text(&mut self, json: &'a str) {
        visit_text(json, self.visit);
    }
}

/// The members beside encoded data that describe it.
#[derive(Default)]
struct Siblings<'a> {
    mime: Option<&'a str>,
    is_text: bool,
    is_sealed: bool,
}

/// The strings in a value that are under the names of sealed text.
fn find_seals<'a>(cursor: &mut Cursor<'a>, seals: &mut Vec<&'a str>) {
    if cursor.enter(b'[') {
        while cursor.next_element() {
            find_seals(cursor, seals);
        }
    } else if cursor.enter(b'{') {
        while let Some(name) = cursor.next_member() {
            if SEALED.contains(&&*name) && cursor.peek() == Some(b'"') {
                seals.push(cursor.skip());
            } else if matches!(&*name, "arguments" | "input" | "parameters") {
                // The model's own words, whatever they are called.
                cursor.skip();
            } else {
                find_seals(cursor, seals);
            }
        }
    } else {
        cursor.skip();
    }
}
