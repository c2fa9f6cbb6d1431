//! What a model's hidden reasoning takes, learned from its latest calls.
//!
//! xAI's `max_completion_tokens` bounds visible output only, and the reasoning behind it is billed as well
//! (xAI's reference of chat completions). A call of such a model holds, beside its output, as much as all
//! but one in a hundred of the latest calls needed for that, so that it rarely costs more than it held. Each
//! gateway learns for itself, from its first call on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Steps for each doubling: what is held is at most a quarter above what was needed.
const FINE: usize = 4;
/// None at all, and then up to 2^24 tokens.
const STEPS: usize = 2 + 24 * FINE;
/// Of so many calls, one may need more.
const ONE_IN: u32 = 100;
/// Once this many were seen, each counts half: models and callers change.
const LATELY: u32 = 2_000;

/// What was learned, by model.
#[derive(Debug, Default)]
pub struct Reasoning(Mutex<HashMap<Arc<str>, Seen>>);

/// How many calls needed how much, by [`step`].
#[derive(Debug)]
struct Seen {
    calls: [u32; STEPS],
    all: u32,
}

impl Reasoning {
    /// Notes what a call was billed. Returns what the next one is to hold.
    pub fn note(&self, model: &Arc<str>, tokens: u64) -> u64 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(Arc::clone(model)).or_default();
        seen.note(tokens);
        seen.allowance()
    }

    /// Tokens that a call is to hold for it; 0 before the first.
    #[must_use]
    pub fn allowance(&self, model: &str) -> u64 {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(model).map_or(0, Seen::allowance)
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self { calls: [0; STEPS], all: 0 }
    }
}

impl Seen {
    fn note(&mut self, tokens: u64) {
        if self.all >= LATELY {
            self.calls.iter_mut().for_each(|calls| *calls /= 2);
            self.all = self.calls.iter().sum();
        }
        self.calls[step(tokens)] += 1;
        self.all += 1;
    }

    fn allowance(&self) -> u64 {
        let mut more = self.all / ONE_IN;
        for (step, calls) in self.calls.iter().enumerate().rev() {
            if *calls > more {
                return most(step);
            }
            more -= calls;
        }
        0
    }
}

/// The first step that is enough.
fn step(tokens: u64) -> usize {
    (0..STEPS).find(|step| most(*step) >= tokens).unwrap_or(STEPS - 1)
}

/// The most tokens of a step: 0, 1, 1¼, 1½, 1¾, 2, 2½, 3, 3½, 4, 5 … rounded up.
fn most(step: usize) -> u64 {
    let Some(above) = step.checked_sub(1) else { return 0 };
    let (doublings, quarters) = (above / FINE, above % FINE);
    (((FINE + quarters) as u64) << doublings).div_ceil(FINE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn it_is_enough_and_not_much_more(tokens in 1_u64..1 << 24) {
            let allowance = after([tokens]);
            prop_assert!(allowance >= tokens);
            prop_assert!(allowance <= tokens + tokens / 4 + 1);
        }
    }
}
