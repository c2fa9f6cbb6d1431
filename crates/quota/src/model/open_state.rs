//! The part of the quota state that the ledger does not have, which a successor process takes over.

use super::{Account, Bucket, OpenLease, QuotaState};
use crate::rules::{Resource, Scope};
use domain::charge::Lease;
use domain::id::RequestId;
use serde::{Deserialize, Serialize};

/// Reservations of open calls, and the fill levels of request windows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OpenState {
    leases: Vec<(RequestId, OpenLease)>,
    buckets: Vec<(Scope, Bucket)>,
}

impl OpenState {
    /// Returns the requests of the open calls.
    pub fn requests(&self) -> impl Iterator<Item = RequestId> {
        self.leases.iter().map(|(request, _)| *request)
    }
}

impl QuotaState {
    /// Copies everything that a state rebuilt from the ledger would lack.
    #[must_use]
    pub fn open_state(&self) -> OpenState {
        let leases = self.leases.iter().map(|(request, open)| (*request, open.clone())).collect();
        let bucket = |(scope, account): (&Scope, &Account)| {
            account.bucket.map(|bucket| (scope.clone(), bucket))
        };
        OpenState { leases, buckets: self.accounts.iter().filter_map(bucket).collect() }
    }

    /// Adds the open calls and windows of another process to a state that was rebuilt from the ledger. Each of
    /// `leases` is open afterwards, so that it can be settled; one that is not in `state` reserves nothing.
    pub fn adopt(&mut self, state: OpenState, leases: &[Lease]) {
        // First, so that no day is dropped whose reservations are still to come.
        for debit in state.leases.iter().flat_map(|(_, open)| &open.debits) {
            if let Resource::Request { day, .. } | Resource::Tokens { day, .. } = debit.resource {
                self.accounts.entry(debit.scope.clone()).or_default().day_to_restore(day);
            }
        }
        for (request, open) in state.leases {
            for debit in &open.debits {
                if !matches!(debit.resource, Resource::Window(_)) {
                    let account = self.accounts.entry(debit.scope.clone()).or_default();
                    // Only a window depends on the time, and windows are adopted below.
                    account.apply(
                        &debit.resource,
                        (open.reserved, open.expected),
                        jiff::Timestamp::UNIX_EPOCH,
                    );
                }
            }
            self.leases.insert(request, open);
        }
        for lease in leases {
            let unknown =
                || OpenLease { reserved: lease.reserved, expected: 0, debits: Vec::new() };
            self.leases.entry(lease.request).or_insert_with(unknown);
        }
        for (scope, bucket) in state.buckets {
            self.accounts.entry(scope).or_default().bucket = Some(bucket);
        }
    }
}
