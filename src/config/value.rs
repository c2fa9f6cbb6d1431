//! One configuration value with its position, converted into its type.
//!
//! Environment variables are text, so every [`FromConfig`] accepts text as well as TOML's own types.
//! Invariant: an error names the accepted form and never repeats the value, which may be a secret.

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::ops::Range;
use toml::Spanned;

/// A type that a configuration value can have.
pub trait FromConfig: Sized {
    /// The accepted form, to follow the word "expected".
    fn expected() -> String;

    /// Converts the value; `None` if it does not have that form.
    fn from_value(value: &RawValue) -> Option<Self>;
}

/// A value before it is converted.
#[derive(Debug)]
pub enum RawValue {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<String>),
    /// A table, or a list of something other than text: no type accepts it.
    Other,
}

/// A converted value and its position in the file.
#[derive(Debug, Clone)]
pub struct Field<T> {
    pub value: T,
    pub span: Range<usize>,
}

impl RawValue {
    /// The trimmed text; `None` for other values.
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
            Self::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The number as decimal text; TOML's `0.5` and `"0.5"` are the same.
    pub fn decimal(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.trim().to_owned()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
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

impl<'de, T: FromConfig> serde::Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Spanned::<RawValue>::deserialize(deserializer)?;
        let span = raw.span();
        match T::from_value(raw.get_ref()) {
            Some(value) => Ok(Self { value, span }),
            None => Err(D::Error::custom(format_args!("expected {}", T::expected()))),
        }
    }
}

impl<'de> serde::Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<RawValue, E> {
        Ok(RawValue::Float(number))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(flag))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        let mut list = Some(Vec::new());
        while let Some(item) = items.next_element::<RawValue>()? {
            match item {
                RawValue::Text(text) => list.iter_mut().for_each(|l| l.push(text.clone())),
                _ => list = None,
            }
        }
        Ok(list.map_or(RawValue::Other, RawValue::List))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        Ok(RawValue::Other)
    }
}
