//! Concurrency limit of one upstream, with a bounded queue that is fair to users: the next permit goes to
//! the user whose turn it is, so that no user can take the queue from the others.

use domain::id::UserId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Hands out permits, round-robin by user while calls are queued.
#[derive(Debug)]
pub struct FairLimiter {
    state: Mutex<State>,
    /// Most calls that may be queued.
    queue_length: usize,
}

#[derive(Debug)]
struct State {
    free: u32,
    taken: u32,
    queued: usize,
    /// Queued calls, round-robin by user: each user's first call before any user's second.
    queue: VecDeque<(UserId, VecDeque<oneshot::Sender<Permit>>)>,
}

/// Permission for one call in flight; dropping it passes the permission on.
#[derive(Debug)]
pub struct Permit(Option<Arc<FairLimiter>>);

/// A queued call. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Queued(oneshot::Receiver<Permit>);

impl FairLimiter {
    /// A limiter of `permits` calls in flight and `queue_length` queued ones.
    #[must_use]
    pub fn new(permits: u32, queue_length: usize) -> Arc<Self> {
        let state = State { free: permits, taken: 0, queued: 0, queue: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state), queue_length })
    }

    /// True if [`FairLimiter::try_acquire`] would return a permit now.
    #[must_use]
    pub fn has_free(&self) -> bool {
        let state = self.state.lock();
        state.queued == 0 && state.free > 0
    }

    /// A permit, if one is free now and no call is queued for it.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state.lock();
        if state.queued > 0 {
            return None;
        }
        state.free = state.free.checked_sub(1)?;
        state.taken += 1;
        Some(Permit(Some(Arc::clone(self))))
    }

    /// Queues a call of `user`; `None` when the queue is full.
    #[must_use]
    pub fn enqueue(self: &Arc<Self>, user: UserId) -> Option<Queued> {
        let mut state = self.state.lock();
        state.drop_cancelled();
        if state.queued >= self.queue_length {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.queued += 1;
        match state.queue.iter_mut().find(|(queued, _)| *queued == user) {
            Some((_, calls)) => calls.push_back(sender),
            None => state.queue.push_back((user, VecDeque::from([sender]))),
        }
        state.hand_out(self);
        Some(Queued(receiver))
    }

    /// Number of calls in flight and of queued calls.
    #[must_use]
    pub fn count(&self) -> (u32, usize) {
        let mut state = self.state.lock();
        state.drop_cancelled();
        (state.taken, state.queued)
    }
}

impl Queued {
    /// Resolves when it is this call's turn.
    pub async fn permit(self) -> Option<Permit> {
        self.0.await.ok()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limiter) = self.0.take() {
            let mut state = limiter.state.lock();
            state.taken -= 1;
            state.free += 1;
            state.hand_out(&limiter);
        }
    }
}

impl State {
    /// Gives free permits to the calls whose turn it is.
    fn hand_out(&mut self, limiter: &Arc<FairLimiter>) {
        while self.free > 0
            && let Some((user, mut calls)) = self.queue.pop_front()
        {
            let Some(call) = calls.pop_front() else { continue };
            self.queued -= 1;
            if !calls.is_empty() {
                self.queue.push_back((user, calls));
            }
            match call.send(Permit(Some(Arc::clone(limiter)))) {
                Ok(()) => {
                    self.free -= 1;
                    self.taken += 1;
                }
                // The call has left the queue. Its permit was never counted as taken.
                Err(mut permit) => drop(permit.0.take()),
            }
        }
    }

    fn drop_cancelled(&mut self) {
        for (_, calls) in &mut self.queue {
            calls.retain(|call| !call.is_closed());
        }
        self.queue.retain(|(_, calls)| !calls.is_empty());
        self.queued = self.queue.iter().map(|(_, calls)| calls.len()).sum();
    }
}

#[cfg(test)]
mod tests;
