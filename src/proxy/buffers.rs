//! Memory for bodies that have to be held whole, bounded over all calls.

use super::refusal::Refusal;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted at once.
const UNIT: usize = 1024;

/// The memory that bodies may take together.
#[derive(Debug, Clone)]
pub struct Buffers {
    free: Arc<Semaphore>,
}

/// The share of one call; given back when dropped.
#[derive(Debug)]
pub struct Held {
    free: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Buffers {
    /// Room for `bytes` in all.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units)) }
    }

    /// A share of nothing yet.
    #[must_use]
    pub fn hold(&self) -> Held {
        Held { free: Arc::clone(&self.free), permit: None }
    }
}

impl Held {
    /// Makes the share `bytes` larger.
    ///
    /// # Errors
    /// There is no room: waiting for it would hold what others wait for.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.free).try_acquire_many_owned(units);
        let more = more.map_err(|_| Refusal::NoRoom)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_end_at_the_whole_and_come_back() {
        let buffers = Buffers::new(10 * UNIT);
        let (mut first, mut second) = (buffers.hold(), buffers.hold());
        first.grow(6 * UNIT).unwrap();
        second.grow(3 * UNIT + 1).unwrap();
        assert!(matches!(second.grow(1), Err(Refusal::NoRoom)));
        drop(first);
        second.grow(6 * UNIT).unwrap();
        assert!(matches!(second.grow(1), Err(Refusal::NoRoom)));
    }
}
