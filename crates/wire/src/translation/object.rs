//! Reads a JSON object member by member: values stay raw until one is read, and errors name the field.

use super::error::TranslationError;
use crate::json;
use serde_json::value::RawValue;
use std::borrow::Cow;

type Result<T> = std::result::Result<T, TranslationError>;

/// The members of one object that are not `null`. Of a name that occurs several times, the last counts.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// When the value is anything else.
    pub fn of(raw: &'a RawValue) -> Result<Self> {
        Self::read(raw.get()).ok_or_else(|| TranslationError::new("", "Expected an object."))
    }

    /// Reads an object from its text; `None` when it is none.
    pub fn read(text: &'a str) -> Option<Self> {
        if !text.trim_ascii_start().starts_with('{') {
            return None;
        }
        let mut members = Vec::new();
        let walked = json::each_member(text, |name, value| {
            if !json::is_null(value) {
                members.push((name, value));
            }
        });
        walked.ok().map(|()| Self(members))
    }

    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A string; `None` where it is missing.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        if !is_text(raw) {
            return Err(TranslationError::wrong_type(name, "a string"));
        }
        Ok(Some(json::text(raw)))
    }

    pub fn required_text(&self, name: &str) -> Result<Cow<'a, str>> {
        self.text(name)?.ok_or_else(|| TranslationError::missing(name))
    }

    /// The name of a tool or a namespace, which is not empty.
    pub fn tool_name(&self) -> Result<Cow<'a, str>> {
        let name = self.required_text("name")?;
        if name.is_empty() {
            return Err(TranslationError::new("name", "'name' must not be empty."));
        }
        Ok(name)
    }

    /// A string, or nothing where it is anything else.
    pub fn text_leniently(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).filter(|raw| is_text(raw)).map(json::text)
    }

    /// The member `type`.
    pub fn kind(&self) -> Cow<'a, str> {
        self.text_leniently("type").unwrap_or_default()
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name).map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(TranslationError::wrong_type(name, "a boolean")),
        }
    }

    pub fn count(&self, name: &str) -> Result<Option<u64>> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        let count = raw.get().parse();
        count.map(Some).map_err(|_| TranslationError::wrong_type(name, "a whole number"))
    }

    /// A number, as it is written.
    pub fn number(&self, name: &str) -> Result<Option<&'a RawValue>> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        let is_number = raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
        if is_number { Ok(Some(raw)) } else { Err(TranslationError::wrong_type(name, "a number")) }
    }

    /// The elements of an array; none where it is missing.
    pub fn list(&self, name: &str) -> Result<Vec<&'a RawValue>> {
        let Some(raw) = self.get(name) else { return Ok(Vec::new()) };
        elements(raw).ok_or_else(|| TranslationError::wrong_type(name, "an array"))
    }

    pub fn object(&self, name: &str) -> Result<Option<Object<'a>>> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        let object = Self::read(raw.get());
        object.map(Some).ok_or_else(|| TranslationError::wrong_type(name, "an object"))
    }

    pub fn required_object(&self, name: &str) -> Result<Object<'a>> {
        self.object(name)?.ok_or_else(|| TranslationError::missing(name))
    }

    /// An object, or an empty one where it is anything else.
    pub fn object_leniently(&self, name: &str) -> Object<'a> {
        self.get(name).and_then(|raw| Self::read(raw.get())).unwrap_or_default()
    }

    /// An object as it is written.
    pub fn raw_object(&self, name: &str) -> Result<Option<&'a RawValue>> {
        let raw = self.get(name);
        match raw.filter(|raw| !raw.get().starts_with('{')) {
            Some(_) => Err(TranslationError::wrong_type(name, "an object")),
            None => Ok(raw),
        }
    }

    /// Refuses fields that the other surface cannot express.
    pub fn refuse(&self, names: &[&str]) -> Result<()> {
        match names.iter().find(|name| self.has(name)) {
            Some(name) => Err(TranslationError::unsupported(name)),
            None => Ok(()),
        }
    }
}

/// True if the value is a string.
pub(super) fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}

/// The elements of an array; `None` for anything else.
pub(super) fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    let mut found = Vec::new();
    json::each_element(raw.get(), |element| found.push(element)).ok().map(|()| found)
}

/// Reads each element of an array; an error names its index.
pub(super) fn each<'a>(
    elements: &[&'a RawValue],
    mut read: impl FnMut(&'a RawValue) -> Result<()>,
) -> Result<()> {
    let mut elements = elements.iter().enumerate();
    elements.try_for_each(|(index, element)| read(element).map_err(|error| error.at(index)))
}
