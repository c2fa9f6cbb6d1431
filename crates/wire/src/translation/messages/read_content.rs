//! Reads the messages of a conversation, block by block.

use crate::json;
use crate::translation::chat::read_request::unknown_kind;
use crate::translation::error::{TranslationError, quoted};
use crate::translation::object::{Object, each, elements, is_text};
use crate::translation::request::{Call, CallKind, CallOutput, Item, Part, Reasoning, Role};
use serde_json::value::RawValue;
use std::borrow::Cow;

type Result<T> = std::result::Result<T, TranslationError>;

/// Reads a message into items: its text and images stay together, calls and their results are items of their own.
pub(super) fn read_message<'a>(raw: &'a RawValue, items: &mut Vec<Item<'a>>) -> Result<()> {
    let message = Object::of(raw)?;
    let role = message.required_text("role")?;
    let Some(role) = Role::of(&role).filter(|role| *role != Role::Developer) else {
        return Err(TranslationError::new("role", format!("Unknown role: '{}'.", quoted(&role))));
    };
    let content = message.get("content").ok_or_else(|| TranslationError::missing("content"))?;
    if is_text(content) {
        items.push(Item::Message { role, parts: Part::text(json::text(content)) });
        return Ok(());
    }
    let mut reader = BlockReader { role, parts: Vec::new(), items };
    each_block(content, "content", |block| reader.read(block))?;
    reader.flush();
    Ok(())
}

/// Reads each block of a list.
pub(super) fn each_block<'a>(
    raw: &'a RawValue,
    param: &str,
    mut read: impl FnMut(&Object<'a>) -> Result<()>,
) -> Result<()> {
    let Some(list) = elements(raw) else {
        return Err(TranslationError::wrong_type(param, "a string or an array"));
    };
    each(&list, |block| read(&Object::of(block)?)).map_err(|error| error.within(param))
}

struct BlockReader<'r, 'a> {
    role: Role,
    /// Text and images since the last item.
    parts: Vec<Part<'a>>,
    items: &'r mut Vec<Item<'a>>,
}

impl<'a> BlockReader<'_, 'a> {
    fn read(&mut self, block: &Object<'a>) -> Result<()> {
        let kind = block.kind();
        let item = match &*kind {
            "tool_use" => read_call(block)?,
            "tool_result" => read_result(block)?,
            "thinking" => Item::Reasoning(Reasoning {
                text: block.text("thinking")?.unwrap_or_default(),
                encrypted: block.text("signature")?.filter(|signature| !signature.is_empty()),
            }),
            // Sealed for another model, or the record of a tool that an upstream ran.
            "redacted_thinking" | "server_tool_use" => return Ok(()),
            kind if kind.ends_with("_tool_result") => return Ok(()),
            kind => {
                self.parts.extend(read_part(kind, block)?);
                return Ok(());
            }
        };
        self.flush();
        self.items.push(item);
        Ok(())
    }

    fn flush(&mut self) {
        if !self.parts.is_empty() {
            let parts = std::mem::take(&mut self.parts);
            self.items.push(Item::Message { role: self.role, parts });
        }
    }
}

fn read_call<'a>(block: &Object<'a>) -> Result<Item<'a>> {
    let input = block.raw_object("input")?.map_or("{}", RawValue::get);
    Ok(Item::Call(Call {
        kind: CallKind::Function,
        call_id: block.required_text("id")?,
        namespace: None,
        name: block.required_text("name")?,
        input: Cow::Borrowed(input),
    }))
}

fn read_result<'a>(block: &Object<'a>) -> Result<Item<'a>> {
    let call_id = block.required_text("tool_use_id")?;
    let mut parts = Vec::new();
    match block.get("content") {
        None => {}
        Some(content) if is_text(content) => parts = Part::text(json::text(content)),
        Some(content) => each_block(content, "content", |part| {
            parts.extend(read_part(&part.kind(), part)?);
            Ok(())
        })?,
    }
    // The other surfaces have no flag for it, and a failure without a word would look like success.
    if block.flag("is_error")? == Some(true) && parts.is_empty() {
        parts = Part::text("The tool failed.");
    }
    Ok(Item::CallOutput(CallOutput { kind: CallKind::Function, call_id, parts }))
}

/// Reads a block of text, an image or a document; `None` for an empty text.
fn read_part<'a>(kind: &str, block: &Object<'a>) -> Result<Option<Part<'a>>> {
    Ok(Some(match kind {
        "text" => {
            let text = block.required_text("text")?;
            return Ok(Some(text).filter(|text| !text.is_empty()).map(Part::Text));
        }
        "image" => Part::Image { url: read_source(block)?, detail: None },
        "document" => read_document(block)?,
        "search_result" => Part::Text(read_search_result(block)?),
        "tool_reference" => {
            let name = block.required_text("tool_name")?;
            Part::Text(format!("The tool {name} is available.").into())
        }
        kind => return Err(unknown_kind(kind)),
    }))
}

/// The source of an image or a document as a URL.
fn read_source<'a>(block: &Object<'a>) -> Result<Cow<'a, str>> {
    let source = block.required_object("source")?;
    let within = |error: TranslationError| error.within("source");
    match &*source.kind() {
        "base64" => {
            let media = source.required_text("media_type").map_err(within)?;
            let data = source.required_text("data").map_err(within)?;
            Ok(format!("data:{media};base64,{data}").into())
        }
        "url" => source.required_text("url").map_err(within),
        kind => Err(within(unknown_kind(kind))),
    }
}

fn read_document<'a>(block: &Object<'a>) -> Result<Part<'a>> {
    let source = block.required_object("source")?;
    let within = |error: TranslationError| error.within("source");
    match &*source.kind() {
        "text" => Ok(Part::Text(source.required_text("data").map_err(within)?)),
        "base64" => {
            let name = block.text("title")?.or(Some("document.pdf".into()));
            Ok(Part::File { name, data: read_source(block)? })
        }
        kind => Err(within(unknown_kind(kind))),
    }
}

fn read_search_result<'a>(block: &Object<'a>) -> Result<Cow<'a, str>> {
    let mut text = String::new();
    for name in ["title", "source"] {
        if let Some(line) = block.text(name)? {
            text.push_str(&line);
            text.push('\n');
        }
    }
    if let Some(content) = block.get("content") {
        each_block(content, "content", |part| {
            text.push_str(&part.required_text("text")?);
            text.push('\n');
            Ok(())
        })?;
    }
    Ok(text.into())
}
