//! What this gateway knows by itself, should Redis forget: its running calls, and its charges that
//! are not yet in the ledger.

use super::keys::{PARTITIONS, Partition};
use crate::account::charge::{Charge, Lease};
use crate::account::id::RequestId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Charges kept for one partition. They are in Redis too: only when Redis loses its data while
/// Postgres is away for longer than this lasts, charges are lost.
const KEPT: usize = 4096;

/// Calls and charges of this gateway.
#[derive(Default)]
pub(super) struct Calls {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<RequestId, Call>,
    /// Takes whose answer never came: refused, and perhaps carried out all the same.
    doubted: HashMap<RequestId, Lease>,
    parts: HashMap<u8, Part>,
}

/// What is known of one partition.
#[derive(Default)]
struct Part {
    /// The highest number of a settlement that Redis has told.
    last: u64,
    /// The epoch in which it was told.
    epoch: Option<Uuid>,
    /// Settled, and not yet known to be in the ledger; with the number told then.
    sent: VecDeque<(u64, Charge)>,
}

/// A running call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) lease: Lease,
    /// As the scripts read them.
    pub(super) debits: String,
}

impl Calls {
    pub(super) fn open(&self, call: Call) {
        self.state().open.insert(call.lease.request, call);
    }

    pub(super) fn call(&self, request: RequestId) -> Option<Call> {
        self.state().open.get(&request).cloned()
    }

    /// Notes that a running call holds more.
    pub(super) fn raise(&self, request: RequestId, tokens: u64) {
        if let Some(call) = self.state().open.get_mut(&request) {
            call.lease.reserved += tokens;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.state().open.len() as u64
    }

    /// The running calls of a partition.
    pub(super) fn of(&self, partition: Partition) -> Vec<Call> {
        let state = self.state();
        let mine = |call: &&Call| Partition::of(call.lease.user) == partition;
        state.open.values().filter(mine).cloned().collect()
    }

    /// A settlement was answered: `number` were settled then.
    pub(super) fn settled(&self, charge: Charge, number: u64) {
        let mut state = self.state();
        state.open.remove(&charge.request);
        let part = state.part(Partition::of(charge.user));
        part.last = part.last.max(number);
        part.sent.push_back((number, charge));
        if part.sent.len() > KEPT {
            part.sent.pop_front();
        }
    }

    /// The highest number told for each partition.
    pub(super) fn last(&self) -> Vec<u64> {
        let state = self.state();
        (0..PARTITIONS).map(|p| state.parts.get(&p).map_or(0, |part| part.last)).collect()
    }

    /// Whether numbers told before still count; from now on it is this epoch.
    pub(super) fn is_same_epoch(&self, partition: Partition, epoch: Option<Uuid>) -> bool {
        let mut state = self.state();
        let part = state.part(partition);
        let before = std::mem::replace(&mut part.epoch, epoch);
        before.is_none_or(|before| Some(before) == epoch)
    }

    /// Forgets the charges that are in the ledger.
    pub(super) fn written(&self, partition: Partition, written: u64) {
        self.state().part(partition).forget(written);
    }

    /// Takes all charges that may not be in the ledger: Redis has forgotten some of them.
    pub(super) fn take_sent(&self, partition: Partition) -> Vec<Charge> {
        let mut state = self.state();
        let part = state.part(partition);
        part.last = 0;
        part.sent.drain(..).map(|(_, charge)| charge).collect()
    }

    /// Puts charges back that could not be brought to where they belong.
    pub(super) fn put_back(&self, partition: Partition, charges: Vec<Charge>) {
        let mut state = self.state();
        let part = state.part(partition);
        for charge in charges.into_iter().rev() {
            // No number of a server that was reset means anything: no look forgets these.
            part.sent.push_front((u64::MAX, charge));
        }
    }

    pub(super) fn doubt(&self, lease: Lease) {
        let mut state = self.state();
        // Beyond this the reaper finds them.
        if state.doubted.len() < KEPT {
            state.doubted.insert(lease.request, lease);
        }
    }

    pub(super) fn doubted(&self) -> Vec<Lease> {
        self.state().doubted.values().cloned().collect()
    }

    /// A take was undone.
    pub(super) fn withdrawn(&self, request: RequestId) {
        let mut state = self.state();
        state.doubted.remove(&request);
        state.open.remove(&request);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn part(&mut self, partition: Partition) -> &mut Part {
        self.parts.entry(partition.0).or_default()
    }
}

impl Part {
    fn forget(&mut self, written: u64) {
        while self.sent.front().is_some_and(|(number, _)| *number <= written) {
            self.sent.pop_front();
        }
    }
}
