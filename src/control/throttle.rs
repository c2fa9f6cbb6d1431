//! Tries that may not come too fast: a few are free, each further one waits twice as long as the one
//! before. Pure: time is an argument, and what is kept is bounded.

use quick_cache::sync::Cache;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first wait.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_mins(15);
/// Without a try for this long all is forgotten.
const MEMORY: Duration = Duration::from_hours(1);
/// Names that are remembered; the least used are forgotten first.
const NAMES: usize = 100_000;

/// Tries by name.
pub struct Throttle<N> {
    free: u32,
    tries: Cache<N, Arc<Mutex<Tries>>>,
}

/// Tries under one name.
#[derive(Debug, Default)]
struct Tries {
    count: u32,
    last: Option<Instant>,
}

impl<N: Hash + Eq + Clone> Throttle<N> {
    /// `free` tries go without a wait.
    #[must_use]
    pub fn new(free: u32) -> Self {
        Self { free, tries: Cache::new(NAMES) }
    }

    /// Counts a try, before it is made, so that many at once do not slip through.
    ///
    /// # Errors
    /// How long to wait; then the try does not count.
    pub fn attempt(&self, name: &N, now: Instant) -> Result<(), Duration> {
        let made = self.tries.get_or_insert_with(name, || Ok::<_, ()>(Arc::default()));
        let Ok(tries) = made else { return Ok(()) };
        tries.lock().unwrap_or_else(PoisonError::into_inner).attempt(self.free, now)
    }

    /// Forgets the tries under a name: the last one was right.
    pub fn forgive(&self, name: &N) {
        self.tries.remove(name);
    }

    /// Takes one try back: it was right, but the name has others.
    pub fn take_back(&self, name: &N) {
        if let Some(tries) = self.tries.get(name) {
            let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
            tries.count = tries.count.saturating_sub(1);
        }
    }
}

impl Tries {
    fn attempt(&mut self, free: u32, now: Instant) -> Result<(), Duration> {
        if let Some(last) = self.last {
            let passed = now.saturating_duration_since(last);
            if passed >= MEMORY {
                self.count = 0;
            }
            let wait = wait(self.count, free);
            if let Some(rest) = wait.checked_sub(passed).filter(|rest| !rest.is_zero()) {
                return Err(rest);
            }
        }
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
        Ok(())
    }
}

/// The wait after `count` tries.
fn wait(count: u32, free: u32) -> Duration {
    let Some(beyond) = count.checked_sub(free) else { return Duration::ZERO };
    SHORTEST.saturating_mul(1 << beyond.min(20)).min(LONGEST)
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
        now += MEMORY;
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
