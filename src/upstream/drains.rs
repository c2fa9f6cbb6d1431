//! Counts drained calls by user: calls whose reply is still read although the caller has disconnected.
//!
//! A drained call keeps its concurrency permit. One user's drained calls may hold a quarter of the permits:
//! otherwise a user could take all of them cheaply by starting calls and disconnecting.

use domain::id::UserId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// One user may drain calls on one permit in so many.
const SHARE: u32 = 4;

/// The drained calls of one upstream.
#[derive(Debug)]
pub struct Drains {
    /// Most drained calls of one user.
    most: u32,
    by_user: Mutex<HashMap<UserId, u32>>,
}

/// A call that is being drained; counted until this is dropped.
#[derive(Debug)]
pub struct DrainedCall {
    drains: Arc<Drains>,
    user: UserId,
}

impl Drains {
    /// For an upstream that allows this many calls in flight.
    #[must_use]
    pub fn new(permits: u32) -> Arc<Self> {
        Arc::new(Self { most: (permits / SHARE).max(1), by_user: Mutex::default() })
    }

    /// Counts a call of `user`; `None` when the user's share is in use.
    #[must_use]
    pub fn begin(self: &Arc<Self>, user: UserId) -> Option<DrainedCall> {
        let mut by_user = self.by_user.lock();
        let count = by_user.get(&user).copied().unwrap_or_default();
        if count >= self.most {
            return None;
        }
        by_user.insert(user, count + 1);
        Some(DrainedCall { drains: Arc::clone(self), user })
    }
}

impl Drop for DrainedCall {
    fn drop(&mut self) {
        let mut by_user = self.drains.by_user.lock();
        match by_user.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(by_user.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_may_have_a_quarter_of_the_places_and_at_least_one() {
        for (permits, most) in [(0, 1), (1, 1), (7, 1), (8, 2), (10_000, 2_500)] {
            let drains = Drains::new(permits);
            let (one, other) = (UserId::new(), UserId::new());
            let held: Vec<_> = (0..most).map(|_| drains.begin(one).unwrap()).collect();
            assert!(drains.begin(one).is_none(), "{permits}");
            assert!(drains.begin(other).is_some(), "{permits}");
            drop(held);
            assert!(drains.by_user.lock().is_empty() && drains.begin(one).is_some(), "{permits}");
        }
    }
}
