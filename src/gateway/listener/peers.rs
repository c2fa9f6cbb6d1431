//! Limits the connections per client address, so that one client cannot use them all.

use crate::http::client_ip;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Open connections by address; an IPv6 address counts with its /64. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct Peers {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Where connections are counted: in all, and for their address. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct Places {
    all: Arc<Semaphore>,
    peers: Peers,
}

/// One place, free again when dropped.
#[derive(Debug)]
pub struct Place {
    _all: OwnedSemaphorePermit,
    _peer: Option<Peer>,
}

impl Places {
    /// At most `all` connections, and of one address as many as `peers` says.
    #[must_use]
    pub fn new(all: usize, peers: Peers) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), peers }
    }

    /// A place for a connection, counted for `address` where there is one; `None` when there is no more.
    #[must_use]
    pub fn take(&self, address: Option<IpAddr>) -> Option<Place> {
        let peer = match address {
            Some(address) => Some(self.peers.connect(address)?),
            None => None,
        };
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _all: all, _peer: peer })
    }
}

/// One connection of an address; it is over when this is dropped.
#[derive(Debug)]
pub struct Peer {
    host: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Peers {
    /// At most `most` connections for each address.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// The bound for one address.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// Counts a connection of `address`; `None` when it has as many as it may.
    #[must_use]
    pub fn connect(&self, address: IpAddr) -> Option<Peer> {
        let host = client_ip::host(address);
        let mut open = lock(&self.open);
        let count = open.entry(host).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Peer { host, open: Arc::clone(&self.open) })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.host);
            }
        }
    }
}

fn lock(open: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_bounded_and_nothing_is_kept_of_those_that_left() {
        let peers = Peers::new(2);
        let [one, same_64, other] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| text.parse().unwrap());
        let first = peers.connect(one);
        let second = peers.connect(same_64);
        assert!(first.is_some() && second.is_some());
        assert!(peers.connect(one).is_none());
        assert!(peers.connect(other).is_some(), "others have their own");
        drop(first);
        let third = peers.connect(one);
        assert!(third.is_some());
        drop((second, third));
        assert!(lock(&peers.open).is_empty());
    }
}
