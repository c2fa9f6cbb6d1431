//! Limits the connections per client address, so that one client cannot use them all.

use crate::http::client_ip;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Open connections by address; an IPv6 address counts with its /64. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct AddressLimit {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Permits for connections, limited in total and by address. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct ConnectionPermits {
    all: Arc<Semaphore>,
    address_limit: AddressLimit,
}

/// One place, free again when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    _all: OwnedSemaphorePermit,
    _address_permit: Option<AddressPermit>,
}

impl ConnectionPermits {
    /// At most `all` connections, and of one address as many as `address_limit` says.
    #[must_use]
    pub fn new(all: usize, address_limit: AddressLimit) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), address_limit }
    }

    /// A place for a connection, counted for `address` where there is one; `None` when there is no more.
    #[must_use]
    pub fn take(&self, address: Option<IpAddr>) -> Option<ConnectionPermit> {
        let peer = match address {
            Some(address) => Some(self.address_limit.connect(address)?),
            None => None,
        };
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(ConnectionPermit { _all: all, _address_permit: peer })
    }
}

/// One connection of an address; it is over when this is dropped.
#[derive(Debug)]
pub struct AddressPermit {
    host: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl AddressLimit {
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
    pub fn connect(&self, address: IpAddr) -> Option<AddressPermit> {
        let host = client_ip::host(address);
        let mut open = lock(&self.open);
        let count = open.entry(host).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(AddressPermit { host, open: Arc::clone(&self.open) })
    }
}

impl Drop for AddressPermit {
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
    open.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_bounded_and_nothing_is_kept_of_those_that_left() {
        let address_limit = AddressLimit::new(2);
        let [one, same_64, other] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|text| text.parse().unwrap());
        let first = address_limit.connect(one);
        let second = address_limit.connect(same_64);
        assert!(first.is_some() && second.is_some());
        assert!(address_limit.connect(one).is_none());
        assert!(address_limit.connect(other).is_some(), "others have their own");
        drop(first);
        let third = address_limit.connect(one);
        assert!(third.is_some());
        drop((second, third));
        assert!(lock(&address_limit.open).is_empty());
    }
}
