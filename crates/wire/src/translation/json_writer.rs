//! Writes JSON straight into a buffer: members in the order in which they are written, raw values byte for byte.

use serde_json::value::RawValue;

/// Writes one JSON object or array into a buffer. Commas are its own concern.
pub(super) struct JsonWriter<'o> {
    out: &'o mut Vec<u8>,
    /// The next member or element follows another.
    follows: bool,
}

impl<'o> JsonWriter<'o> {
    /// Appends an object to `out`; `members` writes its members.
    pub fn object(out: &'o mut Vec<u8>, members: impl FnOnce(&mut JsonWriter<'_>)) {
        out.push(b'{');
        members(&mut JsonWriter { out, follows: false });
        out.push(b'}');
    }

    /// The text of an object.
    pub fn object_text(members: impl FnOnce(&mut JsonWriter<'_>)) -> String {
        let mut out = Vec::new();
        JsonWriter::object(&mut out, members);
        String::from_utf8(out).unwrap_or_default()
    }

    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        string(self.out, value);
        self
    }

    pub fn text_if(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// Writes `null` where there is no text.
    pub fn text_or_null(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.json(name, &value.to_string())
    }

    pub fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.json(name, if value { "true" } else { "false" })
    }

    pub fn null(&mut self, name: &str) -> &mut Self {
        self.json(name, "null")
    }

    pub fn raw(&mut self, name: &str, value: &RawValue) -> &mut Self {
        self.json(name, value.get())
    }

    pub fn raw_if(&mut self, name: &str, value: Option<&RawValue>) -> &mut Self {
        if let Some(value) = value {
            self.raw(name, value);
        }
        self
    }

    /// Writes a member with a value that is JSON already.
    pub fn json(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    /// Writes members that are JSON already, without braces; nothing where they are empty.
    pub fn members(&mut self, members: &str) -> &mut Self {
        if !members.is_empty() {
            self.separate();
            self.out.extend_from_slice(members.as_bytes());
        }
        self
    }

    pub fn child(&mut self, name: &str, members: impl FnOnce(&mut JsonWriter<'_>)) -> &mut Self {
        self.name(name);
        JsonWriter::object(self.out, members);
        self
    }

    pub fn list(&mut self, name: &str, elements: impl FnOnce(&mut JsonWriter<'_>)) -> &mut Self {
        self.name(name);
        self.out.push(b'[');
        elements(&mut JsonWriter { out: self.out, follows: false });
        self.out.push(b']');
        self
    }

    /// Writes an element of an array.
    pub fn element(&mut self, members: impl FnOnce(&mut JsonWriter<'_>)) -> &mut Self {
        self.separate();
        JsonWriter::object(self.out, members);
        self
    }

    /// Writes an element that is JSON already.
    pub fn json_element(&mut self, value: &str) -> &mut Self {
        self.separate();
        self.out.extend_from_slice(value.as_bytes());
        self
    }

    fn name(&mut self, name: &str) {
        self.separate();
        string(self.out, name);
        self.out.push(b':');
    }

    fn separate(&mut self) {
        if self.follows {
            self.out.push(b',');
        }
        self.follows = true;
    }
}

/// Writes a JSON string.
fn string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|byte| escape_of(*byte).is_some()) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, behind)) = escaped.split_first() else { break };
        match escape_of(*byte) {
            Some(b'u') => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None => {}
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The letter of the escape that stands for a byte; `None` for bytes that are written as they are.
fn escape_of(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        b'\t' => Some(b't'),
        0x08 => Some(b'b'),
        0x0C => Some(b'f'),
        0..0x20 => Some(b'u'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_and_elements_are_separated() {
        let json = JsonWriter::object_text(|object| {
            object.number("n", 1).members("").members("\"m\":2").null("z").list("l", |list| {
                list.element(|_| {}).json_element("3");
            });
        });
        assert_eq!(json, r#"{"n":1,"m":2,"z":null,"l":[{},3]}"#);
    }

    proptest! {
        #[test]
        fn a_string_is_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
