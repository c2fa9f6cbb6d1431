//! What a model's hidden reasoning takes, learned from its latest calls.
//!
//! xAI's `max_completion_tokens` bounds visible output only, and the reasoning behind it is billed as well
//! (xAI's reference of chat completions). A call of such a model holds, beside its output, as much as all
//! but one in a hundred of the latest calls needed for that, so that it rarely costs more than it held. Each
//! gateway learns for itself, from its first call on.

use super::histogram::Histogram;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Of so many calls, one may need more.
const ONE_IN: u16 = 100;
/// Once this many were seen, each counts half: models and callers change.
const LATELY: u16 = 2_000;

/// What was learned, by model.
#[derive(Debug, Default)]
pub struct Reasoning(Mutex<HashMap<Arc<str>, Seen>>);

type Seen = Histogram<LATELY>;

impl Reasoning {
    /// Notes what a call was billed. Returns what the next one is to hold.
    pub fn note(&self, model: &Arc<str>, tokens: u64) -> u64 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(Arc::clone(model)).or_default();
        seen.note(tokens);
        seen.all_but(ONE_IN)
    }

    /// Tokens that a call is to hold for it; 0 before the first.
    #[must_use]
    pub fn allowance(&self, model: &str) -> u64 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(model).map_or(0, |seen| seen.all_but(ONE_IN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(tokens: impl IntoIterator<Item = u64>) -> u64 {
        let (reasoning, model) = (Reasoning::default(), "m".into());
        tokens.into_iter().fold(0, |_, tokens| reasoning.note(&model, tokens))
    }

    #[test]
    fn one_call_in_a_hundred_may_need_more() {
        assert_eq!(Reasoning::default().allowance("m"), 0);
        assert_eq!(after([0]), 0);
        assert_eq!(after([300]), 320);
        assert_eq!(after([300, 20, 10]), 320);
        assert_eq!(after((0..200).map(|n| if n < 2 { 9_000 } else { 100 })), 112);
        assert_eq!(after((0..200).map(|n| if n < 3 { 9_000 } else { 100 })), 10_240);
        assert_eq!(after([u64::MAX]), 1 << 24);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let long_ago = std::iter::repeat_n(50_000, 100);
        assert!(after(long_ago.clone().chain(std::iter::repeat_n(100, 1_000))) > 50_000);
        assert_eq!(after(long_ago.chain(std::iter::repeat_n(100, 10_000))), 112);
    }
}
