//! Leases in Redis: renewed while their calls run, restored if Redis lost them, reaped if
//! their gateway died.

use super::client::NO_ARGUMENTS;
use super::codec::{self, LeaseState, SettleEnd};
use super::keys::Partition;
use super::local_journal::{Call, Renewal};
use super::settle::EndEvidence;
use super::{RedisQuota, abandoned_charge, milliseconds, to_json};
use crate::backend::QuotaUnavailable;
use domain::charge::{Charge, TokenCount};
use domain::id::RequestId;
use futures_util::future::{join_all, try_join_all};
use std::collections::HashSet;
use telemetry::labels::RedisOp;

/// Leases renewed by one command, and expired ones found by one command and ended in one round.
const LEASE_BATCH: usize = 500;
/// Leases restored in one batch: each is a separate command.
const RESTORE_BATCH: usize = 200;

impl RedisQuota {
    /// Renews the leases of this gateway's calls, and restores those that are lost.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn renew(&self) -> Result<(), QuotaUnavailable> {
        self.renew_in(|_| true).await
    }

    /// Like [`Self::renew`], in some partitions.
    pub(super) async fn renew_in(
        &self,
        includes: impl Fn(Partition) -> bool,
    ) -> Result<(), QuotaUnavailable> {
        let mut running = self.local_journal.running();
        running.retain(|partition, _| includes(*partition));
        let some = running.iter().flat_map(|(partition, calls)| {
            calls.chunks(LEASE_BATCH).map(|some| self.renew_some(*partition, some))
        });
        // A partition that cannot be written must not keep others from being renewed.
        let (mut gone, mut done) = (Vec::new(), Ok(()));
        for renewed in join_all(some).await {
            match renewed {
                Ok(some) => gone.extend(some),
                Err(e) => done = Err(e),
            }
        }
        self.restore_all(&gone).await.and(done)
    }

    /// Restores this gateway's leases in some partitions, and the extensions that Redis may have lost.
    pub(super) async fn restore_in(
        &self,
        partitions: &HashSet<Partition>,
    ) -> Result<(), QuotaUnavailable> {
        if partitions.is_empty() {
            return Ok(());
        }
        let mut running = self.local_journal.running();
        running.retain(|partition, _| partitions.contains(partition));
        let running = running.into_values().flatten();
        self.restore_all(&running.map(|call| call.request).collect::<Vec<_>>()).await
    }

    /// Restores leases; a failure does not stop the others.
    async fn restore_all(&self, gone: &[RequestId]) -> Result<(), QuotaUnavailable> {
        let (mut done, mut leases) = (Ok(()), 0_u64);
        for some in gone.chunks(RESTORE_BATCH) {
            let calls = some.iter().filter_map(|request| self.local_journal.call(*request));
            let restored = join_all(calls.map(|call| self.restore(call))).await;
            if !restored.is_empty() && restored.iter().all(Result::is_err) {
                return Err(QuotaUnavailable);
            }
            for restored in restored {
                leases += u64::from(*restored.as_ref().unwrap_or(&false));
                done = done.and(restored.map(drop));
            }
        }
        if leases > 0 {
            tracing::warn!(leases, "restored leases that redis lost");
        }
        done
    }

    /// Renews some leases of a partition. Returns the requests whose lease is lost.
    async fn renew_some(
        &self,
        partition: Partition,
        calls: &[Renewal],
    ) -> Result<Vec<RequestId>, QuotaUnavailable> {
        let mut keys = vec![partition.deadlines()];
        let mut arguments = vec![String::new(), milliseconds(self.settings.lease)];
        for call in calls {
            keys.push(partition.lease(call.request));
            arguments.extend([name(call.request), codec::exact(call.observed).to_string()]);
        }
        let client = &self.client;
        let gone =
            client.run(RedisOp::Renew, &client.scripts.renew_leases, &keys, &arguments).await?;
        let gone: HashSet<String> =
            gone.into_iter().filter_map(|value| redis::from_redis_value(value).ok()).collect();
        let requests = calls.iter().map(|call| call.request);
        Ok(requests.filter(|request| gone.contains(&name(*request))).collect())
    }

    /// Restores the lease of a running call, unless it exists or the call has ended. Returns true if Redis had lost it.
    pub(super) async fn restore(&self, call: Call) -> Result<bool, QuotaUnavailable> {
        let lease = &call.lease;
        if self.local_journal.call(lease.request).is_none() {
            return Ok(false);
        }
        let at = Partition::of(lease.user);
        let keys = [
            at.lease(lease.request),
            at.user(lease.user),
            at.key(lease.user, &lease.key),
            at.deadlines(),
            at.accounts(lease.day),
        ];
        let arguments = [
            name(lease.request).into_bytes(),
            Vec::new(),
            milliseconds(self.settings.lease).into_bytes(),
            call.debits.clone(),
            codec::day(lease.day).into_bytes(),
            codec::exact(lease.reserved).to_string().into_bytes(),
            to_json(&abandoned_charge(lease)).into_bytes(),
        ];
        let client = &self.client;
        let reply =
            client.run(RedisOp::Renew, &client.scripts.restore_lease, &keys, &arguments).await?;
        Ok(codec::word(&reply)? == "restored")
    }

    /// Ends expired leases, some at a time, and charges each with all its reserved tokens.
    /// `now` as milliseconds since 1970, `None` = by Redis' own clock.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn reap(&self, now: Option<i64>) -> Result<(), QuotaUnavailable> {
        let unreadable = self.local_journal.unreadable();
        let expired = Partition::all().map(|partition| self.expired(partition, now, &unreadable));
        let expired: Vec<_> = try_join_all(expired).await?.into_iter().flatten().collect();
        let reaped = expired.iter().take(LEASE_BATCH).map(|lease| self.reap_one(lease));
        join_all(reaped).await.into_iter().collect()
    }

    /// Returns leases whose deadline has passed.
    async fn expired(
        &self,
        partition: Partition,
        now: Option<i64>,
        unreadable: &HashSet<RequestId>,
    ) -> Result<Vec<ExpiredLease>, QuotaUnavailable> {
        let now = now.map(|ms| ms.to_string()).unwrap_or_default();
        let arguments = [now, (LEASE_BATCH + unreadable.len()).to_string()];
        let (keys, expired) = ([partition.deadlines()], &self.client.scripts.expired_leases);
        let reply = self.client.run(RedisOp::Renew, expired, &keys, &arguments).await?;
        let mut texts =
            reply.into_iter().filter_map(|value| redis::from_redis_value::<String>(value).ok());
        let now = texts.next().ok_or(QuotaUnavailable)?;
        let requests = texts.filter_map(|text| text.parse().ok().map(RequestId));
        let requests = requests.filter(|request| !unreadable.contains(request));
        Ok(requests.map(|request| ExpiredLease { partition, request, now: now.clone() }).collect())
    }

    async fn reap_one(&self, expired: &ExpiredLease) -> Result<(), QuotaUnavailable> {
        let ExpiredLease { partition, request, now } = expired;
        let client = &self.client;
        let (keys, lease_state) = ([partition.lease(*request)], &client.scripts.lease_state);
        let reply = client.run(RedisOp::Renew, lease_state, &keys, NO_ARGUMENTS).await?;
        let Some(LeaseState { reserved, observed, charge }) = codec::lease_state(&reply)? else {
            return self.drop_deadline(*partition, *request).await;
        };
        let charge: Charge = match serde_json::from_str(charge) {
            Ok(charge) => charge,
            Err(error) => {
                // Left as it is: a gateway of another version may read it.
                if self.local_journal.add_unreadable(*request) {
                    tracing::error!(request_id = %request, %error, entry = charge, "failed to charge an abandoned call");
                }
                return Ok(());
            }
        };
        let tokens = TokenCount { completion: reserved, ..TokenCount::default() };
        let charge = Charge { tokens, ..charge };
        let (keys, arguments) = self.settlement(&charge, EndEvidence::Expired { now });
        let reply = client.run(RedisOp::Settle, &client.scripts.settle, &keys, &arguments).await?;
        let reply = codec::settle_reply(&reply)?;
        if reply.end == SettleEnd::Settled {
            tracing::warn!(request_id = %request, reserved_tokens = reserved, observed_tokens = observed, "charged an abandoned call: its gateway stopped renewing the lease");
            self.local_journal.track(charge, reply.watermark);
        }
        Ok(())
    }

    async fn drop_deadline(
        &self,
        partition: Partition,
        request: RequestId,
    ) -> Result<(), QuotaUnavailable> {
        let (client, drop_deadline) = (&self.client, &self.client.scripts.drop_deadline);
        let keys = [partition.lease(request), partition.deadlines()];
        client.run(RedisOp::Renew, drop_deadline, &keys, &[name(request)]).await?;
        Ok(())
    }
}

/// A lease whose deadline had passed `now`, in milliseconds since 1970.
struct ExpiredLease {
    partition: Partition,
    request: RequestId,
    now: String,
}

fn name(request: RequestId) -> String {
    request.0.simple().to_string()
}
