//! Finds references to stored objects in a request body, and fields that servers could read differently.
//!
//! All users share the operator's account at an upstream, so the name of an object that is stored there
//! (a file, an item of a response, a vector store) may belong to another user. One pass over the body
//! finds such names at any depth; the user's plan decides whether they may pass.

use super::cursor::Cursor;
use super::field_names;
use super::fields;
use super::json;
use super::reference_names::{
    ADDRESSES, IDENTITY, NAMES, OPAQUE, READ, REFERENCE_TYPES, REFERENCES,
};
use super::request::BadBody;
use super::surface::Surface;
use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

/// The references and items found in a body.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The path of the first member that refers to something in the operator's account.
    pub reference: Option<String>,
    /// Items of reasoning with an id and nothing that the upstream could read in place of what it stores
    /// under that id, as ranges of the body.
    pub unsealed: Vec<Range<usize>>,
}

/// Inspects a body that has been checked.
///
/// # Errors
/// [`BadBody`] when a name is there twice, or imitates one that is read, where it matters.
pub fn inspect(surface: Surface, body: &str) -> Result<Inspection, BadBody> {
    let mut inspector = Inspector {
        surface,
        path: Vec::new(),
        is_read: false,
        is_ascii_only: false,
        found: Inspection::default(),
    };
    let mut cursor = Cursor::new(body);
    cursor.enter(b'{');
    while let Some(name) = cursor.next_member() {
        inspector.top_member(name, &mut cursor)?;
    }
    Ok(inspector.found)
}

struct Inspector<'a> {
    surface: Surface,
    path: Vec<Step<'a>>,
    /// True if the gateway or an upstream reads names at this place.
    is_read: bool,
    /// True if names must be ASCII at this place; those of messages may be the caller's data.
    is_ascii_only: bool,
    found: Inspection,
}

enum Step<'a> {
    Member(Cow<'a, str>),
    Element(usize),
}

/// The set of [`NAMES`] that an object has so far.
#[derive(Default)]
struct SeenNames(u64);

/// The facts about an object that decide if it is a reference.
#[derive(Default)]
struct ItemSummary {
    has_id: bool,
    is_reasoning: bool,
    /// The item has a `summary`, even if it is empty.
    has_summary: bool,
    content: ItemContent,
}

/// The content of an item beside its id.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
enum ItemContent {
    #[default]
    Empty,
    /// Content that makes a lookup needless, except for reasoning.
    Some,
    /// Sealed or open reasoning, or a message's content.
    Whole,
}

impl<'a> Inspector<'a> {
    fn top_member(&mut self, name: Cow<'a, str>, cursor: &mut Cursor<'a>) -> Result<(), BadBody> {
        let is_responses = self.surface == Surface::Responses;
        let is_object = cursor.peek() == Some(b'{');
        if name == "background" && fields::bool_of(&name, Some(cursor.clone().skip().trim()))? {
            return Err(BadBody::in_background());
        }
        let refers = match &*name {
            "conversation" => true,
            "previous_response_id" => !is_responses,
            // Stored prompts are objects; others are the text itself.
            "prompt" => is_object,
            _ => false,
        };
        self.is_read = READ.contains(&&*name);
        let is_text = matches!(&*name, "messages" | "input" | "system" | "prompt" | "prediction");
        self.is_ascii_only = self.is_read && !is_text;
        let is_items = is_responses && name == "input" && cursor.peek() == Some(b'[');
        self.path.push(Step::Member(name));
        if refers && is_set(cursor.clone().skip()) {
            self.record_reference();
        }
        let walked = if is_items { self.items(cursor) } else { self.member(cursor) };
        self.path.pop();
        walked
    }

    fn items(&mut self, cursor: &mut Cursor<'a>) -> Result<(), BadBody> {
        cursor.enter(b'[');
        let mut index = 0;
        while cursor.next_element() {
            self.path.push(Step::Element(index));
            if cursor.peek() == Some(b'{') {
                let start = cursor.position();
                let item = self.object(cursor)?;
                self.check_item(&item, start..cursor.position());
            } else {
                self.value(cursor)?;
            }
            self.path.pop();
            index += 1;
        }
        Ok(())
    }

    /// An item with nothing but an id refers to the stored item with that id.
    fn check_item(&mut self, item: &ItemSummary, range: Range<usize>) {
        let stands_alone = match item.content {
            ItemContent::Whole => true,
            ItemContent::Some => !item.is_reasoning,
            ItemContent::Empty => false,
        };
        if !item.has_id || stands_alone {
            return;
        }
        if item.is_reasoning && item.has_summary {
            self.found.unsealed.push(range);
        } else {
            self.record_reference();
        }
    }

    /// The value of the member that the path ends with.
    fn member(&mut self, cursor: &mut Cursor<'a>) -> Result<(), BadBody> {
        let Some(Step::Member(name)) = self.path.last() else { return Ok(()) };
        let name = name.clone();
        let depth = self.path.len();
        // A tool's input is a model's words; the input of a call is what has to be read.
        if OPAQUE.contains(&&*name) || (depth > 1 && name == "input") {
            cursor.skip();
            return Ok(());
        }
        if REFERENCES.contains(&&*name) && is_set(cursor.clone().skip()) {
            self.record_reference();
        }
        match cursor.peek() {
            Some(b'{') => self.member_object(&name, cursor),
            Some(b'[') => self.value(cursor),
            _ => {
                let json = cursor.skip();
                if Self::string_refers(&name, json) {
                    self.record_reference();
                }
                Ok(())
            }
        }
    }

    fn string_refers(name: &str, json: &str) -> bool {
        if !json.starts_with('"') {
            return false;
        }
        match name {
            "type" => REFERENCE_TYPES.contains(&&*json::text_in(json)),
            // At the top, or as a tool's: the id of one that exists.
            "container" => is_set(json),
            name => ADDRESSES.contains(&name) && is_foreign(json),
        }
    }

    /// Reads an object whose own `id` may refer to a stored object.
    fn member_object(&mut self, name: &str, cursor: &mut Cursor<'a>) -> Result<(), BadBody> {
        let object = self.object(cursor)?;
        if object.has_id && matches!(name, "container" | "audio") {
            self.record_reference();
        }
        Ok(())
    }

    fn value(&mut self, cursor: &mut Cursor<'a>) -> Result<(), BadBody> {
        match cursor.peek() {
            Some(b'{') => self.object(cursor).map(|_| ()),
            Some(b'[') => {
                cursor.enter(b'[');
                let mut index = 0;
                let name = self.path.iter().rev().find_map(|step| match step {
                    Step::Member(name) => Some(name.clone()),
                    Step::Element(_) => None,
                });
                while cursor.next_element() {
                    self.path.push(Step::Element(index));
                    if cursor.peek() == Some(b'"') {
                        let json = cursor.skip();
                        if name.as_deref().is_some_and(|name| Self::string_refers(name, json)) {
                            self.record_reference();
                        }
                    } else {
                        self.value(cursor)?;
                    }
                    self.path.pop();
                    index += 1;
                }
                Ok(())
            }
            _ => {
                cursor.skip();
                Ok(())
            }
        }
    }

    fn object(&mut self, cursor: &mut Cursor<'a>) -> Result<ItemSummary, BadBody> {
        let mut item = ItemSummary::default();
        let mut names = SeenNames::default();
        cursor.enter(b'{');
        while let Some(name) = cursor.next_member() {
            self.path.push(Step::Member(name));
            let Some(Step::Member(name)) = self.path.last() else { break };
            if self.is_read {
                names.check(name).map_err(|why| BadBody::wrong_value(&self.path(), &why))?;
            }
            if self.is_ascii_only && !name.is_ascii() {
                return Err(BadBody::odd_name(&self.path()));
            }
            item.observe(name, cursor);
            self.member(cursor)?;
            self.path.pop();
        }
        Ok(item)
    }

    fn record_reference(&mut self) {
        if self.found.reference.is_none() {
            self.found.reference = Some(self.path());
        }
    }

    /// The current path, such as `input[2].content[0].file_id`.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            let _ = match step {
                Step::Element(index) => write!(path, "[{index}]"),
                Step::Member(name) => {
                    let dot = if path.is_empty() { "" } else { "." };
                    let name: String = name.chars().take(64).collect();
                    write!(path, "{dot}{name}")
                }
            };
            if path.len() > 200 {
                break;
            }
        }
        path
    }
}

impl SeenNames {
    fn check(&mut self, name: &str) -> Result<(), String> {
        let Some(at) = NAMES.iter().position(|known| *known == name) else {
            return match field_names::find_imitated(name, [&NAMES]) {
                None => Ok(()),
                Some(known) => Err(format!("ambiguous capitalization; use '{known}'")),
            };
        };
        let seen = self.0 & (1 << at) != 0;
        self.0 |= 1 << at;
        if seen { Err("duplicate key".to_owned()) } else { Ok(()) }
    }
}

impl ItemSummary {
    fn observe(&mut self, name: &str, cursor: &Cursor<'_>) {
        // Only the beginning of a value is read, so that nothing is read twice.
        let mut value = cursor.clone();
        let is_filled = match value.peek() {
            Some(b'{') => value.enter(b'{') && value.peek() != Some(b'}'),
            Some(b'[') => value.enter(b'[') && value.peek() != Some(b']'),
            Some(b'"') => !value.rest().starts_with("\"\""),
            Some(b'n') => false,
            _ => true,
        };
        match name {
            "id" => self.has_id |= is_filled,
            "type" => self.is_reasoning = json::text_in(cursor.clone().skip()) == "reasoning",
            "summary" => self.has_summary = true,
            "encrypted_content" | "content" if is_filled => self.content = ItemContent::Whole,
            name if is_filled && !IDENTITY.contains(&name) => {
                self.content = std::mem::take(&mut self.content).max(ItemContent::Some);
            }
            _ => {}
        }
    }
}

/// True if the value is neither empty, `null` nor `false`.
fn is_set(json: &str) -> bool {
    let inside = json.trim_matches(|c: char| "\"[]{}".contains(c) || c.is_ascii_whitespace());
    !matches!(inside, "" | "null" | "false")
}

/// True for an address that a server would resolve among its own files or in its own account.
fn is_foreign(json: &str) -> bool {
    // Escapes are read only where a scheme can be: encoded media are long.
    let head = &json[..json.floor_char_boundary(64)];
    let escaped = head.contains('\\').then(|| json::text_in(json));
    let text = escaped.as_deref().unwrap_or(json).trim_start_matches('"');
    let end = text.bytes().take(32).position(|b| b == b':');
    let Some((scheme, rest)) = end.map(|end| (&text[..end], &text[end + 1..])) else {
        return false;
    };
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
    let plain = rest.starts_with("//") || rest.starts_with("\\/");
    is_scheme && plain && !["http", "https", "data"].iter().any(|s| scheme.eq_ignore_ascii_case(s))
}

#[cfg(test)]
mod tests;
