//! Limits the memory for buffered bodies in total, per user and per address, with a reserve for small bodies.

use crate::gateway::response::refusal::Refusal;
use crate::http::client_ip;
use domain::id::{IdMap, UserId};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;

/// Bytes up to which a body is small: the largest form of the control plane, and what it is read through.
const SMALL: usize = 128 * 1024;
/// One part in this many is reserved for small bodies.
const RESERVE: usize = 8;
/// One part in this many is the share of one user's large bodies.
const USER_SHARE: usize = 4;
/// One part in this many is the share of the large bodies of one address, behind which there may be many users.
const ADDRESS_SHARE: usize = 2;
/// One part in this many is the share of the small bodies of one user or address.
const SMALL_SHARE: usize = 8;

/// Limits the memory of buffered bodies.
#[derive(Debug, Clone)]
pub struct BodyMemory(Arc<Pool>);

/// The share of one call; given back when dropped.
#[derive(Debug)]
pub struct BodyPermit {
    pool: Arc<Pool>,
    owners: [Option<Owner>; 2],
    bytes: usize,
}

#[derive(Debug)]
struct Pool {
    bytes: usize,
    taken: Mutex<Taken>,
}

/// Bytes in use, in total and by owner.
#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    large: usize,
    /// An owner is present only while it has bodies in memory.
    owners: IdMap<(Owner, Size), usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    User(UserId),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Size {
    Small,
    Large,
}

impl BodyMemory {
    /// Room for `bytes` in all.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Pool { bytes, taken: Mutex::default() }))
    }

    /// A permit that has no memory yet, for a call from `address`, of `user` if that is known.
    #[must_use]
    pub fn empty_permit(&self, user: Option<UserId>, address: IpAddr) -> BodyPermit {
        let address = Owner::Address(client_ip::host(address));
        let owners = [user.map(Owner::User), Some(address)];
        BodyPermit { pool: Arc::clone(&self.0), owners, bytes: 0 }
    }
}

impl BodyPermit {
    /// Makes the share `bytes` larger.
    ///
    /// # Errors
    /// There is no room in all, or none for this user or address: waiting for it would occupy what others wait for.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.resize(self.bytes.saturating_add(bytes))
    }

    /// Makes the share at least `bytes` large.
    ///
    /// # Errors
    /// As [`BodyPermit::grow`].
    pub fn reach(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= self.bytes { Ok(()) } else { self.resize(bytes) }
    }

    /// Gives back all but `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        if bytes < self.bytes {
            let mut taken = self.pool.taken.lock();
            taken.remove(&self.owners, self.bytes);
            taken.add(&self.owners, bytes);
            drop(taken);
            self.bytes = bytes;
        }
    }

    fn resize(&mut self, bytes: usize) -> Result<(), Refusal> {
        let mut taken = self.pool.taken.lock();
        taken.remove(&self.owners, self.bytes);
        let fits = taken.fits(&self.owners, bytes, self.pool.bytes);
        if fits.is_ok() {
            self.bytes = bytes;
        }
        taken.add(&self.owners, self.bytes);
        fits
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.pool.taken.lock().remove(&self.owners, self.bytes);
        }
    }
}

impl Taken {
    /// True if one more body of `bytes` fits.
    fn fits(&self, owners: &[Option<Owner>], bytes: usize, all: usize) -> Result<(), Refusal> {
        let size = Size::of(bytes);
        let is_room = self.bytes.saturating_add(bytes) <= all
            && (size == Size::Small || self.large.saturating_add(bytes) <= all - all / RESERVE);
        if !is_room {
            return Err(Refusal::NoRoom);
        }
        for owner in owners.iter().flatten() {
            let others = self.owners.get(&(*owner, size)).copied().unwrap_or(0);
            let share = owner.share(size, all);
            // A body alone is bounded by its own limit.
            if others > 0 && others.saturating_add(bytes) > share {
                return Err(Refusal::NoShare { is_user: owner.is_user(), share });
            }
        }
        Ok(())
    }

    fn add(&mut self, owners: &[Option<Owner>], bytes: usize) {
        if bytes == 0 {
            return;
        }
        let size = Size::of(bytes);
        self.bytes += bytes;
        self.large += if size == Size::Large { bytes } else { 0 };
        for owner in owners.iter().flatten() {
            *self.owners.entry((*owner, size)).or_default() += bytes;
        }
    }

    fn remove(&mut self, owners: &[Option<Owner>], bytes: usize) {
        if bytes == 0 {
            return;
        }
        let size = Size::of(bytes);
        self.bytes -= bytes;
        self.large -= if size == Size::Large { bytes } else { 0 };
        for owner in owners.iter().flatten() {
            let name = (*owner, size);
            if let Some(used) = self.owners.get_mut(&name) {
                *used -= bytes;
                if *used == 0 {
                    self.owners.remove(&name);
                }
            }
        }
    }
}

impl Owner {
    fn is_user(self) -> bool {
        matches!(self, Self::User(_))
    }

    fn share(self, size: Size, all: usize) -> usize {
        match (size, self) {
            (Size::Small, _) => all / SMALL_SHARE,
            (Size::Large, Self::User(_)) => all / USER_SHARE,
            (Size::Large, Self::Address(_)) => all / ADDRESS_SHARE,
        }
    }
}

impl Size {
    fn of(bytes: usize) -> Self {
        if bytes > SMALL { Self::Large } else { Self::Small }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = 64 * SMALL;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn permit(
        body_memory: &BodyMemory,
        user: Option<UserId>,
        last: u8,
        bytes: usize,
    ) -> Option<BodyPermit> {
        let mut permit = body_memory.empty_permit(user, address(last));
        permit.grow(bytes).is_ok().then_some(permit)
    }

    /// Bytes taken in all, and by large bodies.
    fn taken(body_memory: &BodyMemory) -> (usize, usize) {
        let taken = body_memory.0.taken.lock();
        (taken.bytes, taken.large)
    }

    #[test]
    fn shares_end_at_the_whole_and_come_back() {
        let body_memory = BodyMemory::new(ALL);
        let large = |last| permit(&body_memory, None, last, ALL / 2);
        let first = large(1).unwrap();
        assert!(large(2).is_none(), "an eighth is kept for small bodies");
        let second = permit(&body_memory, None, 2, ALL * 3 / 8).unwrap();
        assert!(permit(&body_memory, None, 3, SMALL + 1).is_none());
        assert!(permit(&body_memory, None, 3, SMALL).is_some());
        drop(first);
        assert!(large(3).is_some());
        drop(second);
        assert!(body_memory.0.taken.lock().owners.is_empty());
        assert_eq!(taken(&body_memory), (0, 0));
    }

    #[test]
    fn a_user_and_an_address_have_a_share() {
        let (body_memory, user) = (BodyMemory::new(ALL), Some(UserId::new()));
        let part = ALL / 16;
        let mine: Vec<_> =
            (1..=4).map(|last| permit(&body_memory, user, last, part).unwrap()).collect();
        assert!(permit(&body_memory, user, 5, part).is_none(), "a quarter, from wherever");
        assert!(
            permit(&body_memory, user, 5, SMALL).is_some(),
            "small ones have a share of their own"
        );
        let others: Vec<_> =
            (0..7).map(|_| permit(&body_memory, Some(UserId::new()), 1, part).unwrap()).collect();
        assert!(
            permit(&body_memory, Some(UserId::new()), 1, part).is_none(),
            "half from one address"
        );
        assert!(permit(&body_memory, Some(UserId::new()), 6, part).is_some());
        drop((mine, others));
        let small: Vec<_> = (0..8).map(|_| permit(&body_memory, None, 1, SMALL).unwrap()).collect();
        assert!(permit(&body_memory, None, 1, SMALL).is_none(), "an eighth for small ones");
        assert!(permit(&body_memory, None, 2, SMALL).is_some());
        drop(small);
    }

    #[test]
    fn a_body_alone_may_pass_its_share_and_grows_from_small_to_large() {
        let body_memory = BodyMemory::new(ALL);
        let mut alone = body_memory.empty_permit(Some(UserId::new()), address(1));
        for _ in 0..48 {
            alone.grow(SMALL).unwrap();
        }
        assert!(matches!(alone.grow(ALL), Err(Refusal::NoRoom)));
        assert_eq!(
            taken(&body_memory),
            (48 * SMALL, 48 * SMALL),
            "what was refused changes nothing"
        );
        alone.keep(SMALL);
        assert_eq!(taken(&body_memory), (SMALL, 0));
    }
}
