//! How much may be tried again. When everything fails, calls that each try twice would double what an
//! upstream in trouble has to bear. A retry that is answered was worth it and costs nothing, so that one
//! upstream in trouble beside a sound one never uses this up.

use std::sync::atomic::{AtomicU64, Ordering};

/// One retry, in the unit of what is saved.
const RETRY: u64 = 100;
/// What each call saves: a retry for every five calls.
const PER_CALL: u64 = 20;
/// What may be saved at most; so much there is at first.
const MOST: u64 = 100 * RETRY;

/// What is left for retries; shared by all calls of a gateway.
#[derive(Debug)]
pub struct Retries(AtomicU64);

impl Default for Retries {
    fn default() -> Self {
        Self(AtomicU64::new(MOST))
    }
}

impl Retries {
    /// Notes a call.
    pub fn save(&self) {
        self.add(PER_CALL);
    }

    /// Gives back what a retry took that was answered.
    pub fn give_back(&self) {
        self.add(RETRY);
    }

    /// Takes what one retry costs; false when there is not enough.
    pub fn take(&self) -> bool {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(RETRY));
        taken.is_ok()
    }

    fn add(&self, amount: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
            Some((saved + amount).min(MOST))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_that_are_answered_never_run_out() {
        let retries = Retries::default();
        for _ in 0..1_000 {
            assert!(retries.take());
            retries.give_back();
        }
    }

    #[test]
    fn one_retry_for_every_five_calls_and_a_hundred_ahead() {
        let retries = Retries::default();
        retries.save();
        assert_eq!((0..200).filter(|_| retries.take()).count(), 100);
        for _ in 0..4 {
            retries.save();
            assert!(!retries.take());
        }
        retries.save();
        assert!(retries.take());
        assert!(!retries.take());
    }
}
