//! Cooldowns of an upstream per model, after a 429: its rate limit is reached, and limits are
//! for each model (xAI's rate-limits page).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Cooldown after a 429 without `retry-after`.
const USUAL: Duration = Duration::from_secs(1);
/// Maximum cooldown, whatever `retry-after` says.
const LONGEST: Duration = Duration::from_secs(60);

/// End of the cooldown of each model, by the upstream's name for it.
#[derive(Debug, Default)]
pub struct Rests(Mutex<HashMap<Arc<str>, Instant>>);

impl Rests {
    /// Notes that a model's limit is reached, and when its upstream wants to be asked again.
    pub fn begin(&self, model: &Arc<str>, now: Instant, time: Option<Duration>) {
        let until = now + time.unwrap_or(USUAL).min(LONGEST);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(model), until);
    }

    /// Whether the model is better asked elsewhere.
    #[must_use]
    pub fn is_resting(&self, model: &str, now: Instant) -> bool {
        let rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rests.get(model).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;

    #[test]
    fn a_rest_is_for_one_model_and_ends() {
        let (rests, now, model) = (Rests::default(), clock::instant(), Arc::from("a"));
        let second = Duration::from_secs(1);
        for (asked, lasts) in [(None, 1_u32), (Some(3), 3), (Some(86_400), 60), (Some(0), 0)] {
            rests.begin(&model, now, asked.map(Duration::from_secs));
            assert_eq!(rests.is_resting("a", now), lasts > 0);
            assert!(!rests.is_resting("a", now + second * lasts));
            assert!(lasts == 0 || rests.is_resting("a", now + second * (lasts - 1) + second / 2));
            assert!(!rests.is_resting("b", now));
        }
    }
}
