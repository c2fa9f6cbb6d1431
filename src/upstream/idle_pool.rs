//! Idle connections of one upstream, most recently used first.
//!
//! A connection is checked when it is taken, and all of them every few seconds. A close that is still on its
//! way shows as an error before any reply, and the call gets a new connection.

use super::exchange::Connection;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most connections in the pool.
const MAX_IDLE: usize = 1024;
/// Connections that were idle for longer are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The connections, in the order in which they became idle.
#[derive(Default)]
pub(super) struct IdlePool {
    connections: Mutex<VecDeque<IdleConnection>>,
}

struct IdleConnection {
    connection: Connection,
    since: Instant,
}

impl IdlePool {
    /// Stores a connection for the next call.
    pub fn put(&self, connection: Connection, now: Instant) {
        let mut idle = self.connections.lock();
        while idle.len() >= MAX_IDLE || idle.front().is_some_and(|oldest| oldest.is_expired(now)) {
            idle.pop_front();
        }
        idle.push_back(IdleConnection { connection, since: now });
    }

    /// The most recently used connection to `address` that is not known to be closed.
    pub fn take(&self, address: SocketAddr, now: Instant) -> Option<Connection> {
        loop {
            let mut latest = {
                let mut idle = self.connections.lock();
                let at = idle.iter().rposition(|idle| idle.connection.address == address)?;
                idle.remove(at)?
            };
            if !latest.is_expired(now) && latest.connection.is_reusable() {
                return Some(latest.connection);
            }
        }
    }

    /// Closes expired connections and drops those that the upstream has closed.
    pub fn sweep(&self, now: Instant) {
        self.connections
            .lock()
            .retain_mut(|idle| !idle.is_expired(now) && idle.connection.is_reusable());
    }
}

impl IdleConnection {
    fn is_expired(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= IDLE_TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::protocols::l4::stream::Stream;
    use system::clock;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn expired_and_closed_connections_are_swept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (pool, now) = (IdlePool::default(), clock::instant());
        let mut accepted = Vec::new();
        for _ in 0..2 {
            let socket = TcpStream::connect(address).await.unwrap();
            let stream = Box::new(Stream::from(socket));
            pool.put(Connection::over(stream, address).await.unwrap(), now);
            accepted.push(listener.accept().await.unwrap());
        }
        pool.sweep(now);
        assert_eq!(pool.connections.lock().len(), 2);
        accepted.pop();
        let swept = async {
            while pool.connections.lock().len() > 1 {
                tokio::task::yield_now().await;
                pool.sweep(now);
            }
        };
        tokio::time::timeout(Duration::from_secs(20), swept).await.expect("it was closed");
        pool.sweep(now + IDLE_TIMEOUT);
        assert_eq!(pool.connections.lock().len(), 0);
    }
}
