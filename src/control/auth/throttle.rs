//! Tries that may not come too fast: a few are free, each further one waits twice as long as the one
//! before. Pure: time is an argument, and what is kept is bounded.

use quick_cache::sync::Cache;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names that are remembered; the least used are forgotten first.
const NAMES: usize = 100_000;

/// How fast tries may come.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Tries that go without a wait.
    pub free: u32,
    /// The first wait; each further one is twice as long.
    pub shortest: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// Without a try for this long all is forgotten.
    pub memory: Duration,
}

/// Tries by name.
pub struct Throttle<N> {
    pace: Pace,
    tries: Cache<N, Arc<Mutex<Tries>>>,
}

/// Tries under one name.
#[derive(Debug, Default)]
struct Tries {
    count: u32,
    last: Option<Instant>,
}

impl Pace {
    /// `free` tries without a wait, then a second and twice as long after each, up to 15 minutes; forgotten after an
    /// hour.
    #[must_use]
    pub fn usual(free: u32) -> Self {
        Self {
            free,
            shortest: Duration::from_secs(1),
            longest: Duration::from_mins(15),
            memory: Duration::from_hours(1),
        }
    }
}

impl<N: Hash + Eq + Clone> Throttle<N> {
    /// `free` tries go without a wait, and further ones at the usual pace.
    #[must_use]
    pub fn new(free: u32) -> Self {
        Self::at(Pace::usual(free))
    }

    /// Tries at `pace`.
    #[must_use]
    pub fn at(pace: Pace) -> Self {
        Self { pace, tries: Cache::new(NAMES) }
    }

    /// Counts a try, before it is made, so that many at once do not slip through.
    ///
    /// # Errors
    /// How long to wait; then the try does not count.
    pub fn attempt(&self, name: &N, now: Instant) -> Result<(), Duration> {
        self.attempt_at(self.pace, name, now)
    }

    /// The same at another pace.
    ///
    /// # Errors
    /// As [`Throttle::attempt`].
    pub fn attempt_at(&self, pace: Pace, name: &N, now: Instant) -> Result<(), Duration> {
        self.with(name, |tries| tries.attempt(pace, now)).unwrap_or(Ok(()))
    }

    /// Counts a try that is made whatever the number.
    pub fn count(&self, name: &N, now: Instant) {
        self.with(name, |tries| tries.add(self.pace, now));
    }

    /// True once more tries were counted than are free.
    #[must_use]
    pub fn is_over(&self, name: &N, now: Instant) -> bool {
        let Some(tries) = self.tries.get(name) else { return false };
        let tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.count > self.pace.free && tries.passed(now) < self.pace.memory
    }

    /// Forgets the tries under a name: the last one was right.
    pub fn forgive(&self, name: &N) {
        self.tries.remove(name);
    }

    /// Takes one try back: it was right or was not made, but the name has others.
    pub fn take_back(&self, name: &N) {
        if let Some(tries) = self.tries.get(name) {
            let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
            tries.count = tries.count.saturating_sub(1);
        }
    }

    fn with<T>(&self, name: &N, change: impl FnOnce(&mut Tries) -> T) -> Option<T> {
        let tries = self.tries.get_or_insert_with(name, || Ok::<_, ()>(Arc::default())).ok()?;
        let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
        Some(change(&mut tries))
    }
}

impl Tries {
    fn attempt(&mut self, pace: Pace, now: Instant) -> Result<(), Duration> {
        let wait =
            if self.passed(now) < pace.memory { pace.wait(self.count) } else { Duration::ZERO };
        match wait.checked_sub(self.passed(now)) {
            Some(rest) if !rest.is_zero() => Err(rest),
            _ => {
                self.add(pace, now);
                Ok(())
            }
        }
    }

    fn add(&mut self, pace: Pace, now: Instant) {
        if self.passed(now) >= pace.memory {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    /// Time since the last try.
    fn passed(&self, now: Instant) -> Duration {
        self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last))
    }
}

impl Pace {
    /// The wait after `count` tries.
    fn wait(self, count: u32) -> Duration {
        let Some(beyond) = count.checked_sub(self.free) else { return Duration::ZERO };
        self.shortest.saturating_mul(1 << beyond.min(20)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn waits_double_after_the_free_tries() {
        let throttle = Throttle::new(3);
        let mut now = clock::instant();
        for _ in 0..3 {
            assert_eq!(throttle.attempt(&"a", now), Ok(()));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(throttle.attempt(&"a", now), Err(wait));
            assert_eq!(throttle.attempt(&"a", now), Err(wait), "a refused try does not count");
            assert_eq!(throttle.attempt(&"b", now), Ok(()), "nobody else waits");
            throttle.forgive(&"b");
            now += wait;
            assert_eq!(throttle.attempt(&"a", now), Ok(()));
        }
        now += Pace::usual(3).memory;
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
        assert_eq!(throttle.attempt(&"a", now), Ok(()), "an hour ends it");
    }

    #[test]
    fn what_was_right_is_forgiven() {
        let throttle = Throttle::new(1);
        let now = clock::instant();
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
        throttle.take_back(&"a");
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
        assert!(throttle.attempt(&"a", now).is_err());
        throttle.forgive(&"a");
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
    }
}
