//! Idle connections of one upstream, the latest used first.
//!
//! A connection is checked when it is taken, and all of them every few seconds. An end that is still on its
//! way then shows as an error before any reply, and the call gets a new connection.

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

    /// Closes connections that are old, and those that the upstream has closed.
    pub fn sweep(&self, now: Instant) {
        self.kept().retain_mut(|kept| !kept.is_old(now) && kept.wire.is_quiet());
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

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::protocols::l4::stream::Stream;
    use system::clock;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn old_connections_and_those_that_were_closed_are_swept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (idle, now) = (Idle::default(), clock::instant());
        let mut accepted = Vec::new();
        for _ in 0..2 {
            let socket = TcpStream::connect(address).await.unwrap();
            let wire = Wire::over(Box::new(Stream::from(socket)), address).await.unwrap();
            idle.put(wire, now);
            accepted.push(listener.accept().await.unwrap());
        }
        idle.sweep(now);
        assert_eq!(idle.kept().len(), 2);
        accepted.pop();
        let swept = async {
            while idle.kept().len() > 1 {
                tokio::task::yield_now().await;
                idle.sweep(now);
            }
        };
        tokio::time::timeout(Duration::from_secs(20), swept).await.expect("it was closed");
        idle.sweep(now + LONGEST);
        assert_eq!(idle.kept().len(), 0);
    }
}
