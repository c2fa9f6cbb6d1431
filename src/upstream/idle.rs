//! Idle connections of one upstream, the latest used first.
//!
//! Nothing watches them: a connection is looked at when it is taken. An end that is still on its way then
//! shows as an error before any reply, and the call gets a new connection.

use super::exchange::Wire;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Idle connections kept.
const MOST: usize = 1024;
/// How long one is kept.
const LONGEST: Duration = Duration::from_secs(60);

/// The connections, in the order in which they were put.
#[derive(Default)]
pub(super) struct Idle {
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    wire: Wire,
    since: Instant,
}

impl Idle {
    /// Keeps a connection for the next call.
    pub fn put(&self, wire: Wire, now: Instant) {
        let mut kept = self.kept();
        while kept.len() >= MOST || kept.front().is_some_and(|oldest| oldest.is_old(now)) {
            kept.pop_front();
        }
        kept.push_back(Kept { wire, since: now });
    }

    /// A connection to `to` that is open as far as is known.
    pub fn take(&self, to: SocketAddr, now: Instant) -> Option<Wire> {
        loop {
            let mut latest = {
                let mut kept = self.kept();
                let at = kept.iter().rposition(|kept| kept.wire.address == to)?;
                kept.remove(at)?
            };
            if !latest.is_old(now) && latest.wire.is_quiet() {
                return Some(latest.wire);
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= LONGEST
    }
}
