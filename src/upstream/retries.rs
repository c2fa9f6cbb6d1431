//! How much may be tried again. When everything fails, calls that each try twice would double what an
//! upstream in trouble has to bear.

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
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
            Some((saved + PER_CALL).min(MOST))
        });
    }

    /// Takes what one retry costs; false when there is not enough.
    pub fn take(&self) -> bool {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(RETRY));
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
