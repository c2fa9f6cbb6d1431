//! Retry budget of the gateway: bounds the load that retries add while every upstream fails.
//!
//! A retry that gets a reply is refunded, so that one failing upstream beside a working one never uses the
//! budget up.

use std::sync::atomic::{AtomicU64, Ordering};

/// Cost of one retry, in units of the balance.
const RETRY_COST: u64 = 100;
/// Deposit of each call: five calls pay for one retry.
const CALL_DEPOSIT: u64 = 20;
/// Largest balance, and the initial one.
const MAX_BALANCE: u64 = 100 * RETRY_COST;

/// Balance for retries; shared by all calls of a gateway.
#[derive(Debug)]
pub struct RetryBudget(AtomicU64);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU64::new(MAX_BALANCE))
    }
}

impl RetryBudget {
    /// Adds what each call contributes.
    pub fn deposit(&self) {
        self.add(CALL_DEPOSIT);
    }

    /// Returns the cost of a retry that got a reply.
    pub fn refund(&self) {
        self.add(RETRY_COST);
    }

    /// Takes the cost of one retry; false when the balance is too low.
    pub fn withdraw(&self) -> bool {
        let withdrawn = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
            balance.checked_sub(RETRY_COST)
        });
        withdrawn.is_ok()
    }

    /// True if it covers a retry now.
    #[must_use]
    pub fn covers_retry(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= RETRY_COST
    }

    fn add(&self, amount: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
            Some((balance + amount).min(MAX_BALANCE))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refunded_retries_never_exhaust_the_budget() {
        let budget = RetryBudget::default();
        for _ in 0..1_000 {
            assert!(budget.withdraw());
            budget.refund();
        }
    }

    #[test]
    fn five_calls_pay_for_one_retry_beyond_the_initial_hundred() {
        let budget = RetryBudget::default();
        budget.deposit();
        assert_eq!((0..200).filter(|_| budget.withdraw()).count(), 100);
        for _ in 0..4 {
            budget.deposit();
            assert!(!budget.withdraw());
        }
        budget.deposit();
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
    }
}
