//! Finds the output in a reply, whatever the members that hold it are called.
//!
//! Upstreams put output under many names, and new ones appear with each feature. So every string that the
//! caller receives counts as output, unless its member is listed in [`ENVELOPE`]. Encoded media and sealed
//! text are distinguished from plain text, because they weigh less.

use super::cursor::Cursor;
use super::json;
use super::media;

/// The part of an answer that a piece of output belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    Content,
    Reasoning,
    Refusal,
    ToolName,
    ToolArguments,
}

/// A piece of output that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputPiece<'a> {
    /// JSON of a string, or of a value that counts as text as it is written.
    Text(OutputKind, &'a str),
    /// A picture, encoded or behind a link.
    Image,
    /// Bytes of encoded sound, video or another file, as they are written.
    Media(u64),
    /// Bytes of text that only its maker can read, such as encrypted reasoning.
    Sealed(u64),
}

/// Members that carry no output: they identify or describe the answer, repeat the request, or list the
/// sources of a search.
const ENVELOPE: [&str; 82] = [
    "id",
    "type",
    "object",
    "role",
    "index",
    "status",
    "created",
    "created_at",
    "created_by",
    "completed_at",
    "expires_at",
    "model",
    "model_version",
    "modelVersion",
    "responseId",
    "finish_reason",
    "finishReason",
    "native_finish_reason",
    "done_reason",
    "stop_reason",
    "stop_sequence",
    "stop_details",
    "matched_stop",
    "system_fingerprint",
    "service_tier",
    "provider",
    "usage",
    "usageMetadata",
    "amazon-bedrock-invocationMetrics",
    "x_groq",
    "time_info",
    "timings",
    "error",
    "warnings",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "annotations",
    "annotation",
    "citations",
    "citation",
    "search_results",
    "sources",
    "content_filter_results",
    "content_filter_result",
    "content_filter_offsets",
    "content_filters",
    "prompt_filter_results",
    "promptFeedback",
    "safetyRatings",
    "moderation",
    "obfuscation",
    "p",
    "nonce",
    "padding",
    "event",
    "sequence_number",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "approval_request_id",
    "item_id",
    "response_id",
    "request_id",
    "trace_id",
    "generation_id",
    "container",
    "container_id",
    "file_id",
    "server_label",
    "namespace",
    "caller",
    "phase",
    "execution",
    "format",
    "media_type",
    "mime_type",
    "mimeType",
    "detail",
    "metadata",
    "incomplete_details",
    "context_management",
];
/// Members that only their maker can read.
const SEALED: [&str; 8] = [
    "encrypted_content",
    "signature",
    "thinking_signature",
    "thought_signature",
    "thoughtSignature",
    "encrypted_index",
    "encrypted_stdout",
    "encrypted",
];

/// True if a member of this name carries no output.
#[must_use]
pub fn is_envelope(name: &str) -> bool {
    ENVELOPE.contains(&name)
}

/// Calls `visit` with every piece of output in the value `json` of the member `name`; `kind` is what its
/// surroundings are.
pub fn each<'a>(
    kind: OutputKind,
    name: &str,
    json: &'a str,
    visit: &mut dyn FnMut(OutputPiece<'a>),
) {
    OutputWalk { visit, kind, is_image: false, depth: 0 }.member(name, &mut Cursor::new(json));
}

/// Calls `visit` with every piece of output in the object `json`, of which only the members that `is_read`
/// selects are read.
pub fn each_in<'a>(
    kind: OutputKind,
    json: &'a str,
    is_read: impl Fn(&str) -> bool,
    visit: &mut dyn FnMut(OutputPiece<'a>),
) {
    let mut cursor = Cursor::new(json);
    let mut walk = OutputWalk { visit, kind, is_image: false, depth: 0 };
    if cursor.enter(b'{') {
        while let Some(name) = cursor.next_member() {
            if is_read(&name) {
                walk.member(&name, &mut cursor);
            } else {
                cursor.skip();
            }
        }
    }
}

/// Bytes of text in the value `json` of the member `name`.
#[must_use]
pub fn text_len(name: &str, json: &str) -> usize {
    let mut bytes = 0;
    each(OutputKind::Content, name, json, &mut |piece| {
        if let OutputPiece::Text(_, json) = piece {
            bytes += json.len();
        }
    });
    bytes
}

struct OutputWalk<'v, 'a> {
    visit: &'v mut dyn FnMut(OutputPiece<'a>),
    kind: OutputKind,
    /// True within a member for pictures.
    is_image: bool,
    /// Levels of objects and arrays entered.
    depth: usize,
}

impl<'a> OutputWalk<'_, 'a> {
    fn member(&mut self, name: &str, cursor: &mut Cursor<'a>) {
        if is_envelope(name) {
            cursor.skip();
            return;
        }
        let kind = kind_of(name).unwrap_or(self.kind);
        let is_image = self.is_image || matches!(name, "image" | "images" | "image_url");
        let mut inner = OutputWalk { visit: &mut *self.visit, kind, is_image, depth: self.depth };
        match cursor.peek() {
            Some(b'"') => inner.string(name, cursor.skip()),
            Some(b'{' | b'[') if is_arguments(name) => inner.arguments(cursor.skip()),
            Some(b'{') => inner.object(cursor),
            Some(b'[') => inner.elements(name, cursor),
            // Numbers and words of JSON are no output.
            _ => {
                cursor.skip();
            }
        }
    }

    /// Enters a level of nesting and returns true, or counts the value as text and returns false: replies are
    /// not refused for nesting.
    fn descend(&mut self, cursor: &mut Cursor<'a>) -> bool {
        let may = self.depth < json::MAX_DEPTH;
        if may {
            self.depth += 1;
        } else {
            (self.visit)(OutputPiece::Text(self.kind, cursor.skip()));
        }
        may
    }

    fn object(&mut self, cursor: &mut Cursor<'a>) {
        if !self.descend(cursor) {
            return;
        }
        let start = cursor.clone();
        cursor.enter(b'{');
        while let Some(name) = cursor.next_member() {
            if name == "data" && cursor.peek() == Some(b'"') && has_sealed_type(&start) {
                self.string("encrypted", cursor.skip());
            } else {
                self.member(&name, cursor);
            }
        }
        self.depth -= 1;
    }

    fn elements(&mut self, name: &str, cursor: &mut Cursor<'a>) {
        if !self.descend(cursor) {
            return;
        }
        cursor.enter(b'[');
        while cursor.next_element() {
            match cursor.peek() {
                Some(b'"') => self.string(name, cursor.skip()),
                Some(b'{') => self.object(cursor),
                Some(b'[') => self.elements(name, cursor),
                _ => {
                    cursor.skip();
                }
            }
        }
        self.depth -= 1;
    }

    fn string(&mut self, name: &str, json: &'a str) {
        let bytes = json.len().saturating_sub(2) as u64;
        if bytes == 0 {
            return;
        }
        let is_sealed = SEALED.contains(&name) && media::is_sealed(json);
        (self.visit)(match media::kind_in_reply(name, json, self.is_image) {
            _ if is_sealed => OutputPiece::Sealed(bytes),
            media::MediaKind::Image | media::MediaKind::Link => OutputPiece::Image,
            media::MediaKind::Binary => OutputPiece::Media(bytes),
            media::MediaKind::Text | media::MediaKind::EncodedText(_) => {
                OutputPiece::Text(self.kind, json)
            }
        });
    }

    /// Arguments that are written as JSON rather than in a string.
    fn arguments(&mut self, json: &'a str) {
        if !matches!(json, "{}" | "[]") {
            (self.visit)(OutputPiece::Text(OutputKind::ToolArguments, json));
        }
    }
}

/// The kind of output that a member's name implies, if any.
fn kind_of(name: &str) -> Option<OutputKind> {
    match name {
        "reasoning" | "reasoning_content" | "reasoning_text" | "reasoning_details" | "thinking"
        | "thinking_blocks" => Some(OutputKind::Reasoning),
        "refusal" => Some(OutputKind::Refusal),
        "name" => Some(OutputKind::ToolName),
        "tool_calls" | "function_call" | "arguments" | "input" | "partial_json" => {
            Some(OutputKind::ToolArguments)
        }
        // The result of a tool, beside the arguments of its call.
        "output" | "outputs" | "result" | "results" | "transcript" => Some(OutputKind::Content),
        _ => None,
    }
}

fn is_arguments(name: &str) -> bool {
    matches!(name, "arguments" | "args" | "input" | "parameters" | "partial_json")
}

/// True if the `type` of the object at the cursor says that its data are sealed. Objects of such a type have
/// few members.
fn has_sealed_type(cursor: &Cursor<'_>) -> bool {
    let mut cursor = cursor.clone();
    cursor.enter(b'{');
    let mut members = 0;
    while members < 8
        && let Some(name) = cursor.next_member()
    {
        let json = cursor.skip();
        if name == "type" {
            return json.contains("redacted") || json.contains("encrypted");
        }
        members += 1;
    }
    false
}

#[cfg(test)]
mod tests;
