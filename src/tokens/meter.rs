//! How many output tokens a running answer has, seen event by event.

use crate::openai::usage::Usage;

/// Watches the parsed events of one answer.
#[derive(Debug, Default)]
pub struct Meter {}

impl Meter {
    /// Takes in one event's data (a `chat.completion.chunk` as JSON).
    pub fn event(&mut self, data: &[u8]) {
        let _ = data;
    }

    /// Output tokens so far, never fewer than a tokenizer would count on usual text; cheap.
    #[must_use]
    pub fn output_ceiling(&self) -> u64 {
        0
    }

    /// Output tokens so far by the tokenizer: costs time, used near a limit and when usage never came.
    #[must_use]
    pub fn output_counted(&mut self) -> u64 {
        0
    }

    /// The last usage object seen.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        None
    }
}
