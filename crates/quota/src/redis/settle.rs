//! Settlements in Redis: of ended calls, and again of charges that Redis may have lost.

use super::client::{RETRY_MAX_INTERVAL, RETRY_MIN_INTERVAL};
use super::codec::{self, SettleEnd, SettleReply};
use super::keys::Partition;
use super::local_journal::Unconfirmed;
use super::{REAPED_TOMBSTONE_TTL, REBOOK_WINDOW, RedisQuota, TOMBSTONE_TTL};
use super::{milliseconds, outbox, to_json};
use crate::backend::QuotaUnavailable;
use domain::charge::{Charge, Status};
use jiff::{SignedDuration, Timestamp};
use redis::Value;
use system::clock;
use telemetry::labels::RedisOp;

/// Evidence that a call has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndEvidence<'a> {
    /// Its gateway reported the end.
    Reported,
    /// Its lease was not renewed: the call has ended if the lease is still expired at this time, `now` or in
    /// milliseconds since 1970.
    Expired { now: &'a str },
}

impl RedisQuota {
    /// Returns the current keys and arguments of `settle.lua`.
    pub(super) fn settlement(
        &self,
        charge: &Charge,
        ended: EndEvidence<'_>,
    ) -> ([String; 9], [String; 9]) {
        let is_estimate = charge.status == Status::Abandoned;
        let tombstone = if is_estimate { REAPED_TOMBSTONE_TTL } else { TOMBSTONE_TTL };
        let at = Partition::of(charge.user);
        let keys = [
            at.lease(charge.request),
            at.old_tombstone(charge.request),
            at.user(charge.user),
            at.key(charge.user, &charge.key),
            at.deadlines(),
            at.outbox(),
            at.settled(),
            at.epoch(),
            at.accounts(charge.day),
        ];
        let arguments = [
            charge.request.0.simple().to_string(),
            codec::exact(charge.counted_tokens()).to_string(),
            u8::from(charge.counted).to_string(),
            to_json(charge),
            milliseconds(tombstone),
            codec::day(charge.day),
            u8::from(ended_lately(charge, self.skew.redis_time(clock::now()))).to_string(),
            u8::from(is_estimate).to_string(),
            match ended {
                EndEvidence::Reported => String::new(),
                EndEvidence::Expired { now } => now.to_owned(),
            },
        ];
        (keys, arguments)
    }

    /// Sends a charge until Redis replies. It is kept on disk meanwhile if the first attempt fails.
    async fn send_settle(&self, charge: &Charge) -> Vec<Value> {
        let settle = &self.client.scripts.settle;
        let mut pause = RETRY_MIN_INTERVAL;
        loop {
            let (keys, arguments) = self.settlement(charge, EndEvidence::Reported);
            if let Ok(reply) = self.client.run(RedisOp::Settle, settle, &keys, &arguments).await {
                if let Some(spool) = self.spool.get().filter(|_| pause > RETRY_MIN_INTERVAL) {
                    spool.acknowledge(charge.request);
                }
                return reply;
            }
            if let Some(spool) = self.spool.get().filter(|_| pause == RETRY_MIN_INTERVAL) {
                spool.write(charge);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX_INTERVAL);
        }
    }

    /// Settles a call, and tracks its charge until it is in the ledger.
    pub(super) async fn settle_and_track(&self, charge: Charge) -> Option<SettleReply> {
        let reply = self.send_settle(&charge).await;
        let Ok(settled) = codec::settle_reply(&reply) else {
            tracing::error!(request_id = %charge.request, ?reply, "unexpected settle reply from redis");
            return None;
        };
        self.local_journal.settled(charge, settled.watermark);
        Some(settled)
    }

    /// Resends a charge that Redis may have lost. Returns true if it was lost.
    pub(super) async fn resend_charge(
        &self,
        unconfirmed: &Unconfirmed,
    ) -> Result<bool, QuotaUnavailable> {
        let charge = &unconfirmed.charge;
        // A call that was charged for a dead gateway may have been restored by it: then it is alive.
        let ended = match charge.status {
            Status::Abandoned => EndEvidence::Expired { now: "now" },
            _ => EndEvidence::Reported,
        };
        let (keys, mut arguments) = self.settlement(charge, ended);
        let [_, _, _, text, ..] = &mut arguments;
        *text = outbox::marked_as_repeated(text);
        let settle = &self.client.scripts.settle;
        let reply = self.client.run(RedisOp::Settle, settle, &keys, &arguments).await?;
        let reply = codec::settle_reply(&reply)?;
        self.local_journal.confirm(unconfirmed, reply.watermark);
        let was_lost = reply.end == SettleEnd::Settled;
        if was_lost {
            self.client.metrics.redis_lost_writes.increment(1);
        }
        Ok(was_lost)
    }
}

fn ended_lately(charge: &Charge, now: Timestamp) -> bool {
    let ran = SignedDuration::from_millis(i64::from(charge.total_ms));
    now.duration_since(charge.admitted_at) - ran < REBOOK_WINDOW
}
