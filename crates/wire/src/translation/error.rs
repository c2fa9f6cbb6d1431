//! The reason that a request cannot be translated.

/// A part of a request or a reply that the other surface cannot express. Callers receive it as a 400 in their own
/// shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TranslationError {
    /// The path of the field, such as `messages[2].content[0]`; empty for the body as a whole.
    pub param: String,
    /// A sentence for the caller.
    pub message: String,
}

impl TranslationError {
    /// An error about one field.
    #[must_use]
    pub fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), message: message.into() }
    }

    /// The field has a value of another type.
    pub(super) fn wrong_type(param: &str, expected: &str) -> Self {
        Self::new(param, format!("Invalid type for '{param}': expected {expected}."))
    }

    /// The field is required.
    pub(super) fn missing(param: &str) -> Self {
        Self::new(param, format!("Missing required parameter: '{param}'."))
    }

    /// The field has no counterpart on the surface that the model's upstream offers.
    pub(super) fn unsupported(param: &str) -> Self {
        let message = format!(
            "'{param}' is not supported for this model: its upstream offers another API, which has no such parameter. \
             Remove it."
        );
        Self::new(param, message)
    }

    /// The error with the path of the object that the field is in. A message that names the field names its path.
    pub(super) fn within(mut self, parent: &str) -> Self {
        let param = match self.param.as_str() {
            "" => parent.to_owned(),
            param if param.starts_with('[') => format!("{parent}{param}"),
            param => format!("{parent}.{param}"),
        };
        if !self.param.is_empty() {
            self.message =
                self.message.replacen(&format!("'{}'", self.param), &format!("'{param}'"), 1);
        }
        self.param = param;
        self
    }

    /// The error with its path in the message: errors of messages have no other place for it.
    pub(super) fn with_path(mut self) -> Self {
        if !self.param.is_empty() && !self.message.contains(&self.param) {
            self.message = format!("{}: {}", self.param, self.message);
        }
        self
    }

    /// The error with the index of the element that the field is in.
    pub(super) fn at(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }
}

/// Characters of a caller's text that an error repeats.
const MAX_QUOTED: usize = 64;

/// The beginning of a caller's text, for an error.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}
