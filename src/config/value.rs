//! One value as written, with its place, read into the type it stands for.
//!
//! The environment has only text, so every [`Form`] reads text as well as TOML's own types.
//! Invariant: an error names the accepted form and never repeats what was written, which may be
//! a secret.

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::ops::Range;
use toml::Spanned;

/// A type with one way to be written in a config file.
pub trait Form: Sized {
    /// The accepted form, to follow the word "expected".
    fn form() -> String;

    /// The value, or `None` when `written` is not of that form.
    fn read(written: &Written) -> Option<Self>;
}

/// What TOML can say in one value.
#[derive(Debug)]
pub enum Written {
    Text(String),
    Whole(i64),
    Fraction(f64),
    Flag(bool),
    List(Vec<String>),
    /// A table, or a list of something other than text: of no form.
    Other,
}

/// A value that was read, and where it stands in its text.
#[derive(Debug, Clone)]
pub struct Field<T> {
    pub value: T,
    pub span: Range<usize>,
}

impl Written {
    /// The text, for forms that are written as text alone.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.trim()),
            _ => None,
        }
    }

    /// A whole number of 0 or more.
    pub fn whole(&self) -> Option<u64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Whole(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The number as decimal text; TOML's `0.5` and `"0.5"` are the same.
    pub fn decimal(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.trim().to_owned()),
            Self::Whole(number) => Some(number.to_string()),
            Self::Fraction(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A list, or comma-separated text.
    pub fn list(&self) -> Option<Vec<String>> {
        let trimmed = |items: &mut dyn Iterator<Item = &str>| {
            items.map(str::trim).filter(|i| !i.is_empty()).map(str::to_owned).collect()
        };
        match self {
            Self::Text(text) => Some(trimmed(&mut text.split(','))),
            Self::List(items) => Some(trimmed(&mut items.iter().map(String::as_str))),
            _ => None,
        }
    }
}

impl<'de, T: Form> serde::Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Spanned::<Written>::deserialize(deserializer)?;
        let span = written.span();
        match T::read(written.get_ref()) {
            Some(value) => Ok(Self { value, span }),
            None => Err(D::Error::custom(format_args!("expected {}", T::form()))),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written::Text(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Written, E> {
        Ok(Written::Whole(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Written, E> {
        Ok(Written::Fraction(number))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Written, E> {
        Ok(Written::Flag(flag))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
        let mut list = Some(Vec::new());
        while let Some(item) = items.next_element::<Written>()? {
            match item {
                Written::Text(text) => list.iter_mut().for_each(|l| l.push(text.clone())),
                _ => list = None,
            }
        }
        Ok(list.map_or(Written::Other, Written::List))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        Ok(Written::Other)
    }
}
