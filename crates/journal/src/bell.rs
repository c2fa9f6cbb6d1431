//! Wakes and stops the thread that writes the log.

use super::log::lock;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes the thread.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<Ring>,
    rung: Condvar,
}

#[derive(Default)]
pub(super) struct Ring {
    pub(super) is_rung: bool,
    pub(super) is_closed: bool,
}

impl Bell {
    pub(super) fn ring(&self, change: impl FnOnce(&mut Ring)) {
        change(&mut lock(&self.state));
        self.rung.notify_one();
    }

    /// Waits until it rings; true when it is closed.
    pub(super) fn wait(&self) -> bool {
        let mut ring = lock(&self.state);
        while !ring.is_rung && !ring.is_closed {
            ring = self.rung.wait(ring).unwrap_or_else(PoisonError::into_inner);
        }
        ring.is_rung = false;
        ring.is_closed
    }

    /// Lets `pause` pass, or less when it is closed; true then.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let ring = lock(&self.state);
        let waited = self.rung.wait_timeout_while(ring, pause, |ring| !ring.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }
}
