//! A decaying histogram: estimates quantiles of recent numbers in constant memory.
//!
//! It is shared between threads without a lock: each number is two atomic additions. A reader may see a
//! number that is only half recorded, which shifts an estimate by one number at most.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};

/// Steps for each doubling: a quantile is at most a quarter above the number it stands for.
const FINE: usize = 4;
/// None at all, and then up to 2^24.
const STEPS: usize = 2 + 24 * FINE;

/// How many numbers there were of each [`step`], the latest `LATELY` or so.
#[derive(Debug)]
pub struct Histogram<const LATELY: u16> {
    counts: [AtomicU16; STEPS],
    all: AtomicU16,
    /// One thread halves the counts at a time.
    halving: AtomicBool,
}

impl<const LATELY: u16> Default for Histogram<LATELY> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU16::new(0) }; STEPS],
            all: AtomicU16::new(0),
            halving: AtomicBool::new(false),
        }
    }
}

impl<const LATELY: u16> Histogram<LATELY> {
    /// Records a number. Once `LATELY` were recorded, each counts half.
    pub fn record(&self, number: u64) {
        if self.count() >= LATELY && !self.halving.swap(true, Relaxed) {
            self.halve();
            self.halving.store(false, Relaxed);
        }
        self.counts[step(number)].fetch_add(1, Relaxed);
        self.all.fetch_add(1, Relaxed);
    }

    /// Numbers that count now, halved ones as half.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.all.load(Relaxed)
    }

    /// The quantile that all but one in `one_in` numbers do not exceed; 0 before the first.
    #[must_use]
    pub fn all_but(&self, one_in: u16) -> u64 {
        let mut more = self.count() / one_in.max(1);
        for (step, count) in self.counts.iter().enumerate().rev() {
            let count = count.load(Relaxed);
            if count > more {
                return most(step);
            }
            more -= count;
        }
        0
    }

    fn halve(&self) {
        for count in &self.counts {
            let now = count.load(Relaxed);
            let removed = now - now / 2;
            count.fetch_sub(removed, Relaxed);
            self.all.fetch_sub(removed, Relaxed);
        }
    }
}

/// The first step that is enough, or one of the same size.
fn step(number: u64) -> usize {
    let Some(doublings) = number.checked_ilog2() else { return 0 };
    if doublings >= 24 {
        return STEPS - 1;
    }
    // Four quarters more is the next doubling.
    let quarters = (number * FINE as u64).div_ceil(1 << doublings) - FINE as u64;
    1 + doublings as usize * FINE + usize::try_from(quarters).unwrap_or(FINE)
}

/// The most of a step: 0, 1, 1¼, 1½, 1¾, 2, 2½, 3, 3½, 4, 5 … rounded up.
fn most(step: usize) -> u64 {
    let Some(above) = step.checked_sub(1) else { return 0 };
    let (doublings, quarters) = (above / FINE, above % FINE);
    (((FINE + quarters) as u64) << doublings).div_ceil(FINE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_enough_and_not_much_more(number in 1_u64..1 << 24) {
            let histogram = Histogram::<100>::default();
            histogram.record(number);
            prop_assert!(histogram.all_but(10) >= number);
            prop_assert!(histogram.all_but(10) <= number + number / 4 + 1);
        }

        #[test]
        fn as_many_are_above_as_may_be(
            numbers in prop::collection::vec(0_u64..5_000, 1..99),
            one_in in 1_u16..200,
        ) {
            let histogram = Histogram::<100>::default();
            for number in &numbers {
                histogram.record(*number);
            }
            let enough = histogram.all_but(one_in);
            let above = numbers.iter().filter(|number| **number > enough).count();
            prop_assert!(above <= numbers.len() / usize::from(one_in));
        }
    }

    #[test]
    fn a_number_has_the_smallest_step_that_is_enough() {
        for number in (0..5_000).chain([(1 << 24) - 1, 1 << 24, (1 << 24) + 1, u64::MAX]) {
            let first = (0..STEPS).map(most).find(|most| *most >= number);
            assert_eq!(most(step(number)), first.unwrap_or(most(STEPS - 1)), "{number}");
        }
    }

    #[test]
    fn threads_that_record_at_once_lose_no_number() {
        let histogram = Histogram::<60_000>::default();
        std::thread::scope(|scope| {
            for number in [10, 1_000] {
                let histogram = &histogram;
                scope.spawn(move || (0..10_000).for_each(|_| histogram.record(number)));
            }
        });
        assert_eq!((histogram.count(), histogram.all_but(3)), (20_000, 1_024));
        assert_eq!(histogram.all_but(1), 0);
    }
}
