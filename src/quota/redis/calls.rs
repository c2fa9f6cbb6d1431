//! What this gateway knows by itself, should Redis forget: its running calls, and its charges that
//! are not yet in the ledger.

use super::keys::{PARTITIONS, Partition};
use super::wire::Told;
use crate::account::charge::{Charge, Lease};
use crate::account::id::RequestId;
use crate::clock;
use crate::quota::counters::SoFar;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Charges kept for one partition. They are in Redis too: only when Redis loses its data while
/// Postgres is away for longer than this lasts, charges are lost.
const KEPT: usize = 4096;

/// A charge is remembered for this long though it is in the ledger: a Redis that loses its latest
/// seconds has it in no counter any more.
const MEMORY: Duration = Duration::from_secs(5);

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
    /// Leases of others whose charge cannot be read here.
    unreadable: HashSet<RequestId>,
    parts: HashMap<Partition, Part>,
}

/// What is known of one partition.
#[derive(Default)]
struct Part {
    /// What the latest look found.
    look: Option<Told>,
    /// The latest reported number of settlements.
    last: Option<Told>,
    /// Redis may have lost leases of ours.
    leases_in_doubt: bool,
    /// It may have lost charges: some of `sent` are to be sent again.
    charges_in_doubt: bool,
    /// Settled lately, or not yet known to be in the ledger: the oldest first, the first of them having
    /// this place.
    sent: VecDeque<Sent>,
    first: u64,
}

/// A charge, and what Redis reported when it took it; `None` = it may have been lost.
struct Sent {
    charge: Charge,
    told: Option<Told>,
    since: Instant,
}

/// A running call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) lease: Lease,
    /// As the scripts read them.
    pub(super) debits: String,
    pub(super) so_far: SoFar,
}

/// A call whose lease is to be renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    pub(super) request: RequestId,
    /// Tokens.
    pub(super) so_far: u64,
}

/// A charge that Redis may have lost.
pub(super) struct Doubtful {
    pub(super) charge: Charge,
    partition: Partition,
    place: u64,
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

    /// The running calls by partition.
    pub(super) fn running(&self) -> HashMap<Partition, Vec<Renewal>> {
        let mut running: HashMap<Partition, Vec<Renewal>> = HashMap::new();
        for Call { lease, so_far, .. } in self.state().open.values() {
            let renewal = Renewal { request: lease.request, so_far: so_far.get() };
            running.entry(Partition::of(lease.user)).or_default().push(renewal);
        }
        running
    }

    /// Redis has taken the charge of a call, which is over by that.
    pub(super) fn settled(&self, charge: Charge, told: Option<Told>) {
        self.state().open.remove(&charge.request);
        self.remember(charge, told);
    }

    /// Keeps a charge until it is in the ledger, and safe in Redis.
    pub(super) fn remember(&self, charge: Charge, told: Option<Told>) {
        let mut state = self.state();
        let part = state.part(Partition::of(charge.user));
        part.hear(told);
        let sent = Sent { charge, told, since: clock::instant() };
        part.charges_in_doubt |= sent.is_doubtful(part.look);
        part.sent.push_back(sent);
        if part.sent.len() > KEPT {
            part.forget_first();
        }
    }

    /// The latest report of each partition.
    pub(super) fn last(&self) -> Vec<Option<Told>> {
        let state = self.state();
        let last = |p| state.parts.get(&Partition(p)).and_then(|part| part.last);
        (0..PARTITIONS).map(last).collect()
    }

    /// Notes what a look found. Returns whether the epoch is another than at the look before.
    pub(super) fn is_new_epoch(&self, partition: Partition, look: Told) -> bool {
        let mut state = self.state();
        let part = state.part(partition);
        let before = part.look.replace(look);
        part.charges_in_doubt |= before.is_none_or(|before| before.epoch != look.epoch);
        before.is_some_and(|before| before.epoch != look.epoch)
    }

    /// Forgets the charges that are in the ledger: those of this epoch with a number up to `written`.
    pub(super) fn written(&self, partition: Partition, epoch: Uuid, written: u64) {
        let mut state = self.state();
        let part = state.part(partition);
        let is_written = |told: Told| told.epoch == Some(epoch) && told.number <= written;
        let is_past =
            |sent: &Sent| sent.told.is_some_and(is_written) && sent.since.elapsed() >= MEMORY;
        while part.sent.front().is_some_and(is_past) {
            part.forget_first();
        }
    }

    /// Redis has lost something, so all that it has of this gateway is in doubt.
    pub(super) fn doubt_all(&self, partition: Partition) {
        let mut state = self.state();
        let part = state.part(partition);
        part.leases_in_doubt = true;
        part.charges_in_doubt = true;
        part.last = None;
        for sent in &mut part.sent {
            sent.told = None;
        }
    }

    /// Takes the partitions in which leases may have been lost.
    pub(super) fn take_doubtful(&self) -> HashSet<Partition> {
        let mut state = self.state();
        let all = state.parts.iter_mut();
        let doubtful = all.filter_map(|(partition, part)| {
            std::mem::take(&mut part.leases_in_doubt).then_some(*partition)
        });
        doubtful.collect()
    }

    /// Leases may still be lost there.
    pub(super) fn doubt_leases(&self, partitions: &HashSet<Partition>) {
        let mut state = self.state();
        for partition in partitions {
            state.part(*partition).leases_in_doubt = true;
        }
    }

    /// Some of the charges that Redis may have lost: not taken at all, or in another epoch.
    pub(super) fn doubtful_charges(&self, at_most: usize) -> Vec<Doubtful> {
        let state = self.state();
        let mut found = Vec::new();
        for (partition, part) in state.parts.iter().filter(|(_, part)| part.charges_in_doubt) {
            for (place, sent) in (part.first..).zip(&part.sent) {
                if found.len() == at_most {
                    return found;
                }
                if sent.is_doubtful(part.look) {
                    let (charge, partition) = (sent.charge.clone(), *partition);
                    found.push(Doubtful { charge, partition, place });
                }
            }
        }
        found
    }

    /// The partitions of which Redis may not have every charge.
    pub(super) fn with_doubtful_charges(&self) -> HashSet<Partition> {
        let mut state = self.state();
        for part in state.parts.values_mut().filter(|part| part.charges_in_doubt) {
            part.charges_in_doubt = part.sent.iter().any(|sent| sent.is_doubtful(part.look));
        }
        let doubtful = state.parts.iter().filter(|(_, part)| part.charges_in_doubt);
        doubtful.map(|(partition, _)| *partition).collect()
    }

    /// Marks a resent charge as confirmed. `None` means the call is alive again and the charge is void.
    pub(super) fn confirm(&self, doubtful: &Doubtful, told: Option<Told>) {
        let mut state = self.state();
        let part = state.part(doubtful.partition);
        part.hear(told);
        let written = part.look.map(|look| Told { number: 0, ..look });
        let place = doubtful.place.checked_sub(part.first).and_then(|at| usize::try_from(at).ok());
        if let Some(sent) = place.and_then(|at| part.sent.get_mut(at)) {
            sent.told = told.or(written);
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

    /// Notes a lease that cannot be charged. Returns whether that is news.
    pub(super) fn cannot_read(&self, request: RequestId) -> bool {
        self.state().unreadable.insert(request)
    }

    pub(super) fn unreadable(&self) -> HashSet<RequestId> {
        self.state().unreadable.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn part(&mut self, partition: Partition) -> &mut Part {
        self.parts.entry(partition).or_default()
    }
}

impl Part {
    fn hear(&mut self, told: Option<Told>) {
        let Some(told) = told else { return };
        let is_older = |last: Told| last.epoch == told.epoch && last.number > told.number;
        if !self.last.is_some_and(is_older) {
            self.last = Some(told);
        }
    }

    fn forget_first(&mut self) {
        if self.sent.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl Sent {
    /// `look` is what the latest found, if there was one.
    fn is_doubtful(&self, look: Option<Told>) -> bool {
        match self.told {
            None => true,
            Some(told) => look.is_some_and(|look| look.epoch != told.epoch),
        }
    }
}
