//! Estimates the tokens of a message, a response item or a part of either.
//!
//! Containers are walked and their strings counted one by one; unknown values count as one text.

use super::cursor::Cursor;
use super::media::{self, Kind, Place};
use super::prompt::{Piece, text};

/// Members that hold parts, or text, or an object of such.
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
/// Members that hold a medium, and which.
const MEDIA: [(&str, Place); 23] = [
    ("image", Place::Image),
    ("images", Place::Image),
    ("image_url", Place::Image),
    ("imageUrl", Place::Image),
    ("input_image", Place::Image),
    ("image_data", Place::Image),
    ("image_file", Place::Image),
    ("screenshot", Place::Image),
    ("audio", Place::Sound),
    ("audio_url", Place::Sound),
    ("input_audio", Place::Sound),
    ("video", Place::Sound),
    ("video_url", Place::Sound),
    ("input_video", Place::Sound),
    ("file", Place::File),
    ("file_data", Place::File),
    ("file_url", Place::File),
    ("file_id", Place::File),
    ("document", Place::File),
    ("document_url", Place::File),
    ("source", Place::File),
    ("inline_data", Place::File),
    ("inlineData", Place::File),
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
/// Members that say how the others are to be read. Their values are a word.
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
/// Members whose names are no text for the model. The names of others count.
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
pub(super) struct Walk<'v, 'a> {
    pub visit: &'v mut dyn FnMut(Piece<'a>),
    /// The medium it is in, if any.
    pub place: Option<Place>,
}

impl<'a> Walk<'_, 'a> {
    /// The members of an object. Encoded data wait for what stands beside them.
    pub fn object(&mut self, cursor: &mut Cursor<'a>) {
        let mut data: Vec<(&'static str, &'a str)> = Vec::new();
        let mut beside = Beside::default();
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
                name if DESCRIPTIONS.contains(&name) => self.description(name, cursor, &mut beside),
                name => self.member(name, cursor),
            }
        }
        for (name, json) in data {
            match () {
                () if beside.is_sealed => self.sealed(json),
                () if beside.is_text => self.text(json),
                () => self.string(name, json, beside.mime),
            }
        }
    }

    fn description(&mut self, name: &str, cursor: &mut Cursor<'a>, beside: &mut Beside<'a>) {
        let json = cursor.skip();
        if json.len() > MAX_WORD_LEN {
            return self.text(json);
        }
        let word = json.trim_matches('"');
        match name {
            "type" => {
                beside.is_text = matches!(word, "text" | "input_text" | "output_text");
                beside.is_sealed = word.contains("redacted") || word.contains("encrypted");
            }
            "media_type" | "mime_type" | "mimeType" | "mime" => beside.mime = Some(word),
            _ => {}
        }
    }

    /// A member of an object.
    pub fn member(&mut self, name: &str, cursor: &mut Cursor<'a>) {
        let medium = MEDIA.iter().find(|(known, _)| *known == name).map(|(_, place)| *place);
        let is_container = medium.is_some() || self.place.is_some() || CONTAINERS.contains(&name);
        let is_known = medium.is_some()
            || [&CONTAINERS[..], &PLAIN, &SEALED].iter().any(|names| names.contains(&name));
        if !is_known {
            self.name(name);
        }
        if self.place.is_none() && name == "name" {
            (self.visit)(Piece::Name);
        }
        match cursor.peek() {
            Some(b'{' | b'[') if is_container => {
                // A picture in a file is a picture.
                let place = medium.or(self.place);
                Walk { visit: &mut *self.visit, place }.elements(name, cursor);
            }
            Some(b'"') if SEALED.contains(&name) => self.sealed(cursor.skip()),
            Some(b'"') => {
                let place = medium.or(self.place);
                Walk { visit: &mut *self.visit, place }.string(name, cursor.skip(), None);
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
        // What these hold goes to the model as it is, an encoded picture too.
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
        (self.visit)(match media::kind(name, json, self.place, mime) {
            Kind::Text => Piece::Text(json),
            Kind::Image | Kind::Link => Piece::Image,
            Kind::Binary => Piece::Media(json),
            Kind::EncodedText(payload) => Piece::EncodedText(payload),
        });
    }

    fn sealed(&mut self, json: &'a str) {
        (self.visit)(if media::is_sealed(json) { Piece::Sealed(json) } else { Piece::Text(json) });
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
        (self.visit)(Piece::Unknown(name.len() as u64));
    }

    fn text(&mut self, json: &'a str) {
        text(json, self.visit);
    }
}

/// What stands beside encoded data.
#[derive(Default)]
struct Beside<'a> {
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
