//! JSON as raw text: walking it without copying, reading its strings late, and the two checks
//! that serde_json leaves out when it skips a value.
//!
//! Owns no meaning: [`super::request`] and [`super::chunk`] decide which members matter.

use memchr::memchr2;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Levels of nesting above which a body is refused; the same as serde_json's own limit, which it
/// applies to values it builds but not to values it skips.
pub const MAX_DEPTH: usize = 128;

/// The reason valid JSON is still refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsoundJson {
    #[error("it is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("it contains an unpaired UTF-16 surrogate")]
    LoneSurrogate,
}

/// Checks nesting and escapes of a text that serde_json has accepted.
///
/// # Errors
/// [`UnsoundJson`].
pub fn check(json: &[u8]) -> Result<(), UnsoundJson> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at = after_string(json, at)?,
            b'{' | b'[' if depth == MAX_DEPTH => return Err(UnsoundJson::TooDeep),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The object in `json` as a `T`; `None` for anything else, an array too, which serde would take
/// for a struct's fields in order.
#[must_use]
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    serde_json::from_str(object_text(json)?).ok()
}

/// True if `json` is one JSON object.
#[must_use]
pub fn is_object(json: &[u8]) -> bool {
    object::<IgnoredAny>(json).is_some()
}

/// The members of an object that have these names. Where one is written several times, the last
/// that is not blank counts, as in most parsers. `None` when `json` is not an object.
#[must_use]
pub fn members<'a, const N: usize>(
    json: &'a [u8],
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut values = [None; N];
    let walked = each_member(object_text(json)?, |name, value| {
        if let Some(at) = names.iter().position(|wanted| *wanted == name)
            && (values[at].is_none() || !is_blank(value))
        {
            values[at] = Some(value);
        }
    });
    walked.ok().map(|()| values)
}

/// The text of what may be one JSON object, without a byte order mark.
#[must_use]
pub fn object_text(json: &[u8]) -> Option<&str> {
    let json = json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json);
    let is_object = json.trim_ascii_start().starts_with(b"{");
    // Checked once as a whole: read from bytes, each borrowed value would be checked by itself.
    std::str::from_utf8(json).ok().filter(|_| is_object)
}

/// Calls `visit` with every member of an object, in order, names unescaped.
///
/// # Errors
/// When `json` is not one JSON object.
pub fn each_member<'a>(
    json: &'a str,
    visit: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Members(visit))?;
    reader.end()
}

/// A type that is read from an object member by member, whatever it finds there.
pub trait FromMembers<'a>: Default {
    /// Reads the member `name`; its value is the next of `members`.
    fn member<M: MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        members: &mut M,
    ) -> Result<(), M::Error>;
}

/// Reads an object in one pass.
///
/// # Errors
/// When it is no object, or its type refuses a member.
pub fn from_members<'a, T: FromMembers<'a>, D: Deserializer<'a>>(reader: D) -> Result<T, D::Error> {
    struct Object<T>(T);

    impl<'a, T: FromMembers<'a>> Visitor<'a> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<T, M::Error> {
            while let Some(name) = map.next_key_seed(Name)? {
                self.0.member(name, &mut map)?;
            }
            Ok(self.0)
        }
    }

    reader.deserialize_map(Object(T::default()))
}

/// Calls `visit` with every element of an array, in order.
///
/// # Errors
/// When `json` is not one JSON array.
pub fn each_element<'a>(json: &'a str, visit: impl FnMut(&'a RawValue)) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_seq(Elements(visit))?;
    reader.end()
}

/// The text of a JSON string; any other value is its own text.
#[must_use]
pub fn text(raw: &RawValue) -> Cow<'_, str> {
    text_in(raw.get())
}

/// [`text`] of a value that is at hand as its JSON alone.
#[must_use]
pub fn text_in(json: &str) -> Cow<'_, str> {
    match inside_quotes(json) {
        None => Cow::Borrowed(json),
        Some(inside) if !inside.contains('\\') => Cow::Borrowed(inside),
        // A lone surrogate cannot be decoded; its escapes are then kept as text.
        Some(inside) => serde_json::from_str(json).map_or(Cow::Borrowed(inside), Cow::Owned),
    }
}

/// The most bytes that [`text`] can have, without decoding: an escape is never shorter than what
/// it stands for.
#[must_use]
pub fn text_len(raw: &RawValue) -> usize {
    text_len_in(raw.get())
}

/// [`text_len`] of a value that is at hand as its JSON alone.
#[must_use]
pub fn text_len_in(json: &str) -> usize {
    inside_quotes(json).map_or(json.len(), str::len)
}

/// True if the value is `null`.
#[must_use]
pub fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// True if the value is `null`, or an empty string, array or object.
fn is_blank(raw: &RawValue) -> bool {
    matches!(raw.get(), "null" | "\"\"" | "[]" | "{}")
}

fn inside_quotes(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// The position after the string whose first character is at `at`.
pub(super) fn after_string(json: &[u8], mut at: usize) -> Result<usize, UnsoundJson> {
    while let Some(found) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if json[at] == b'"' {
            return Ok(at + 1);
        }
        at = after_escape(json, at)?;
    }
    Ok(json.len())
}

/// The position after the escape whose backslash is at `at`.
fn after_escape(json: &[u8], at: usize) -> Result<usize, UnsoundJson> {
    match code_unit(json, at) {
        None => Ok(at + 2),
        Some(0xD800..=0xDBFF) => match code_unit(json, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(UnsoundJson::LoneSurrogate),
        },
        Some(0xDC00..=0xDFFF) => Err(UnsoundJson::LoneSurrogate),
        Some(_) => Ok(at + 6),
    }
}

/// The number in `\uXXXX` at `at`, if that is what is there.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

struct Members<F>(F);

impl<'a, F: FnMut(Cow<'a, str>, &'a RawValue)> Visitor<'a> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            (self.0)(name, map.next_value()?);
        }
        Ok(())
    }
}

struct Elements<F>(F);

impl<'a, F: FnMut(&'a RawValue)> Visitor<'a> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'a>>(mut self, mut seq: S) -> Result<(), S::Error> {
        while let Some(element) = seq.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

/// A member's name, borrowed unless it has escapes: what `Cow` does not do by itself.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_deep_nesting_and_half_surrogates() {
        let nested = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(check(nested(MAX_DEPTH).as_bytes()), Ok(()));
        assert_eq!(check(nested(MAX_DEPTH + 1).as_bytes()), Err(UnsoundJson::TooDeep));
        for good in [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""é\n\"[[""#, r#"{"a":[1,{}]}"#] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in
            [r#""\ud83d""#, r#""\uDE00""#, r#""\ud83dx""#, r#""\ud83d\n""#, r#"["\uD83D\u0041"]"#]
        {
            assert_eq!(check(bad.as_bytes()), Err(UnsoundJson::LoneSurrogate), "{bad}");
        }
    }

    #[test]
    fn survives_what_is_not_json() {
        for odd in [&b"\"\\u12"[..], b"\"\\", b"]]]}", b"\"abc", b"\xff\"\\u\xff\xff\xff\xff\""] {
            let _ = check(odd);
        }
    }

    #[test]
    fn a_member_that_is_written_twice_does_not_hide_the_others() {
        let json = b"\xEF\xBB\xBF {\"a\":1,\"b\":null,\"a\":2,\"c\":\"x\",\"c\":\"\",\"b\":null}";
        let [a, b, c, d] = members(json, ["a", "b", "c", "d"]).unwrap();
        let text = |raw: Option<&'static RawValue>| raw.map(RawValue::get);
        assert_eq!(text(a), Some("2"));
        assert_eq!((text(b), text(c), text(d)), (Some("null"), Some("\"x\""), None));
        for other in [&b"[1]"[..], b"", b"{", b"{\"a\":1}x", b"\xff"] {
            assert!(members(other, ["a"]).is_none());
        }
    }

    #[test]
    fn reads_strings_and_bounds_their_length() {
        for (json, expected) in [
            (r#""a b""#, "a b"),
            (r#""a\nb\u00e9""#, "a\nbé"),
            ("12", "12"),
            (r#""\ud800""#, r"\ud800"),
        ] {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            assert_eq!(text(raw), expected);
            assert!(text(raw).len() <= text_len(raw));
        }
    }
}
