//! The admission queues: calls that fit the day's remaining tokens, but not next to the calls in flight,
//! wait first come, first served, before anything is sent upstream.
//!
//! There is one queue per user, and one per key whose own limit is the obstacle. Only the head of a queue
//! retries admission: when a call of its user is settled here, and every [`POLL_INTERVAL`], because calls end at
//! other gateways too. A queued call holds no quota and no place in the window.

use domain::id::{KeyId, UserId};
use parking_lot::Mutex;
use quota::rules::Scope;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Retry interval of a queue's head when no call is settled here.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum length of a queue; further calls are refused.
const MAX_LENGTH: usize = 64;

/// All queues. An empty queue takes no memory.
#[derive(Debug, Default)]
pub struct AdmissionQueue {
    queues: Mutex<HashMap<Scope, VecDeque<Arc<Notify>>>>,
}

/// A call's place in a queue. Dropping it leaves the queue and wakes the next call.
#[derive(Debug)]
pub struct QueuePosition {
    queue: Arc<AdmissionQueue>,
    scope: Scope,
    turn: Arc<Notify>,
}

impl AdmissionQueue {
    /// The line that a new call has to join before it may try: others came first.
    #[must_use]
    pub fn queue(&self, user: UserId, key: &KeyId) -> Option<Scope> {
        let queues = self.queues.lock();
        if queues.is_empty() {
            return None;
        }
        let scopes = [Scope::User(user), Scope::Key(key.clone())];
        scopes.into_iter().find(|scope| queues.contains_key(scope))
    }

    /// The last place in a line; `None` when too many wait. The first in line may try at once, since a
    /// call may have ended after it was refused.
    #[must_use]
    pub fn join(self: &Arc<Self>, scope: Scope) -> Option<QueuePosition> {
        let turn = Arc::new(Notify::new());
        let mut queues = self.queues.lock();
        let queue = queues.entry(scope.clone()).or_default();
        if queue.len() >= MAX_LENGTH {
            return None;
        }
        if queue.is_empty() {
            turn.notify_one();
        }
        queue.push_back(Arc::clone(&turn));
        drop(queues);
        Some(QueuePosition { queue: Arc::clone(self), scope, turn })
    }

    /// Wakes the queues of this user and key: a call has returned its reservation.
    pub fn settled(&self, user: UserId, key: &KeyId) {
        let queues = self.queues.lock();
        if queues.is_empty() {
            return;
        }
        for scope in [Scope::User(user), Scope::Key(key.clone())] {
            if let Some(first) = queues.get(&scope).and_then(VecDeque::front) {
                first.notify_one();
            }
        }
    }

    /// Number of queued calls.
    #[must_use]
    pub fn count(&self) -> usize {
        self.queues.lock().values().map(VecDeque::len).sum()
    }
}

impl QueuePosition {
    /// The user or key whose limit the calls of this queue wait for.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Resolves when the call may try again.
    pub async fn turn(&self) {
        loop {
            if tokio::time::timeout(POLL_INTERVAL, self.turn.notified()).await.is_ok()
                || self.is_first()
            {
                return;
            }
        }
    }

    fn is_first(&self) -> bool {
        let queues = self.queue.queues.lock();
        let first = queues.get(&self.scope).and_then(VecDeque::front);
        first.is_some_and(|first| Arc::ptr_eq(first, &self.turn))
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        let mut queues = self.queue.queues.lock();
        let Some(queue) = queues.get_mut(&self.scope) else { return };
        queue.retain(|turn| !Arc::ptr_eq(turn, &self.turn));
        match queue.front() {
            Some(next) => next.notify_one(),
            None => drop(queues.remove(&self.scope)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const USER: UserId = UserId(uuid::Uuid::from_u128(1));

    fn key(name: &str) -> KeyId {
        KeyId::from(name)
    }

    fn may_try(position: &QueuePosition) -> bool {
        position.turn.notified().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_first_tries_when_a_call_is_settled_and_the_next_when_it_leaves() {
        let waiting = Arc::new(AdmissionQueue::default());
        assert_eq!(waiting.queue(USER, &key("k")), None);
        let first = waiting.join(Scope::User(USER)).unwrap();
        let second = waiting.join(Scope::User(USER)).unwrap();
        assert_eq!(waiting.queue(USER, &key("k")), Some(Scope::User(USER)));
        assert!(may_try(&first), "what it was refused for may have ended");
        assert!(!may_try(&first) && !may_try(&second));
        waiting.settled(USER, &key("k"));
        assert!(may_try(&first) && !may_try(&second));
        drop(first);
        assert!(may_try(&second));
        drop(second);
        assert_eq!((waiting.count(), waiting.queue(USER, &key("k"))), (0, None));
    }

    #[tokio::test]
    async fn who_leaves_from_the_middle_changes_nothing_for_others() {
        let waiting = Arc::new(AdmissionQueue::default());
        let [first, second, third] = [(); 3].map(|()| waiting.join(Scope::User(USER)).unwrap());
        assert!(may_try(&first));
        drop(second);
        let _ = may_try(&first);
        drop(first);
        assert!(may_try(&third));
    }

    #[tokio::test]
    async fn a_key_that_is_full_delays_no_other() {
        let waiting = Arc::new(AdmissionQueue::default());
        let of_key = waiting.join(Scope::Key(key("full"))).unwrap();
        assert!(may_try(&of_key));
        assert_eq!(waiting.queue(USER, &key("other")), None);
        assert_eq!(waiting.queue(USER, &key("full")), Some(Scope::Key(key("full"))));
        waiting.settled(USER, &key("other"));
        assert!(!may_try(&of_key));
        waiting.settled(USER, &key("full"));
        assert!(may_try(&of_key));
    }

    #[tokio::test]
    async fn a_line_is_bounded() {
        let waiting = Arc::new(AdmissionQueue::default());
        let places: Vec<_> =
            (0..MAX_LENGTH).map(|_| waiting.join(Scope::User(USER)).unwrap()).collect();
        assert!(waiting.join(Scope::User(USER)).is_none());
        drop(places);
        assert_eq!(waiting.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_also_tries_now_and_then_for_what_ends_elsewhere() {
        let waiting = Arc::new(AdmissionQueue::default());
        let (first, second) =
            (waiting.join(Scope::User(USER)).unwrap(), waiting.join(Scope::User(USER)).unwrap());
        first.turn().await;
        first.turn().await;
        let never = tokio::time::timeout(POLL_INTERVAL * 20, second.turn()).await;
        assert!(never.is_err());
    }
}
