//! One pass over JSON text that has been checked: objects and arrays are entered, not copied.
//!
//! [`RawValue`](serde_json::value::RawValue) reads a value's text again at each level it is entered;
//! a cursor reads every byte once however deep it goes, so a hostile body costs no more than a plain
//! one of its size. On text that is not JSON it ends early; it never panics and never loops.

use super::json::after_string;
use std::borrow::Cow;
use std::ops::Range;

/// A position in a JSON text.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Before the value in `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is not white space, which stays.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Enters the object (`{`) or array (`[`) that comes next, if it is one.
    pub fn enter(&mut self, open: u8) -> bool {
        let is_one = self.peek() == Some(open);
        self.at += usize::from(is_one);
        is_one
    }

    /// The name of the next member, unescaped, with the cursor before its value; `None` at the
    /// object's end, with the cursor behind it.
    pub fn next_member(&mut self) -> Option<Cow<'a, str>> {
        self.skip_byte(b',');
        if self.peek() != Some(b'"') {
            self.skip_byte(b'}');
            return None;
        }
        let name = self.name();
        self.skip_byte(b':');
        Some(name)
    }

    /// Passes over the string that comes next and returns what is in it. Most names are a few plain letters.
    fn name(&mut self) -> Cow<'a, str> {
        let inside = self.text.get(self.at + 1..).unwrap_or_default();
        let end = memchr::memchr2(b'"', b'\\', inside.as_bytes());
        match end.and_then(|end| inside.split_at_checked(end)) {
            Some((name, rest)) if rest.starts_with('"') => {
                self.at += name.len() + 2;
                Cow::Borrowed(name)
            }
            _ => unquoted(self.skip()),
        }
    }

    /// True if another element follows, with the cursor before it; at the array's end it is behind it.
    pub fn next_element(&mut self) -> bool {
        self.skip_byte(b',');
        match self.peek() {
            None => false,
            Some(b']') => {
                self.at += 1;
                false
            }
            // A closing brace here is no JSON; it must not be taken for an endless row of elements.
            Some(byte) => byte != b'}',
        }
    }

    /// Passes over the next value and returns its text.
    pub fn skip(&mut self) -> &'a str {
        self.peek();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut depth = 0_usize;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => self.at = after_string(bytes, self.at + 1).unwrap_or(bytes.len()),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth == 0 => break,
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                _ if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => self.skip_scalar(),
            }
            if depth == 0 {
                break;
            }
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The cursor's byte offset in the text.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The text from where the cursor is.
    #[must_use]
    pub fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_scalar(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
        self.at += rest.iter().position(ends).unwrap_or(rest.len()).max(1);
    }

    fn skip_byte(&mut self, byte: u8) {
        if self.peek() == Some(byte) {
            self.at += 1;
        }
    }
}

/// The members of the object in `text` that are to go, as ranges of it that can be cut out: what is
/// left is an object with the other members, untouched.
#[must_use]
pub fn cut_members(text: &str, goes: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut cursor = Cursor::new(text);
    let mut cuts = CutRanges::new(text);
    if cursor.enter(b'{') {
        cuts.end = cursor.position();
        while let Some(name) = cursor.next_member() {
            cursor.skip();
            cuts.add_part(cursor.position(), goes(&name));
        }
    }
    cuts.into_ranges()
}

/// The elements of the array in `text` that are to go, by their index, as [`cut_members`] does it.
#[must_use]
pub fn cut_elements(text: &str, goes: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut cursor = Cursor::new(text);
    let mut cuts = CutRanges::new(text);
    let mut index = 0;
    if cursor.enter(b'[') {
        cuts.end = cursor.position();
        while cursor.next_element() {
            cursor.skip();
            cuts.add_part(cursor.position(), goes(index));
            index += 1;
        }
    }
    cuts.into_ranges()
}

/// Parts between commas, some of which go, each with one comma.
struct CutRanges<'a> {
    text: &'a str,
    /// The end of the previous part, where the next one's comma follows.
    end: usize,
    /// A part before stays, so the comma before a part goes with it.
    stays: bool,
    /// The start of the first part, while all parts so far are removed.
    front: Option<usize>,
    list: Vec<Range<usize>>,
}

impl<'a> CutRanges<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, end: 0, stays: false, front: None, list: Vec::new() }
    }

    fn add_part(&mut self, end: usize, goes: bool) {
        let begin = std::mem::replace(&mut self.end, end);
        match (goes, self.stays) {
            (true, true) => self.list.push(begin..end),
            (true, false) => {
                self.front.get_or_insert(begin);
            }
            (false, _) => {
                if let Some(front) = self.front.take() {
                    let comma = self.text.as_bytes()[begin..].iter().position(|b| *b == b',');
                    self.list.push(front..begin + comma.map_or(0, |at| at + 1));
                }
                self.stays = true;
            }
        }
    }

    fn into_ranges(mut self) -> Vec<Range<usize>> {
        if let Some(front) = self.front {
            self.list.push(front..self.end);
        }
        self.list
    }
}

/// The name in a JSON string.
fn unquoted(name: &str) -> Cow<'_, str> {
    let inside = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(name);
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    serde_json::from_str(name).map_or(Cow::Borrowed(inside), Cow::Owned)
}

#[cfg(test)]
mod tests;
