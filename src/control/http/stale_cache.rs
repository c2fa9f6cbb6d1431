//! Answers that take the store long, kept for a while.
//!
//! A fresh answer is given again. An older one that is still usable is given at once too, and renewed
//! meanwhile; where there is none, askers wait for the store. Of each question one copy at most is on
//! its way to the store, however many ask.

use crate::store::StoreError;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// Questions whose answers are kept; one more takes the place of the oldest.
const MOST: usize = 64;

/// Answers by their questions.
pub struct StaleWhileRevalidate<Q, A> {
    /// Nobody is told anything older without its being renewed.
    fresh: Duration,
    /// Nobody is told anything older.
    usable: Duration,
    places: Mutex<HashMap<Q, Arc<Place<A>>>>,
    renewals: TaskTracker,
}

/// Where the answer to one question is.
struct Place<A> {
    /// Held by the one who asks the store.
    turn: Arc<tokio::sync::Mutex<()>>,
    answer: Mutex<Option<Answer<A>>>,
}

struct Answer<A> {
    asked_at: Instant,
    told: Arc<A>,
}

impl<Q: Eq + Hash + Clone, A: Send + Sync + 'static> StaleWhileRevalidate<Q, A> {
    /// Nothing kept yet.
    #[must_use]
    pub fn new(fresh: Duration, usable: Duration) -> Self {
        Self { fresh, usable, places: Mutex::default(), renewals: TaskTracker::new() }
    }

    /// The answer to `question`; `ask` asks the store, which may not be necessary.
    ///
    /// # Errors
    /// Those of the store, when there is nothing to tell meanwhile.
    pub async fn answer(
        &self,
        question: Q,
        now: Instant,
        ask: impl Future<Output = Result<A, StoreError>> + Send + 'static,
    ) -> Result<Arc<A>, StoreError> {
        let place = self.place(question);
        if let Some(told) = place.younger_than(self.fresh, now) {
            return Ok(told);
        }
        if let Some(told) = place.younger_than(self.usable, now) {
            if let Ok(turn) = Arc::clone(&place.turn).try_lock_owned() {
                self.renewals.spawn(async move {
                    if let Err(error) = place.renew(now, ask).await {
                        tracing::warn!(%error, "a report could not be renewed");
                    }
                    drop(turn);
                });
            }
            return Ok(told);
        }
        let _turn = place.turn.lock().await;
        match place.younger_than(self.fresh, now) {
            Some(told) => Ok(told),
            None => place.renew(now, ask).await,
        }
    }

    fn place(&self, question: Q) -> Arc<Place<A>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= MOST && !places.contains_key(&question) {
            let oldest = places.iter().min_by_key(|(_, place)| place.asked_at());
            if let Some(oldest) = oldest.map(|(question, _)| question.clone()) {
                places.remove(&oldest);
            }
        }
        Arc::clone(places.entry(question).or_insert_with(|| Arc::new(Place::empty())))
    }
}

impl<A> Place<A> {
    fn empty() -> Self {
        Self { turn: Arc::default(), answer: Mutex::new(None) }
    }

    fn asked_at(&self) -> Option<Instant> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.as_ref().map(|answer| answer.asked_at)
    }

    fn younger_than(&self, age: Duration, now: Instant) -> Option<Arc<A>> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answer.as_ref()?;
        // Asked after `now` by somebody who was faster: as young as can be.
        let is_younger = now.saturating_duration_since(answer.asked_at) < age;
        is_younger.then(|| Arc::clone(&answer.told))
    }

    async fn renew(
        &self,
        now: Instant,
        ask: impl Future<Output = Result<A, StoreError>>,
    ) -> Result<Arc<A>, StoreError> {
        let told = Arc::new(ask.await?);
        let answer = Answer { asked_at: now, told: Arc::clone(&told) };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use futures_util::future;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    const FRESH: Duration = Duration::from_secs(60);
    const USABLE: Duration = Duration::from_secs(900);

    fn kept() -> StaleWhileRevalidate<u32, usize> {
        StaleWhileRevalidate::new(FRESH, USABLE)
    }

    /// A store that is asked how often it was asked.
    #[derive(Clone, Default)]
    struct Asked(Arc<AtomicUsize>);

    impl Asked {
        /// Asks when it is polled, as a store would.
        fn count(self) -> impl Future<Output = Result<usize, StoreError>> {
            future::lazy(move |_| Ok(self.0.fetch_add(1, Ordering::SeqCst) + 1))
        }
    }

    async fn told(
        kept: &StaleWhileRevalidate<u32, usize>,
        question: u32,
        now: Instant,
        asked: &Asked,
    ) -> usize {
        *kept.answer(question, now, asked.clone().count()).await.unwrap()
    }

    #[tokio::test]
    async fn a_young_answer_is_given_again_and_an_old_one_renewed() {
        let (kept, asked, now) = (kept(), Asked::default(), clock::instant());
        assert_eq!(told(&kept, 1, now, &asked).await, 1);
        assert_eq!(told(&kept, 1, now + FRESH / 2, &asked).await, 1);
        assert_eq!(told(&kept, 2, now, &asked).await, 2, "another question");

        assert_eq!(told(&kept, 1, now + FRESH, &asked).await, 1, "at once");
        kept.renewals.close();
        kept.renewals.wait().await;
        assert_eq!(told(&kept, 1, now + FRESH, &asked).await, 3, "the renewed one");

        assert_eq!(told(&kept, 1, now + FRESH + USABLE, &asked).await, 4, "too old to be told");
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_waits_for_one_answer() {
        let (kept, asked, now) = (kept(), Asked::default(), clock::instant());
        let slow = Arc::new(Notify::new());
        let (answered, again) = (Arc::clone(&slow), asked.clone());
        let first = kept.answer(1, now, async move {
            answered.notified().await;
            again.count().await
        });
        let second = async {
            slow.notify_one();
            told(&kept, 1, now, &asked).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!((*first.unwrap(), second), (1, 1));
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (kept, asked, now) = (kept(), Asked::default(), clock::instant());
        let failing = async { Err(StoreError::Unavailable("asleep".into())) };
        assert!(kept.answer(1, now, failing).await.is_err());
        assert_eq!(told(&kept, 1, now, &asked).await, 1);
    }

    #[tokio::test]
    async fn the_oldest_gives_way() {
        let (kept, asked, now) = (kept(), Asked::default(), clock::instant());
        for question in 0..=64 {
            told(&kept, question, now + Duration::from_millis(question.into()), &asked).await;
        }
        assert_eq!(kept.places.lock().unwrap().len(), MOST);
        assert_eq!(told(&kept, 1, now + FRESH / 2, &asked).await, 2, "still there");
        assert_eq!(told(&kept, 0, now + FRESH / 2, &asked).await, 66, "asked again");
    }
}
