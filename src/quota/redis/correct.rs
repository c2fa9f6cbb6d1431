//! Corrects the charge of an ended call in Redis.

use super::keys::Partition;
use super::{LONG_TOMBSTONE, RedisCounters, milliseconds, outbox, wire, written};
use crate::quota::counters::{Correction, CountersError};
use crate::telemetry::labels::RedisOp;

impl RedisCounters {
    pub(super) async fn send_correction(
        &self,
        correction: &Correction,
    ) -> Result<(), CountersError> {
        let Correction { charge, before } = correction;
        let at = Partition::of(charge.user);
        let keys = [
            at.correction(charge.request),
            at.tombstone(charge.request),
            at.user(charge.user),
            at.key(charge.user, &charge.key),
            at.outbox(),
            at.settled(),
            at.epoch(),
        ];
        let arguments = [
            wire::exact(*before).to_string(),
            wire::exact(charge.tokens.total()).to_string(),
            charge.day.to_string(),
            // The ledger has a row of the call already.
            outbox::marked_as_repeated(&written(charge)),
            milliseconds(LONG_TOMBSTONE),
        ];
        let script = &self.link.scripts.correct;
        let reply = self.link.run(RedisOp::Settle, script, &keys, &arguments).await?;
        match wire::word(&reply)? {
            "corrected" | "again" => Ok(()),
            _ => Err(CountersError),
        }
    }
}
