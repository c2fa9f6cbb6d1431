//! Wakes and stops the thread that writes the log.

use parking_lot::{Condvar, Mutex};
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
        change(&mut self.state.lock());
        self.rung.notify_one();
    }

    /// Waits until it rings; true when it is closed.
    pub(super) fn wait(&self) -> bool {
        let mut ring = self.state.lock();
        while !ring.is_rung && !ring.is_closed {
            self.rung.wait(&mut ring);
        }
        ring.is_rung = false;
        ring.is_closed
    }

    /// Lets `pause` pass, or less when it is closed; true then.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let mut ring = self.state.lock();
        self.rung.wait_while_for(&mut ring, |ring| !ring.is_closed, pause);
        ring.is_closed
    }
}
