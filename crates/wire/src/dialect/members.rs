//! Changes members of an object or elements of an array; the others stay as they are written.

use crate::json::{each_element, each_member};
use serde_json::value::RawValue;

/// What becomes of a member or an element.
#[derive(Debug)]
pub(super) enum Edit {
    Keep,
    Drop,
    /// Replaced by this JSON; an element also by several, separated by commas.
    Replace(String),
    /// A member under another name, with this JSON as its value.
    Rename(&'static str, String),
}

impl Edit {
    /// A replacement, if there is one.
    pub fn of(edited: Option<String>) -> Self {
        edited.map_or(Self::Keep, Self::Replace)
    }
}

/// The object with its members changed; `None` if all are kept, or it is no object.
pub(super) fn edit_object(
    text: &str,
    mut edit: impl FnMut(&str, &RawValue) -> Edit,
) -> Option<String> {
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    let mut written = Written::new('{', text.len());
    let walked = each_member(text, |name, value| {
        let edit = edit(&name, value);
        let name = match &edit {
            Edit::Rename(name, _) => serde_json::Value::from(*name),
            _ => serde_json::Value::from(&*name),
        };
        written.add(&edit, value, &format!("{name}:"));
    });
    walked.ok().and_then(|()| written.end('}'))
}

/// The array with its elements changed; `None` if all are kept, or it is no array.
pub(super) fn edit_array(text: &str, mut edit: impl FnMut(&RawValue) -> Edit) -> Option<String> {
    if !text.trim_ascii_start().starts_with('[') {
        return None;
    }
    let mut written = Written::new('[', text.len());
    let walked = each_element(text, |value| written.add(&edit(value), value, ""));
    walked.ok().and_then(|()| written.end(']'))
}

struct Written {
    out: String,
    is_empty: bool,
    is_changed: bool,
}

impl Written {
    fn new(open: char, len: usize) -> Self {
        let mut out = String::with_capacity(len);
        out.push(open);
        Self { out, is_empty: true, is_changed: false }
    }

    fn add(&mut self, edit: &Edit, value: &RawValue, name: &str) {
        self.is_changed |= !matches!(edit, Edit::Keep);
        let json = match edit {
            Edit::Keep => value.get(),
            Edit::Replace(json) | Edit::Rename(_, json) if !json.is_empty() => json,
            Edit::Drop | Edit::Replace(_) | Edit::Rename(..) => return,
        };
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
        self.out.push_str(name);
        self.out.push_str(json);
    }

    fn end(mut self, close: char) -> Option<String> {
        self.out.push(close);
        Some(self.out).filter(|_| self.is_changed)
    }
}
