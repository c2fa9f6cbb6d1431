//! A decaying histogram: estimates quantiles of recent numbers in constant memory.

/// Steps for each doubling: a quantile is at most a quarter above the number it stands for.
const FINE: usize = 4;
/// None at all, and then up to 2^24.
const STEPS: usize = 2 + 24 * FINE;

/// How many numbers there were of each [`step`], the latest `LATELY` or so.
#[derive(Debug, Clone)]
pub struct Histogram<const LATELY: u16> {
    counts: [u16; STEPS],
    all: u16,
}

impl<const LATELY: u16> Default for Histogram<LATELY> {
    fn default() -> Self {
        Self { counts: [0; STEPS], all: 0 }
    }
}

impl<const LATELY: u16> Histogram<LATELY> {
    /// Notes a number. Once `LATELY` were noted, each counts half.
    pub fn note(&mut self, number: u64) {
        if self.all >= LATELY {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.all = self.counts.iter().sum();
        }
        self.counts[step(number)] += 1;
        self.all += 1;
    }

    /// Numbers that count now, halved ones as half.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.all
    }

    /// What all but one in `one_in` numbers stay within; 0 before the first.
    #[must_use]
    pub fn all_but(&self, one_in: u16) -> u64 {
        let mut more = self.all / one_in.max(1);
        for (step, count) in self.counts.iter().enumerate().rev() {
            if *count > more {
                return most(step);
            }
            more -= count;
        }
        0
    }
}

/// The first step that is enough.
fn step(number: u64) -> usize {
    (0..STEPS).find(|step| most(*step) >= number).unwrap_or(STEPS - 1)
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
            let mut histogram = Histogram::<100>::default();
            histogram.note(number);
            prop_assert!(histogram.all_but(10) >= number);
            prop_assert!(histogram.all_but(10) <= number + number / 4 + 1);
        }

        #[test]
        fn as_many_are_above_as_may_be(
            numbers in prop::collection::vec(0_u64..5_000, 1..99),
            one_in in 1_u16..200,
        ) {
            let mut histogram = Histogram::<100>::default();
            for number in &numbers {
                histogram.note(*number);
            }
            let enough = histogram.all_but(one_in);
            let above = numbers.iter().filter(|number| **number > enough).count();
            prop_assert!(above <= numbers.len() / usize::from(one_in));
        }
    }
}
