//! Per-model cooldowns after a 429. xAI's rate limits are per model (its rate-limits page).

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Cooldown after a 429 without `retry-after`.
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(1);
/// Maximum cooldown, whatever `retry-after` says.
const MAX_COOLDOWN: Duration = Duration::from_secs(60);

/// End of the cooldown of each model, by the upstream's name for it.
#[derive(Debug, Default)]
pub struct Cooldowns(Mutex<HashMap<Arc<str>, Instant>>);

impl Cooldowns {
    /// Starts the cooldown of a model whose rate limit is reached; `retry_after` is the upstream's own delay.
    pub fn start(&self, model: &Arc<str>, now: Instant, retry_after: Option<Duration>) {
        let until = now + retry_after.unwrap_or(DEFAULT_COOLDOWN).min(MAX_COOLDOWN);
        self.0.lock().insert(Arc::clone(model), until);
    }

    /// True while calls of the model should prefer another upstream.
    #[must_use]
    pub fn is_cooling_down(&self, model: &str, now: Instant) -> bool {
        let ends = self.0.lock();
        ends.get(model).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system::clock;

    #[test]
    fn a_cooldown_is_for_one_model_and_ends() {
        let (cooldowns, now, model) = (Cooldowns::default(), clock::instant(), Arc::from("a"));
        let second = Duration::from_secs(1);
        for (retry_after, lasts) in [(None, 1_u32), (Some(3), 3), (Some(86_400), 60), (Some(0), 0)]
        {
            cooldowns.start(&model, now, retry_after.map(Duration::from_secs));
            let at = |offset: Duration| cooldowns.is_cooling_down("a", now + offset);
            assert_eq!(at(Duration::ZERO), lasts > 0);
            assert!(!at(second * lasts));
            assert!(lasts == 0 || at(second * (lasts - 1) + second / 2));
            assert!(!cooldowns.is_cooling_down("b", now));
        }
    }
}
