//! Computes the bill of an answer, however the answer ended.
//!
//! An answer that ended is billed by its usage. When the connection ends early, a stream is
//! billed up to the token that was generated last, with all of its hidden reasoning; what cannot be
//! stopped (a non-streamed response, a deferred completion, a stored response) is generated to its end and
//! billed whole. Refusals leave no answer and no bill.

use crate::model::Model;
use crate::request_log::LogEntry;
use serde::Serialize;

/// Billed tokens, and their price in ticks (1e-10 US dollars).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bill {
    pub prompt: u64,
    pub cached: u64,
    pub completion: u64,
    pub reasoning: u64,
    /// Sum of prompt, completion and reasoning.
    pub tokens: u64,
    pub cost_ticks: u64,
}

/// The terms on which an answer is billed.
#[derive(Debug, Clone, Default)]
pub struct BillingTerms {
    pub model: Model,
    /// Generation continues after the connection is closed.
    pub goes_on: bool,
}

impl BillingTerms {
    /// The bill of the ended answer in `entry`.
    pub fn bill(&self, entry: &LogEntry) -> Bill {
        let is_whole = entry.finished || self.goes_on;
        let completion =
            if is_whole { entry.completion } else { entry.produced.min(entry.completion) };
        let output = completion + entry.reasoning;
        let cost_ticks = if is_whole {
            entry.cost_ticks
        } else {
            self.model.cost_ticks(entry.prompt, entry.cached, output)
        };
        Bill {
            prompt: entry.prompt,
            cached: entry.cached,
            completion,
            reasoning: entry.reasoning,
            tokens: entry.prompt + output,
            cost_ticks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    fn entry(finished: bool) -> LogEntry {
        let cost_ticks = 100 * 12_500 + 90 * 25_000;
        let counts = LogEntry { prompt: 100, completion: 50, reasoning: 40, ..LogEntry::default() };
        LogEntry { cost_ticks, produced: 20, finished, ..counts }
    }

    fn terms(goes_on: bool) -> BillingTerms {
        let model = model::find(&model::all(&[]), model::DEFAULT).cloned().expect("in the table");
        BillingTerms { model, goes_on }
    }

    #[test]
    fn an_end_is_billed_as_usage_says() {
        let bill = terms(false).bill(&entry(true));
        assert_eq!((bill.tokens, bill.completion, bill.reasoning), (190, 50, 40));
        assert_eq!(bill, terms(true).bill(&entry(false)), "and so is what cannot be stopped");
    }

    #[test]
    fn an_early_end_is_billed_up_to_the_last_token_with_all_reasoning() {
        let bill = terms(false).bill(&entry(false));
        assert_eq!((bill.tokens, bill.completion, bill.reasoning), (160, 20, 40));
        assert_eq!(bill.cost_ticks, 100 * 12_500 + 60 * 25_000);
    }
}
