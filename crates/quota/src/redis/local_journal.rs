//! This gateway's own record of its running calls and of its charges that are not in the ledger yet, from
//! which it restores what Redis loses.

use super::codec::Watermark;
use super::keys::{PARTITIONS, Partition};
use crate::backend::ObservedTokens;
use domain::charge::{Charge, Lease};
use domain::id::RequestId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};
use system::clock;
use uuid::Uuid;

/// Charges kept for one partition. Redis has them too: charges are lost only if Redis loses its data while
/// Postgres has been unreachable for longer than this many charges take.
const SENT_CHARGES_LIMIT: usize = 4096;

/// Time for which a charge is kept after it is in the ledger, and a take after it was rolled back: a Redis that loses
/// its latest seconds no longer has either.
const CONFIRMED_RETENTION: Duration = Duration::from_secs(5);

/// Running calls and sent charges of this gateway.
#[derive(Default)]
pub(super) struct LocalJournal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<RequestId, Call>,
    /// Takes whose outcome is unknown. Their calls were refused, but Redis may have executed them.
    uncertain_takes: HashMap<RequestId, Lease>,
    /// Takes that were rolled back recently, oldest first.
    rolled_back: VecDeque<(Lease, Instant)>,
    /// Leases of other gateways whose charge this version cannot read.
    unreadable: HashSet<RequestId>,
    partitions: HashMap<Partition, PartitionJournal>,
}

/// Charges and watermarks of one partition.
#[derive(Default)]
struct PartitionJournal {
    /// Watermark found by the latest poll.
    polled: Option<Watermark>,
    /// Latest watermark in a settle reply.
    last: Option<Watermark>,
    /// True if Redis may have lost leases of this gateway.
    leases_uncertain: bool,
    /// True if Redis may have lost charges: some of `sent` must be resent.
    charges_unconfirmed: bool,
    /// Charges sent recently or not known to be in the ledger, oldest first; the front one has the position `first`.
    sent: VecDeque<SentCharge>,
    first: u64,
}

/// A charge with the watermark of its settle reply; `None` if Redis may have lost it.
struct SentCharge {
    charge: Charge,
    watermark: Option<Watermark>,
    since: Instant,
}

/// A running call with its lease.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) lease: Lease,
    /// Debits in the format that the scripts read.
    pub(super) debits: Vec<u8>,
    pub(super) observed: ObservedTokens,
}

/// A call whose lease is to be renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    pub(super) request: RequestId,
    /// Tokens that the gateway has observed so far.
    pub(super) observed: u64,
}

/// A charge that Redis may have lost and that must be resent.
pub(super) struct Unconfirmed {
    pub(super) charge: Charge,
    partition: Partition,
    /// Position among the charges sent to the partition.
    position: u64,
}

impl LocalJournal {
    pub(super) fn open(&self, call: Call) {
        self.state.lock().open.insert(call.lease.request, call);
    }

    pub(super) fn call(&self, request: RequestId) -> Option<Call> {
        self.state.lock().open.get(&request).cloned()
    }

    /// Adds tokens to the reservation of a running call.
    pub(super) fn raise(&self, request: RequestId, tokens: u64) {
        if let Some(call) = self.state.lock().open.get_mut(&request) {
            call.lease.reserved += tokens;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.state.lock().open.len() as u64
    }

    /// Returns the running calls by partition.
    pub(super) fn running(&self) -> HashMap<Partition, Vec<Renewal>> {
        let mut running: HashMap<Partition, Vec<Renewal>> = HashMap::new();
        for Call { lease, observed, .. } in self.state.lock().open.values() {
            let renewal = Renewal { request: lease.request, observed: observed.get() };
            running.entry(Partition::of(lease.user)).or_default().push(renewal);
        }
        running
    }

    /// Ends a call whose charge Redis has accepted.
    pub(super) fn settled(&self, charge: Charge, watermark: Option<Watermark>) {
        self.state.lock().open.remove(&charge.request);
        self.track(charge, watermark);
    }

    /// Keeps a charge until it is in the ledger and safe in Redis.
    pub(super) fn track(&self, charge: Charge, watermark: Option<Watermark>) {
        let mut state = self.state.lock();
        let journal = state.journal(Partition::of(charge.user));
        journal.record(watermark);
        let sent = SentCharge { charge, watermark, since: clock::instant() };
        journal.charges_unconfirmed |= sent.is_unconfirmed(journal.polled);
        journal.sent.push_back(sent);
        if journal.sent.len() > SENT_CHARGES_LIMIT {
            journal.drop_first();
        }
    }

    /// Returns the latest watermark of each partition.
    pub(super) fn last(&self) -> Vec<Option<Watermark>> {
        let state = self.state.lock();
        let last = |p| state.partitions.get(&Partition(p)).and_then(|journal| journal.last);
        (0..PARTITIONS).map(last).collect()
    }

    /// Records the watermark of a poll. Returns true if the epoch differs from the previous poll's.
    pub(super) fn is_new_epoch(&self, partition: Partition, polled: Watermark) -> bool {
        let mut state = self.state.lock();
        let journal = state.journal(partition);
        let before = journal.polled.replace(polled);
        journal.charges_unconfirmed |= before.is_none_or(|before| before.epoch != polled.epoch);
        before.is_some_and(|before| before.epoch != polled.epoch)
    }

    /// Drops the charges that are in the ledger: those of this epoch with a number up to `written`.
    pub(super) fn written(&self, partition: Partition, epoch: Uuid, written: u64) {
        let mut state = self.state.lock();
        let journal = state.journal(partition);
        let is_written =
            |watermark: Watermark| watermark.epoch == Some(epoch) && watermark.number <= written;
        let is_past = |sent: &SentCharge| {
            sent.watermark.is_some_and(is_written) && sent.since.elapsed() >= CONFIRMED_RETENTION
        };
        while journal.sent.front().is_some_and(is_past) {
            journal.drop_first();
        }
    }

    /// Marks all leases, charges and rolled-back takes of a partition as unconfirmed, because Redis has lost some data.
    pub(super) fn mark_all_unconfirmed(&self, partition: Partition) {
        let mut state = self.state.lock();
        state.repeat_rollbacks(partition);
        let journal = state.journal(partition);
        journal.leases_uncertain = true;
        journal.charges_unconfirmed = true;
        journal.last = None;
        for sent in &mut journal.sent {
            sent.watermark = None;
        }
    }

    /// Returns the partitions in which leases may have been lost, and clears their mark.
    pub(super) fn take_uncertain_partitions(&self) -> HashSet<Partition> {
        let mut state = self.state.lock();
        let all = state.partitions.iter_mut();
        let unconfirmed = all.filter_map(|(partition, journal)| {
            std::mem::take(&mut journal.leases_uncertain).then_some(*partition)
        });
        unconfirmed.collect()
    }

    /// Marks partitions as possibly missing leases.
    pub(super) fn mark_leases_uncertain(&self, partitions: &HashSet<Partition>) {
        let mut state = self.state.lock();
        for partition in partitions {
            state.journal(*partition).leases_uncertain = true;
        }
    }

    /// Returns some of the charges that Redis may have lost: never accepted, or accepted in another epoch.
    pub(super) fn unconfirmed_charges(&self, at_most: usize) -> Vec<Unconfirmed> {
        let state = self.state.lock();
        let mut found = Vec::new();
        for (partition, journal) in
            state.partitions.iter().filter(|(_, journal)| journal.charges_unconfirmed)
        {
            for (position, sent) in (journal.first..).zip(&journal.sent) {
                if found.len() == at_most {
                    return found;
                }
                if sent.is_unconfirmed(journal.polled) {
                    let (charge, partition) = (sent.charge.clone(), *partition);
                    found.push(Unconfirmed { charge, partition, position });
                }
            }
        }
        found
    }

    /// Returns the partitions that may be missing charges.
    pub(super) fn with_unconfirmed_charges(&self) -> HashSet<Partition> {
        let mut state = self.state.lock();
        for journal in state.partitions.values_mut().filter(|journal| journal.charges_unconfirmed) {
            journal.charges_unconfirmed =
                journal.sent.iter().any(|sent| sent.is_unconfirmed(journal.polled));
        }
        let unconfirmed =
            state.partitions.iter().filter(|(_, journal)| journal.charges_unconfirmed);
        unconfirmed.map(|(partition, _)| *partition).collect()
    }

    /// Marks a resent charge as confirmed. `None` means the call is alive again and the charge is void.
    pub(super) fn confirm(&self, unconfirmed: &Unconfirmed, watermark: Option<Watermark>) {
        let mut state = self.state.lock();
        let journal = state.journal(unconfirmed.partition);
        journal.record(watermark);
        let written = journal.polled.map(|polled| Watermark { number: 0, ..polled });
        let index =
            unconfirmed.position.checked_sub(journal.first).and_then(|at| usize::try_from(at).ok());
        if let Some(sent) = index.and_then(|at| journal.sent.get_mut(at)) {
            sent.watermark = watermark.or(written);
        }
    }

    pub(super) fn add_uncertain_take(&self, lease: Lease) {
        let mut state = self.state.lock();
        // Beyond this the reaper finds them.
        if state.uncertain_takes.len() < SENT_CHARGES_LIMIT {
            state.uncertain_takes.insert(lease.request, lease);
        }
    }

    pub(super) fn uncertain_takes(&self) -> Vec<Lease> {
        self.state.lock().uncertain_takes.values().cloned().collect()
    }

    /// Removes a take that was rolled back.
    pub(super) fn rolled_back(&self, request: RequestId) {
        let (mut state, now) = (self.state.lock(), clock::instant());
        if let Some(lease) = state.uncertain_takes.remove(&request) {
            state.rolled_back.push_back((lease, now));
        }
        state.forget_rollbacks(now);
        state.open.remove(&request);
    }

    /// Records a lease whose charge cannot be read. Returns true if it was not recorded before.
    pub(super) fn add_unreadable(&self, request: RequestId) -> bool {
        self.state.lock().unreadable.insert(request)
    }

    pub(super) fn unreadable(&self) -> HashSet<RequestId> {
        self.state.lock().unreadable.clone()
    }
}

impl State {
    /// Makes the takes that were rolled back recently uncertain again: Redis may have lost the rollback and kept the
    /// take, which would be charged as abandoned.
    fn repeat_rollbacks(&mut self, partition: Partition) {
        self.forget_rollbacks(clock::instant());
        let is_elsewhere = |(lease, _): &(Lease, Instant)| Partition::of(lease.user) != partition;
        let (elsewhere, repeated) = self.rolled_back.drain(..).partition(is_elsewhere);
        self.rolled_back = elsewhere;
        let repeated: VecDeque<(Lease, Instant)> = repeated;
        self.uncertain_takes.extend(repeated.into_iter().map(|(lease, _)| (lease.request, lease)));
    }

    fn forget_rollbacks(&mut self, now: Instant) {
        let is_past = |(_, since): &(Lease, Instant)| {
            now.saturating_duration_since(*since) >= CONFIRMED_RETENTION
        };
        while self.rolled_back.len() > SENT_CHARGES_LIMIT
            || self.rolled_back.front().is_some_and(is_past)
        {
            self.rolled_back.pop_front();
        }
    }

    fn journal(&mut self, partition: Partition) -> &mut PartitionJournal {
        self.partitions.entry(partition).or_default()
    }
}

impl PartitionJournal {
    fn record(&mut self, watermark: Option<Watermark>) {
        let Some(watermark) = watermark else { return };
        let is_older =
            |last: Watermark| last.epoch == watermark.epoch && last.number > watermark.number;
        if !self.last.is_some_and(is_older) {
            self.last = Some(watermark);
        }
    }

    fn drop_first(&mut self) {
        if self.sent.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl SentCharge {
    /// True if Redis may not have the charge. `polled` is the watermark of the latest poll, if there was one.
    fn is_unconfirmed(&self, polled: Option<Watermark>) -> bool {
        match self.watermark {
            None => true,
            Some(watermark) => polled.is_some_and(|polled| polled.epoch != watermark.epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::day::Day;
    use domain::id::UserId;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    fn lease(user: UserId) -> Lease {
        let at = Timestamp::UNIX_EPOCH;
        domain::testing::lease(user, "key", Day::at(at, &TimeZone::UTC), at)
    }

    #[test]
    fn a_rollback_that_redis_may_have_lost_is_repeated_in_its_partition() {
        let journal = LocalJournal::default();
        let (one, other) = (UserId::new(), UserId::new());
        let leases = [lease(one), lease(other)];
        for lease in &leases {
            journal.add_uncertain_take(lease.clone());
            journal.rolled_back(lease.request);
        }
        assert!(journal.uncertain_takes().is_empty());
        let partition = Partition::of(one);
        let expected: HashSet<RequestId> = leases
            .iter()
            .filter(|lease| Partition::of(lease.user) == partition)
            .map(|lease| lease.request)
            .collect();
        for _ in 0..2 {
            journal.mark_all_unconfirmed(partition);
            let again: HashSet<RequestId> =
                journal.uncertain_takes().iter().map(|lease| lease.request).collect();
            assert_eq!(again, expected);
            for request in again {
                journal.rolled_back(request);
            }
        }
    }

    #[test]
    fn rollbacks_are_forgotten_in_time() {
        let journal = LocalJournal::default();
        let lease = lease(UserId::new());
        journal.add_uncertain_take(lease.clone());
        journal.rolled_back(lease.request);
        let later = clock::instant() + CONFIRMED_RETENTION;
        journal.state.lock().forget_rollbacks(later);
        journal.mark_all_unconfirmed(Partition::of(lease.user));
        assert!(journal.uncertain_takes().is_empty());
    }
}
