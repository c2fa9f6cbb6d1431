//! Wakes and stops the thread that writes the log.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

/// Signals the writer thread to write, or to stop.
#[derive(Default)]
pub(super) struct Wakeup {
    state: Mutex<Signals>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct Signals {
    pub(super) is_requested: bool,
    pub(super) is_closed: bool,
}

impl Wakeup {
    /// Changes the signals, and wakes the thread.
    pub(super) fn send(&self, change: impl FnOnce(&mut Signals)) {
        change(&mut self.state.lock());
        self.changed.notify_one();
    }

    /// Waits until a write is requested or the log is closed. Returns true if it is closed.
    pub(super) fn wait(&self) -> bool {
        let mut signals = self.state.lock();
        while !signals.is_requested && !signals.is_closed {
            self.changed.wait(&mut signals);
        }
        signals.is_requested = false;
        signals.is_closed
    }

    /// Waits for `pause`, or until the log is closed. Returns true if it is closed.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let mut signals = self.state.lock();
        self.changed.wait_while_for(&mut signals, |signals| !signals.is_closed, pause);
        signals.is_closed
    }
}
