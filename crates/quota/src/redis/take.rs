//! Takes in Redis, and the rollback of those whose outcome is unknown.

use super::client::CommandError;
use super::codec::{self, TakeReply};
use super::keys::Partition;
use super::settle::EndEvidence;
use super::{RedisQuota, TOMBSTONE_TTL, abandoned_charge, milliseconds, to_json};
use crate::backend::{Claim, QuotaUnavailable};
use domain::charge::{Charge, Lease, Status};
use futures_util::future::join_all;
use jiff::Timestamp;
use telemetry::labels::RedisOp;

/// Takes rolled back in one round.
const ROLLBACK_BATCH: usize = 500;

impl RedisQuota {
    /// Takes every debit of a claim, or none. A take whose outcome is unknown is refused, and rolled back later.
    pub(super) async fn send_take(
        &self,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<TakeReply, QuotaUnavailable> {
        let lease = &claim.lease;
        let at = Partition::of(lease.user);
        let keys = [
            at.epoch(),
            at.version(lease.user),
            at.lease(lease.request),
            at.user(lease.user),
            at.key(lease.user, &lease.key),
            at.deadlines(),
            at.accounts(lease.day),
        ];
        let arguments = [
            lease.request.0.simple().to_string().into_bytes(),
            lease.version.to_string().into_bytes(),
            self.script_time(now).into_bytes(),
            milliseconds(self.settings.lease).into_bytes(),
            codec::debits(&claim.debits),
            codec::day(lease.day).into_bytes(),
            to_json(&abandoned_charge(lease)).into_bytes(),
        ];
        let take = &self.client.scripts.take;
        let (done, outcome_unknown) =
            self.client.run_with_outcome(RedisOp::Take, take, &keys, &arguments).await;
        let reply = match done {
            Ok(reply) => codec::take_reply(&reply, &claim.debits)?,
            Err(CommandError::Rejected) => return Err(QuotaUnavailable),
            Err(CommandError::Unknown) => return self.mark_uncertain(lease),
        };
        match reply {
            TakeReply::Granted(_) => Ok(reply),
            // An earlier attempt was executed and reaped since, or may still be executed once the cause of the
            // later rejection has passed.
            TakeReply::Settled => self.mark_uncertain(lease),
            _ if outcome_unknown => self.mark_uncertain(lease),
            _ => Ok(reply),
        }
    }

    /// Refuses a take that may have been executed, and schedules its rollback.
    fn mark_uncertain<T>(&self, lease: &Lease) -> Result<T, QuotaUnavailable> {
        self.local_journal.add_uncertain_take(lease.clone());
        Err(QuotaUnavailable)
    }

    /// Rolls back a take whose outcome is unknown. If it was reaped and charged, a charge of zero replaces
    /// the estimate.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn rollback_take(&self, lease: &Lease) -> Result<(), QuotaUnavailable> {
        let at = Partition::of(lease.user);
        let keys = [
            at.lease(lease.request),
            at.user(lease.user),
            at.key(lease.user, &lease.key),
            at.deadlines(),
        ];
        let arguments = [lease.request.0.simple().to_string(), milliseconds(TOMBSTONE_TTL)];
        let rollback = &self.client.scripts.rollback_take;
        let reply = self.client.run(RedisOp::Settle, rollback, &keys, &arguments).await?;
        if codec::word(&reply)? == "reaped" {
            self.charge_zero(lease).await?;
        }
        self.local_journal.rolled_back(lease.request);
        Ok(())
    }

    /// Replaces the estimate that a reaped take was charged by a charge of zero.
    async fn charge_zero(&self, lease: &Lease) -> Result<(), QuotaUnavailable> {
        let charge = Charge { status: Status::Failed, counted: false, ..abandoned_charge(lease) };
        let (keys, arguments) = self.settlement(&charge, EndEvidence::Reported);
        let settle = &self.client.scripts.settle;
        let reply = self.client.run(RedisOp::Settle, settle, &keys, &arguments).await?;
        self.local_journal.settled(charge, codec::settle_reply(&reply)?.watermark);
        Ok(())
    }

    /// Rolls back some of the takes whose outcome is unknown.
    pub(super) async fn rollback_some(&self) -> Result<(), QuotaUnavailable> {
        let uncertain_takes = self.local_journal.uncertain_takes();
        let rollbacks =
            uncertain_takes.iter().take(ROLLBACK_BATCH).map(|lease| self.rollback_take(lease));
        join_all(rollbacks).await.into_iter().collect()
    }

    /// Rolls back all takes whose outcome is unknown.
    pub(super) async fn rollback_all(&self) -> Result<(), QuotaUnavailable> {
        while !self.local_journal.uncertain_takes().is_empty() {
            self.rollback_some().await?;
        }
        Ok(())
    }
}
