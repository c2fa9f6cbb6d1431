//! Extensions of leases in Redis.

use super::RedisQuota;
use super::codec;
use super::keys::Partition;
use crate::backend::{ExtendOutcome, QuotaUnavailable};
use domain::charge::Lease;
use telemetry::labels::RedisOp;

impl RedisQuota {
    /// Extends a lease. `None` if Redis has no such lease.
    pub(super) async fn send_extend(
        &self,
        known: &Lease,
        want: u64,
        least: u64,
    ) -> Result<Option<ExtendOutcome>, QuotaUnavailable> {
        let at = Partition::of(known.user);
        let keys = [
            at.lease(known.request),
            at.user(known.user),
            at.key(known.user, &known.key),
            at.epoch(),
        ];
        let numbers = [known.reserved, want, least].map(|n| codec::exact(n).to_string());
        let extend = &self.client.scripts.extend;
        codec::extend_reply(&self.client.run(RedisOp::Extend, extend, &keys, &numbers).await?)
    }
}
