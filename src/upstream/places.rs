//! The calls that an upstream may have in flight, and a queue before them that is fair to users: who
//! asks much waits behind who asks little.

use domain::id::UserId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The places of one upstream.
#[derive(Debug)]
pub struct Places {
    state: Mutex<State>,
    /// Calls that may wait for one.
    queue_length: usize,
}

#[derive(Debug)]
struct State {
    free: u32,
    taken: u32,
    queued: usize,
    /// Queued calls, round-robin by user: each user's first call before any user's second.
    waiting: VecDeque<(UserId, VecDeque<oneshot::Sender<Place>>)>,
}

/// A call in flight; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Place(Option<Arc<Places>>);

/// A call that waits.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Place>);

impl Places {
    /// So many calls in flight, and so many that wait.
    #[must_use]
    pub fn new(places: u32, queue_length: usize) -> Arc<Self> {
        let state = State { free: places, taken: 0, queued: 0, waiting: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state), queue_length })
    }

    /// A place, if one is free now and no call is queued for it.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state();
        if state.queued > 0 {
            return None;
        }
        state.free = state.free.checked_sub(1)?;
        state.taken += 1;
        Some(Place(Some(Arc::clone(self))))
    }

    /// A place in the queue; `None` when it is full.
    #[must_use]
    pub fn queue(self: &Arc<Self>, user: UserId) -> Option<Ticket> {
        let mut state = self.state();
        state.forget_the_gone();
        if state.queued >= self.queue_length {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.queued += 1;
        match state.waiting.iter_mut().find(|(waits, _)| *waits == user) {
            Some((_, calls)) => calls.push_back(sender),
            None => state.waiting.push_back((user, VecDeque::from([sender]))),
        }
        state.hand_out(self);
        Some(Ticket(receiver))
    }

    /// Calls in flight, and calls that wait.
    #[must_use]
    pub fn count(&self) -> (u32, usize) {
        let mut state = self.state();
        state.forget_the_gone();
        (state.taken, state.queued)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Resolves when it is this call's turn. Dropped, it gives up its turn.
    pub async fn place(self) -> Option<Place> {
        self.0.await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.0.take() {
            let mut state = places.state();
            state.taken -= 1;
            state.free += 1;
            state.hand_out(&places);
        }
    }
}

impl State {
    /// Gives free places to those whose turn it is.
    fn hand_out(&mut self, places: &Arc<Places>) {
        while self.free > 0
            && let Some((user, mut calls)) = self.waiting.pop_front()
        {
            let Some(call) = calls.pop_front() else { continue };
            self.queued -= 1;
            if !calls.is_empty() {
                self.waiting.push_back((user, calls));
            }
            match call.send(Place(Some(Arc::clone(places)))) {
                Ok(()) => {
                    self.free -= 1;
                    self.taken += 1;
                }
                // It waits no more. Its place was never taken, so there is none to give back.
                Err(mut place) => drop(place.0.take()),
            }
        }
    }

    fn forget_the_gone(&mut self) {
        for (_, calls) in &mut self.waiting {
            calls.retain(|call| !call.is_closed());
        }
        self.waiting.retain(|(_, calls)| !calls.is_empty());
        self.queued = self.waiting.iter().map(|(_, calls)| calls.len()).sum();
    }
}

#[cfg(test)]
#[path = "tests/places.rs"]
mod tests;
