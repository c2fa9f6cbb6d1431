//! Open leases, derived from the records of a log.

use super::record::Record;
use domain::charge::Lease;
use domain::id::{IdMap, RequestId};

/// Open leases after a sequence of records.
#[derive(Debug, Default)]
pub struct OpenLeases(IdMap<RequestId, Lease>);

impl OpenLeases {
    /// Applies the next record. Returns the record, unless its lease was stored.
    pub fn apply(&mut self, record: Record) -> Option<Record> {
        match &record {
            Record::Extend { request, reserved } => {
                if let Some(lease) = self.0.get_mut(request) {
                    lease.reserved = lease.reserved.max(*reserved);
                }
            }
            Record::Withdraw { request } => drop(self.0.remove(request)),
            Record::Settle(charge) => drop(self.0.remove(&charge.request)),
            Record::Open(_) | Record::Adjust(_) => {}
        }
        let Record::Open(lease) = record else { return Some(record) };
        self.0.insert(lease.request, lease);
        None
    }

    /// Number of leases that are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the open leases, in no order.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Lease> {
        self.0.values().cloned().collect()
    }
}
