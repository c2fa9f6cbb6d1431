//! Quota numbers of one process: a [`Book`] behind a lock, made durable through the journal.
//!
//! When the ledger cannot be written, new calls are refused (nothing is taken), while running
//! calls go on and are settled in memory at once and in the ledger as soon as it is back.

use super::book::Book;
use super::counters::{Claim, Counters, CountersError, Extended, Grant, Standing, Taken};
use super::rules::Scope;
use crate::account::charge::{Charge, Lease};
use crate::account::day::Day;
use crate::account::id::{KeyId, RequestId, UserId};
use crate::store::Used;
use crate::usage::journal::{Journal, OpenError};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a running call waits for a raised reservation to become durable. Past it the stream
/// goes on: only a process killed before the ledger is back would then charge too little.
const EXTEND_PATIENCE: Duration = Duration::from_millis(500);

/// In-process counters.
pub struct MemoryCounters {
    state: Mutex<State>,
    journal: Journal,
}

#[derive(Default)]
struct State {
    book: Book,
    /// Whose each key is, for reports by key.
    owners: HashMap<KeyId, UserId>,
}

impl MemoryCounters {
    /// Counters that start from what the ledger says was used.
    #[must_use]
    pub fn rebuilt(used: &[Used], journal: Journal) -> Self {
        let owners = used.iter().filter_map(|row| Some((row.key.clone()?, row.user))).collect();
        Self { state: Mutex::new(State { book: Book::rebuilt(used), owners }), journal }
    }

    /// The lock guards plain data that no panic can leave half changed on purpose; a poisoned
    /// lock must not turn one failed call into a dead gateway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in_memory(&self, claim: &Claim, now: Timestamp) -> Result<Grant, Taken> {
        let mut state = self.state();
        let grant = state.book.take(claim, now).map_err(Taken::Refused)?;
        let lease = &claim.lease;
        if !state.owners.contains_key(&lease.key) {
            state.owners.insert(lease.key.clone(), lease.user);
        }
        Ok(grant)
    }
}

#[async_trait]
impl Counters for MemoryCounters {
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<Taken, CountersError> {
        let grant = match self.take_in_memory(&claim, now) {
            Ok(grant) => grant,
            Err(refused) => return Ok(refused),
        };
        let request = claim.lease.request;
        let lease = Lease { reserved: grant.tokens, ..claim.lease };
        match self.journal.open(lease).await {
            Ok(()) => Ok(Taken::Granted(grant)),
            Err(e) => {
                self.state().book.undo(request);
                match e {
                    OpenError::Stale => Ok(Taken::Stale),
                    OpenError::Unavailable => Err(CountersError),
                }
            }
        }
    }

    async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<Extended, CountersError> {
        let (extended, total) = self.state().book.extend(request, want, least);
        if matches!(extended, Extended::Added(_)) {
            let durable = self.journal.extend(request, total);
            let _ = tokio::time::timeout(EXTEND_PATIENCE, durable).await;
        }
        Ok(extended)
    }

    async fn settle(&self, charge: Charge) -> u64 {
        let settled = self.state().book.settle(&charge);
        let Some(settled) = settled else { return 0 };
        self.journal.settle(charge).await;
        settled.overshoot
    }

    async fn standing(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<Standing, CountersError> {
        Ok(self.state().book.standing(user, key, day, now))
    }

    async fn used_on(&self, day: Day) -> Result<Vec<Used>, CountersError> {
        let state = self.state();
        let owner = |scope: &Scope| match scope {
            Scope::User(user) => Some(*user),
            Scope::Key(key) => state.owners.get(key).copied(),
        };
        Ok(state.book.used_on(day, owner))
    }

    async fn ping(&self) -> Result<(), CountersError> {
        if self.journal.is_away() { Err(CountersError) } else { Ok(()) }
    }

    fn open_leases(&self) -> u64 {
        self.state().book.open_leases()
    }
}
