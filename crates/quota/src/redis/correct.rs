//! Corrects the charge of an ended call in Redis.

use super::keys::Partition;
use super::{REAPED_TOMBSTONE_TTL, RedisQuota, codec, milliseconds, outbox, to_json};
use crate::backend::{Correction, QuotaUnavailable};
use telemetry::labels::RedisOp;

impl RedisQuota {
    pub(super) async fn send_correction(
        &self,
        correction: &Correction,
    ) -> Result<(), QuotaUnavailable> {
        let Correction { charge, before } = correction;
        let at = Partition::of(charge.user);
        let keys = [
            at.correction(charge.request),
            at.lease(charge.request),
            at.user(charge.user),
            at.key(charge.user, &charge.key),
            at.outbox(),
            at.settled(),
            at.epoch(),
            at.old_tombstone(charge.request),
        ];
        let arguments = [
            codec::exact(*before).to_string(),
            codec::exact(charge.counted_tokens()).to_string(),
            codec::day(charge.day),
            // The ledger has a row of the call already.
            outbox::marked_as_repeated(&to_json(charge)),
            milliseconds(REAPED_TOMBSTONE_TTL),
        ];
        let script = &self.client.scripts.correct;
        let reply = self.client.run(RedisOp::Settle, script, &keys, &arguments).await?;
        match codec::word(&reply)? {
            "corrected" | "again" => Ok(()),
            _ => Err(QuotaUnavailable),
        }
    }
}
