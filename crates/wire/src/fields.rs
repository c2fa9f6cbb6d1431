//! Reads the members of a request body at its top level, and of a few objects in it: each name once, each
//! value with the type that the gateway needs.

use super::field_names;
use super::json::{self, each_member};
use super::prompt::{BadMessages, ExtraField, Prompt};
use super::prompt_fields;
use super::request::BadBody;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Members a body may have at its top level. Real ones have a few dozen at most.
const MAX_MEMBERS: usize = 256;
/// Bytes a model's name may have.
const MAX_MODEL_LEN: usize = 256;
/// Bytes a reply's id may have.
const MAX_NAME_LEN: usize = 256;
/// The most choices that one call may request, as at OpenAI.
const MAX_CHOICES: u64 = 128;

/// An object's members, each name once.
pub struct Fields<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The [`trait_of`] each name, so that lookups of absent names return at once.
    traits: u64,
}

/// One bit derived from the length and the first letter of a name.
fn trait_of(name: &str) -> u64 {
    let first = usize::from(name.as_bytes().first().copied().unwrap_or_default());
    1 << ((name.len() * 7 + first) % 64)
}

impl<'a> Fields<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BadBody`] when it is not one JSON object with each member once.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, BadBody> {
        let text =
            std::str::from_utf8(body).map_err(|_| BadBody::unreadable("it is not valid UTF-8"))?;
        let is_object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
        if !is_object {
            return Err(BadBody::unreadable("it is not a JSON object"));
        }
        let fields = Self::of_object("", text)?;
        json::check(body).map_err(BadBody::unreadable)?;
        Ok(fields)
    }

    /// Members of the object `json`; `path` goes before their names in refusals.
    pub(super) fn of_object(path: &str, json: &'a str) -> Result<Self, BadBody> {
        let mut members: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::new();
        let mut twice = None;
        let mut too_many = false;
        each_member(json, |name, value| {
            if members.len() == MAX_MEMBERS {
                too_many = true;
            } else if members.iter().any(|(other, _)| *other == name) {
                twice.get_or_insert(name);
            } else {
                members.push((name, value));
            }
        })
        .map_err(BadBody::unreadable)?;
        if too_many {
            return Err(BadBody::unreadable(format_args!("it has more than {MAX_MEMBERS} fields")));
        }
        if let Some(name) = twice {
            let name: String = name.chars().take(64).collect();
            return Err(BadBody::wrong_value(&format!("{path}{name}"), "duplicate key"));
        }
        for (name, _) in &members {
            if let Some(known) = imitated_name(path, name) {
                let why = format!("ambiguous capitalization; use '{known}'");
                return Err(BadBody::wrong_value(&format!("{path}{name}"), &why));
            }
            if !name.is_ascii() {
                return Err(BadBody::odd_name(&format!("{path}{name}")));
            }
        }
        let traits = members.iter().fold(0, |traits, (name, _)| traits | trait_of(name));
        Ok(Self { members, traits })
    }

    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        if self.traits & trait_of(name) == 0 {
            return None;
        }
        self.members.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The value, unless it is absent or `null`.
    pub(super) fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| !json::is_null(value))
    }

    /// Every member that is not `null`.
    pub(super) fn each_given(&self) -> impl Iterator<Item = (&Cow<'a, str>, &'a RawValue)> {
        let given = self.members.iter().filter(|(_, value)| !json::is_null(value));
        given.map(|(name, value)| (name, *value))
    }

    /// The object under `name`, if it is given.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, BadBody> {
        match self.given(name) {
            None => Ok(None),
            Some(raw) if raw.get().starts_with('{') => {
                Self::of_object(&format!("{name}."), raw.get()).map(Some)
            }
            Some(_) => Err(BadBody::wrong_type(name, "an object or null")),
        }
    }

    /// Returns the value of `model`.
    pub(super) fn model(&self) -> Result<String, BadBody> {
        let raw = self.required("model")?;
        let not_a_name = || BadBody::wrong_type("model", "a string");
        let name: String = serde_json::from_str(raw.get()).map_err(|_| not_a_name())?;
        if name.is_empty() {
            return Err(BadBody::wrong_value("model", "must not be empty"));
        }
        if name.len() > MAX_MODEL_LEN {
            return Err(BadBody::wrong_value("model", "must be at most 256 bytes long"));
        }
        if name.chars().any(char::is_control) {
            return Err(BadBody::wrong_value("model", "must not contain control characters"));
        }
        Ok(name)
    }

    pub(super) fn limit(&self, name: &str) -> Result<Option<u64>, BadBody> {
        let Some(raw) = self.given(name) else { return Ok(None) };
        match raw.get().parse::<u64>() {
            Ok(limit) if limit > 0 => Ok(Some(limit)),
            _ => Err(BadBody::wrong_type(name, "a positive integer or null")),
        }
    }

    /// The number of answers requested under `name`: 1 if absent.
    pub(super) fn count(&self, name: &str) -> Result<u64, BadBody> {
        let Some(raw) = self.given(name) else { return Ok(1) };
        match raw.get().parse::<u64>() {
            Ok(n) if (1..=MAX_CHOICES).contains(&n) => Ok(n),
            _ => Err(BadBody::wrong_type(name, "an integer from 1 to 128")),
        }
    }

    /// The largest of several counts.
    pub(super) fn largest_count(&self, names: &[&str]) -> Result<u64, BadBody> {
        names.iter().try_fold(1, |most, name| Ok(self.count(name)?.max(most)))
    }

    /// Checks that one answer is requested, on surfaces that give no more.
    pub(super) fn one_answer(&self) -> Result<u64, BadBody> {
        let several = field_names::COUNTS.iter().find(|name| self.count(name).is_ok_and(|n| n > 1));
        match several {
            Some(name) => Err(BadBody::wrong_value(
                name,
                "only one completion per request is supported on this endpoint",
            )),
            None => self.largest_count(&field_names::COUNTS),
        }
    }

    /// The messages under `name`, with the other members that become part of the prompt.
    pub(super) fn messages(&self, name: &str) -> Result<Prompt<'a>, BadBody> {
        let messages = self.required(name)?;
        Prompt::read(messages, self.extras(name)).map_err(|bad| match bad {
            BadMessages::NotAnArray => BadBody::wrong_type(name, "an array of objects"),
            BadMessages::Empty => BadBody::wrong_value(name, "must not be empty"),
            BadMessages::NotAnObject(at) => {
                BadBody::wrong_type(&format!("{name}[{at}]"), "an object")
            }
        })
    }

    /// The text under `name`, or texts, or tokens.
    pub(super) fn texts(&self, name: &str) -> Result<Prompt<'a>, BadBody> {
        let expected = "a string, an array of strings, or an array of tokens";
        let texts = self.required(name)?;
        Prompt::of_texts(texts, self.extras(name))
            .ok_or_else(|| BadBody::wrong_type(name, expected))
    }

    /// Reads the boolean `name`; absent and `null` are false.
    pub(super) fn flag(&self, name: &str) -> Result<bool, BadBody> {
        bool_of(name, self.get(name).map(RawValue::get))
    }

    /// The response id under `name`, if there is one.
    pub(super) fn name(&self, name: &str) -> Result<Option<String>, BadBody> {
        let Some(raw) = self.given(name) else { return Ok(None) };
        let text: String =
            serde_json::from_str(raw.get()).map_err(|_| BadBody::wrong_type(name, "a string"))?;
        if text.is_empty() || text.len() > MAX_NAME_LEN || text.chars().any(char::is_control) {
            return Err(BadBody::wrong_value(name, "must be a valid response id"));
        }
        Ok(Some(text))
    }

    /// The value, which has to be there.
    pub(super) fn required(&self, name: &str) -> Result<&'a RawValue, BadBody> {
        self.given(name).ok_or_else(|| BadBody::missing(name))
    }

    /// The members beside `main` that a model may read.
    pub(super) fn extras(&self, main: &str) -> Vec<ExtraField<'a>> {
        let others = self.members.iter().filter(|(name, _)| name != main);
        others.filter_map(|(name, value)| prompt_fields::extra_field(name, value)).collect()
    }
}

/// The known name that a member of the object at `path` imitates.
fn imitated_name(path: &str, name: &str) -> Option<&'static str> {
    if path.is_empty() {
        return field_names::imitated_name(name);
    }
    field_names::find_imitated(
        name,
        [&field_names::LIMITS, &field_names::BUDGETS, &field_names::COUNTS, &["include_usage"]],
    )
}

/// A boolean; absent and `null` are false.
pub(super) fn bool_of(name: &str, json: Option<&str>) -> Result<bool, BadBody> {
    match json {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(BadBody::wrong_type(name, "a boolean or null")),
    }
}
