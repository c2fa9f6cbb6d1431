//! Why a configuration was refused: one plain sentence with its place.

use std::ops::Range;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}, line {line}: {problem}")]
    InFile { file: String, line: usize, problem: String },
    #[error("environment variable {name}: {problem}")]
    InVariable { name: String, problem: String },
    #[error("cannot read the config file {file}: {source}")]
    Unreadable { file: String, source: std::io::Error },
    /// Configured, but not supported by this version.
    #[error("{0}")]
    NotBuilt(String),
    /// The compiled-in defaults lack a key: a mistake of ours, caught by tests.
    #[error("the built-in defaults are incomplete")]
    NoDefault,
}

/// Source of a layer of configuration.
#[derive(Debug)]
pub enum Origin {
    File { name: String, text: String },
    Variable(String),
}

impl Origin {
    /// The error for what stands at `span`.
    pub fn error(&self, span: &Range<usize>, problem: impl Into<String>) -> ConfigError {
        let problem = problem.into();
        match self {
            Self::File { name, text } => {
                ConfigError::InFile { file: name.clone(), line: line_of(text, span), problem }
            }
            Self::Variable(name) => ConfigError::InVariable { name: name.clone(), problem },
        }
    }

    /// The error for text that is not a configuration.
    pub fn unreadable(&self, mut error: toml::de::Error) -> ConfigError {
        // Without its input the error prints `message` and `in key`, never the line itself: a
        // line may hold a secret.
        error.set_input(None);
        let span = error.span().unwrap_or_default();
        let key = error.to_string();
        let key = key.lines().find_map(|l| l.strip_prefix("in `")?.strip_suffix('`'));
        match (self, key) {
            (Self::File { .. }, Some(key)) => {
                self.error(&span, format!("`{key}`: {}", error.message()))
            }
            _ => self.error(&span, error.message()),
        }
    }
}

/// Line number of a position, starting at 1.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().iter().take(span.start);
    before.filter(|b| **b == b'\n').count() + 1
}
