//! Tells when a JSON value that comes in pieces is complete.

/// The nesting of a JSON text, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct JsonDepth {
    depth: usize,
    in_string: bool,
    escaped: bool,
    has_begun: bool,
}

impl JsonDepth {
    pub fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                self.escaped = byte == b'\\';
                self.in_string = byte != b'"';
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => continue,
                }
                self.has_begun = true;
            }
        }
    }

    /// True if an object has come to its end.
    pub fn is_complete(&self) -> bool {
        self.has_begun && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_within_strings_do_not_count() {
        let mut depth = JsonDepth::default();
        for (piece, complete) in
            [("", false), (" {\"a", false), ("}\\", false), ("\"}\"", false), (":[1]}", true)]
        {
            depth.push(piece);
            assert_eq!(depth.is_complete(), complete, "{piece}");
        }
    }
}
