//! Quota of one process: a [`QuotaState`] behind a lock, made durable through the journal.
//!
//! While the journal cannot be written, new calls are refused (nothing is taken). Running calls continue; they are
//! settled in memory at once, and in the journal once it can be written.

use super::backend::{Claim, Correction, ExtendOutcome, Grant, QuotaBackend, QuotaUnavailable};
use super::backend::{RemovedUsage, Reset, TakeOutcome, UsageSnapshot};
use super::model::{OpenState, QuotaState};
use super::rules::Scope;
use super::user_versions::UserVersions;
use async_trait::async_trait;
use domain::charge::{Adjustment, Charge, Lease};
use domain::day::Day;
use domain::id::{IdMap, KeyId, RequestId, UserId};
use jiff::Timestamp;
use journal::{Journal, Unavailable};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use store::Used;

/// Time limit for an extension to become durable. After it the stream continues: only a process that is killed
/// before the disk recovers would charge too little.
const EXTEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Time limit of a report for the ledger to have the calls that ended before it.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(8);

/// Time limit of a reset to reach the ledger.
const RESET_TIMEOUT: Duration = Duration::from_secs(2);

/// Latest resets that are stored, so that a repeated one changes nothing.
const MAX_RESETS: usize = 256;

/// Latest corrections that are stored, likewise. The ledger ignores one that is repeated later.
const MAX_CORRECTIONS: usize = 1024;

/// Quota in the memory of this process.
pub struct MemoryQuota {
    state: Mutex<State>,
    journal: Journal,
    versions: Arc<UserVersions>,
}

#[derive(Default)]
struct State {
    quota: QuotaState,
    /// Owner of each key, for reports by key.
    owners: IdMap<KeyId, UserId>,
    /// Latest resets with their adjustments, the newest last.
    resets: VecDeque<(RequestId, Vec<Adjustment>)>,
    /// Requests whose charges were corrected, the newest last.
    corrected: VecDeque<RequestId>,
}

impl MemoryQuota {
    /// Creates a back end with the usage of the ledger.
    #[must_use]
    pub fn rebuilt(used: &[Used], journal: Journal, versions: Arc<UserVersions>) -> Self {
        let owners = used.iter().filter_map(|row| Some((row.key.clone()?, row.user))).collect();
        let state = State { quota: QuotaState::rebuilt(used), owners, ..State::default() };
        Self { state: Mutex::new(state), journal, versions }
    }

    /// Copies the state that a successor process cannot read from the ledger.
    #[must_use]
    pub fn open_state(&self) -> OpenState {
        self.state.lock().quota.open_state()
    }

    /// Takes over the open calls and windows of the previous process. Each of `leases` is open in the journal.
    pub fn adopt(&self, state: OpenState, leases: &[Lease]) {
        let mut own = self.state.lock();
        own.quota.adopt(state, leases);
        let owners = leases.iter().map(|lease| (lease.key.clone(), lease.user));
        own.owners.extend(owners);
    }

    fn take_in_memory(&self, claim: &Claim, now: Timestamp) -> Result<Grant, TakeOutcome> {
        let mut state = self.state.lock();
        let grant = state.quota.take(claim, now).map_err(TakeOutcome::Refused)?;
        let lease = &claim.lease;
        if !state.owners.contains_key(&lease.key) {
            state.owners.insert(lease.key.clone(), lease.user);
        }
        Ok(grant)
    }

    fn correct_in_memory(&self, correction: &Correction) {
        let mut state = self.state.lock();
        let request = correction.charge.request;
        if state.corrected.contains(&request) {
            return;
        }
        state.quota.correct(correction);
        if state.corrected.len() >= MAX_CORRECTIONS {
            state.corrected.pop_front();
        }
        state.corrected.push_back(request);
    }

    fn reset_in_memory(&self, reset: &Reset) -> Vec<Adjustment> {
        let mut state = self.state.lock();
        if let Some((_, adjustments)) = state.resets.iter().find(|(id, _)| *id == reset.id) {
            return adjustments.clone();
        }
        let adjustments = state.quota.reset(reset);
        if state.resets.len() >= MAX_RESETS {
            state.resets.pop_front();
        }
        state.resets.push_back((reset.id, adjustments.clone()));
        adjustments
    }
}

#[async_trait]
impl QuotaBackend for MemoryQuota {
    async fn take(&self, claim: Claim, now: Timestamp) -> Result<TakeOutcome, QuotaUnavailable> {
        let Lease { user, version, .. } = claim.lease;
        if !self.versions.is_current(user, version).await.map_err(|_| QuotaUnavailable)? {
            return Ok(TakeOutcome::Stale);
        }
        let grant = match self.take_in_memory(&claim, now) {
            Ok(grant) => grant,
            Err(refused) => return Ok(refused),
        };
        let request = claim.lease.request;
        let lease = Lease { reserved: grant.tokens, ..claim.lease };
        match self.journal.open(lease).await {
            Ok(()) => Ok(TakeOutcome::Granted(grant)),
            Err(Unavailable) => {
                self.state.lock().quota.undo(request);
                Err(QuotaUnavailable)
            }
        }
    }

    async fn extend(
        &self,
        request: RequestId,
        want: u64,
        least: u64,
    ) -> Result<ExtendOutcome, QuotaUnavailable> {
        let (extended, total) = self.state.lock().quota.extend(request, want, least);
        if matches!(extended, ExtendOutcome::Added(_)) {
            let durable = self.journal.extend(request, total);
            let _ = tokio::time::timeout(EXTEND_TIMEOUT, durable).await;
        }
        Ok(extended)
    }

    async fn settle(&self, charge: Charge) -> u64 {
        // Under one lock: a reader that finds the call closed finds its charge in the journal.
        let (settled, appended) = {
            let mut state = self.state.lock();
            let Some(settled) = state.quota.settle(&charge) else { return 0 };
            (settled, self.journal.push(charge))
        };
        self.journal.wait_durable(appended).await;
        settled.overshoot
    }

    async fn reset(&self, reset: &Reset) -> Result<RemovedUsage, QuotaUnavailable> {
        let adjustments = self.reset_in_memory(reset);
        let removed = RemovedUsage {
            tokens: adjustments.iter().map(|one| one.tokens.unsigned_abs()).sum(),
            requests: adjustments.iter().map(|one| one.requests.unsigned_abs()).sum(),
        };
        // A repeated reset waits for the same adjustments, which the ledger takes once.
        self.journal.adjust(adjustments).await;
        // Later reports read the ledger; in memory the reset applies already.
        let _ = tokio::time::timeout(RESET_TIMEOUT, self.journal.wait_projected()).await;
        Ok(removed)
    }

    async fn correct(&self, correction: &Correction) -> Result<(), QuotaUnavailable> {
        self.correct_in_memory(correction);
        // A repeated one waits for the same row, which the ledger replaces once.
        self.journal.settle(correction.charge.clone()).await;
        Ok(())
    }

    async fn usage_snapshot(
        &self,
        user: UserId,
        key: Option<&KeyId>,
        day: Day,
        now: Timestamp,
    ) -> Result<UsageSnapshot, QuotaUnavailable> {
        Ok(self.state.lock().quota.usage_snapshot(user, key, day, now))
    }

    async fn used_on(&self, day: Day) -> Result<Vec<Used>, QuotaUnavailable> {
        let used = {
            let state = self.state.lock();
            let owner = |scope: &Scope| match scope {
                Scope::User(user) => Some(*user),
                Scope::Key(key) => state.owners.get(key).copied(),
            };
            state.quota.used_on(day, owner)
        };
        // A comparison with the ledger then finds every call in it that has ended by now.
        let projected =
            tokio::time::timeout(PROJECTION_TIMEOUT, self.journal.wait_projected()).await;
        projected.map_err(|_| QuotaUnavailable)?;
        Ok(used)
    }

    async fn ping(&self) -> Result<(), QuotaUnavailable> {
        if self.journal.is_unavailable() { Err(QuotaUnavailable) } else { Ok(()) }
    }

    fn open_leases(&self) -> u64 {
        self.state.lock().quota.open_leases()
    }
}
