//! Exponential backoff of attempts: some are free, each further one has to wait twice as long. Time is an
//! argument, and the number of tracked names is bounded.

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of tracked names; the least used are evicted.
const MAX_NAMES: usize = 100_000;

/// The waits between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Attempts without a wait.
    pub free: u32,
    /// The first wait; each further one is twice as long.
    pub shortest: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// Attempts are forgotten after this time without a further one.
    pub memory: Duration,
}

/// Attempts by name.
pub struct Throttle<N> {
    backoff: Backoff,
    attempts: Cache<N, Arc<Mutex<Attempts>>>,
}

/// The attempts under one name.
#[derive(Debug, Default)]
struct Attempts {
    count: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// `free` attempts without a wait, then one second, doubled up to 15 minutes; forgotten after an hour.
    #[must_use]
    pub fn standard(free: u32) -> Self {
        Self {
            free,
            shortest: Duration::from_secs(1),
            longest: Duration::from_mins(15),
            memory: Duration::from_hours(1),
        }
    }
}

impl<N: Hash + Eq + Clone> Throttle<N> {
    /// The standard backoff after `free` attempts.
    #[must_use]
    pub fn new(free: u32) -> Self {
        Self::with_backoff(Backoff::standard(free))
    }

    /// A throttle with this backoff.
    #[must_use]
    pub fn with_backoff(backoff: Backoff) -> Self {
        Self { backoff, attempts: Cache::new(MAX_NAMES) }
    }

    /// Counts an attempt before it is made, so that concurrent ones do not slip through.
    ///
    /// # Errors
    /// How long to wait; the attempt is not counted then.
    pub fn attempt(&self, name: &N, now: Instant) -> Result<(), Duration> {
        self.attempt_with(self.backoff, name, now)
    }

    /// The same with another backoff.
    ///
    /// # Errors
    /// As [`Throttle::attempt`].
    pub fn attempt_with(&self, backoff: Backoff, name: &N, now: Instant) -> Result<(), Duration> {
        self.with(name, |attempts| attempts.attempt(backoff, now)).unwrap_or(Ok(()))
    }

    /// Counts an attempt without a limit.
    pub fn count(&self, name: &N, now: Instant) {
        self.with(name, |attempts| attempts.add(self.backoff, now));
    }

    /// True once more attempts were counted than are free.
    #[must_use]
    pub fn is_over(&self, name: &N, now: Instant) -> bool {
        let Some(attempts) = self.attempts.get(name) else { return false };
        let attempts = attempts.lock();
        attempts.count > self.backoff.free && attempts.elapsed(now) < self.backoff.memory
    }

    /// Forgets the attempts under a name after a successful one.
    pub fn reset(&self, name: &N) {
        self.attempts.remove(name);
    }

    /// Takes one attempt back, because it succeeded or was not made.
    pub fn undo(&self, name: &N) {
        if let Some(attempts) = self.attempts.get(name) {
            let mut attempts = attempts.lock();
            attempts.count = attempts.count.saturating_sub(1);
        }
    }

    fn with<T>(&self, name: &N, change: impl FnOnce(&mut Attempts) -> T) -> Option<T> {
        let attempts =
            self.attempts.get_or_insert_with(name, || Ok::<_, ()>(Arc::default())).ok()?;
        let mut attempts = attempts.lock();
        Some(change(&mut attempts))
    }
}

impl Attempts {
    fn attempt(&mut self, backoff: Backoff, now: Instant) -> Result<(), Duration> {
        let wait = if self.elapsed(now) < backoff.memory {
            backoff.wait(self.count)
        } else {
            Duration::ZERO
        };
        match wait.checked_sub(self.elapsed(now)) {
            Some(rest) if !rest.is_zero() => Err(rest),
            _ => {
                self.add(backoff, now);
                Ok(())
            }
        }
    }

    fn add(&mut self, backoff: Backoff, now: Instant) {
        if self.elapsed(now) >= backoff.memory {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    /// Time since the last attempt.
    fn elapsed(&self, now: Instant) -> Duration {
        self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last))
    }
}

impl Backoff {
    /// The wait after `count` attempts.
    fn wait(self, count: u32) -> Duration {
        let Some(beyond) = count.checked_sub(self.free) else { return Duration::ZERO };
        self.shortest.saturating_mul(1 << beyond.min(20)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;

    #[test]
    fn waits_double_after_the_free_attempts() {
        let throttle = Throttle::new(3);
        let mut now = clock::instant();
        for _ in 0..3 {
            assert_eq!(throttle.attempt(&"a", now), Ok(()));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(throttle.attempt(&"a", now), Err(wait));
            assert_eq!(throttle.attempt(&"a", now), Err(wait), "a refused try does not count");
            assert_eq!(throttle.attempt(&"b", now), Ok(()), "other keys do not wait");
            throttle.reset(&"b");
            now += wait;
            assert_eq!(throttle.attempt(&"a", now), Ok(()));
        }
        now += Backoff::standard(3).memory;
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
        assert_eq!(throttle.attempt(&"a", now), Ok(()), "an hour ends it");
    }

    #[test]
    fn successful_attempts_are_not_counted() {
        let throttle = Throttle::new(1);
        let now = clock::instant();
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
        throttle.undo(&"a");
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
        assert!(throttle.attempt(&"a", now).is_err());
        throttle.reset(&"a");
        assert_eq!(throttle.attempt(&"a", now), Ok(()));
    }
}
