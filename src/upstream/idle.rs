//! Idle connections of one upstream, the latest used first.
//!
//! pingora's own pool watches each idle connection in a task, and a connection whose task is just
//! being stopped is thrown away, so that calls one after another often connect anew. Here a
//! connection is looked at when it is taken. An end that is still on its way then shows as an
//! error before any reply, and the call gets a new connection.

use futures_util::FutureExt;
use pingora_core::protocols::Stream;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// Idle connections kept.
const MOST: usize = 1024;
/// How long one is kept.
const LONGEST: Duration = Duration::from_secs(60);

/// The connections, in the order in which they were put.
#[derive(Default)]
pub struct Idle {
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    stream: Stream,
    to: SocketAddr,
    since: Instant,
}

impl Idle {
    /// Keeps a connection for the next call.
    pub fn put(&self, stream: Stream, to: SocketAddr, now: Instant) {
        let mut kept = self.kept();
        while kept.len() >= MOST || kept.front().is_some_and(|oldest| oldest.is_old(now)) {
            kept.pop_front();
        }
        kept.push_back(Kept { stream, to, since: now });
    }

    /// A connection to `to` that is open as far as is known.
    pub fn take(&self, to: SocketAddr, now: Instant) -> Option<Stream> {
        loop {
            let mut latest = {
                let mut kept = self.kept();
                let at = kept.iter().rposition(|kept| kept.to == to)?;
                kept.remove(at)?
            };
            if !latest.is_old(now) && is_quiet(&mut latest.stream) {
                return Some(latest.stream);
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

/// Nothing can be read: neither the connection's end, nor a reply that nobody asked for.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    tokio::task::unconstrained(stream.read(&mut byte)).now_or_never().is_none()
}
