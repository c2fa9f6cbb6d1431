//! Leases in Redis: renewed while their calls run, restored if Redis lost them, reaped if
//! their gateway died.

use super::calls::{Call, Renewal};
use super::keys::Partition;
use super::wire::{self, SettleEnd};
use super::{Ended, RedisCounters, abandoned, milliseconds, written};
use crate::account::charge::{Charge, TokenCount};
use crate::account::id::RequestId;
use crate::quota::counters::CountersError;
use crate::telemetry::labels::RedisOp;
use futures_util::future::{join_all, try_join_all};
use std::collections::HashSet;

/// Leases renewed by one command, and overdue ones found by one and ended in one round.
const AT_ONCE: usize = 500;
/// Leases restored in one batch: each is a separate command.
const TOGETHER: usize = 200;

impl RedisCounters {
    /// Puts off the deadlines of this gateway's calls, and brings back the leases that are gone.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn renew(&self) -> Result<(), CountersError> {
        self.renew_in(|_| true).await
    }

    /// The same, in some partitions.
    pub(super) async fn renew_in(
        &self,
        is_meant: impl Fn(Partition) -> bool,
    ) -> Result<(), CountersError> {
        let mut running = self.calls.running();
        running.retain(|partition, _| is_meant(*partition));
        let some = running.iter().flat_map(|(partition, calls)| {
            calls.chunks(AT_ONCE).map(|some| self.renew_some(*partition, some))
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

    /// Brings back what Redis may have lost of this gateway's leases in some partitions: also what was
    /// added to those that are there.
    pub(super) async fn restore_in(
        &self,
        partitions: &HashSet<Partition>,
    ) -> Result<(), CountersError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let mut running = self.calls.running();
        running.retain(|partition, _| partitions.contains(partition));
        let running = running.into_values().flatten();
        self.restore_all(&running.map(|call| call.request).collect::<Vec<_>>()).await
    }

    /// Brings back leases; one that cannot be does not keep others from it.
    async fn restore_all(&self, gone: &[RequestId]) -> Result<(), CountersError> {
        let (mut done, mut leases) = (Ok(()), 0_u64);
        for some in gone.chunks(TOGETHER) {
            let calls = some.iter().filter_map(|request| self.calls.call(*request));
            let restored = join_all(calls.map(|call| self.restore(call))).await;
            if !restored.is_empty() && restored.iter().all(Result::is_err) {
                return Err(CountersError);
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

    /// Returns those whose lease is gone.
    async fn renew_some(
        &self,
        partition: Partition,
        calls: &[Renewal],
    ) -> Result<Vec<RequestId>, CountersError> {
        let mut keys = vec![partition.deadlines()];
        let mut arguments = vec![String::new(), milliseconds(self.settings.lease)];
        for call in calls {
            keys.push(partition.lease(call.request));
            arguments.extend([name(call.request), wire::exact(call.so_far).to_string()]);
        }
        let link = &self.link;
        let gone = link.run(RedisOp::Renew, &link.scripts.renew, &keys, &arguments).await?;
        let gone: HashSet<String> =
            gone.into_iter().filter_map(|value| redis::from_redis_value(value).ok()).collect();
        let requests = calls.iter().map(|call| call.request);
        Ok(requests.filter(|request| gone.contains(&name(*request))).collect())
    }

    /// Brings back the lease of a running call, unless it is there or has ended meanwhile. Returns true
    /// if Redis had lost it.
    pub(super) async fn restore(&self, call: Call) -> Result<bool, CountersError> {
        let lease = &call.lease;
        if self.calls.call(lease.request).is_none() {
            return Ok(false);
        }
        let at = Partition::of(lease.user);
        let keys = [
            at.lease(lease.request),
            at.tombstone(lease.request),
            at.user(lease.user),
            at.key(lease.user, &lease.key),
            at.deadlines(),
            at.accounts(lease.day),
        ];
        let arguments = [
            name(lease.request),
            String::new(),
            milliseconds(self.settings.lease),
            call.debits.clone(),
            wire::exact(lease.reserved).to_string(),
            written(&abandoned(lease)),
        ];
        let link = &self.link;
        let reply = link.run(RedisOp::Renew, &link.scripts.restore, &keys, &arguments).await?;
        Ok(wire::word(&reply)? == "restored")
    }

    /// Ends leases whose gateway has not renewed them, some at a time; each is charged with all it
    /// holds. `now` as milliseconds since 1970, `None` = by Redis' own clock.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn reap(&self, now: Option<i64>) -> Result<(), CountersError> {
        let unreadable = self.calls.unreadable();
        let overdue = Partition::all().map(|partition| self.overdue(partition, now, &unreadable));
        let overdue: Vec<_> = try_join_all(overdue).await?.into_iter().flatten().collect();
        let reaped = overdue.iter().take(AT_ONCE).map(|lease| self.reap_one(lease));
        join_all(reaped).await.into_iter().collect()
    }

    /// Leases whose deadline had passed.
    async fn overdue(
        &self,
        partition: Partition,
        now: Option<i64>,
        unreadable: &HashSet<RequestId>,
    ) -> Result<Vec<Overdue>, CountersError> {
        let now = now.map(|ms| ms.to_string()).unwrap_or_default();
        let arguments = [now, (AT_ONCE + unreadable.len()).to_string()];
        let (keys, overdue) = ([partition.deadlines()], &self.link.scripts.overdue);
        let reply = self.link.run(RedisOp::Renew, overdue, &keys, &arguments).await?;
        let mut texts =
            reply.into_iter().filter_map(|value| redis::from_redis_value::<String>(value).ok());
        let now = texts.next().ok_or(CountersError)?;
        let requests = texts.filter_map(|text| text.parse().ok().map(RequestId));
        let requests = requests.filter(|request| !unreadable.contains(request));
        Ok(requests.map(|request| Overdue { partition, request, now: now.clone() }).collect())
    }

    async fn reap_one(&self, overdue: &Overdue) -> Result<(), CountersError> {
        let Overdue { partition, request, now } = overdue;
        let link = &self.link;
        let mut ask = redis::cmd("HMGET");
        ask.arg(partition.lease(*request)).arg(&["reserved", "charge", "so_far"]);
        let (reserved, charge, so_far): (Option<u64>, Option<String>, Option<u64>) =
            link.ask(&ask).await?;
        let (Some(reserved), Some(charge)) = (reserved, charge) else {
            return self.unlist(*partition, *request).await;
        };
        let charge: Charge = match serde_json::from_str(&charge) {
            Ok(charge) => charge,
            Err(error) => {
                // Left as it is: a gateway of another version may read it.
                if self.calls.cannot_read(*request) {
                    tracing::error!(request_id = %request, %error, entry = charge, "failed to charge an abandoned call");
                }
                return Ok(());
            }
        };
        let tokens = TokenCount { completion: reserved, ..TokenCount::default() };
        let charge = Charge { tokens, ..charge };
        let (keys, arguments) = self.settlement(&charge, Ended::Unrenewed { now });
        let reply = link.run(RedisOp::Settle, &link.scripts.settle, &keys, &arguments).await?;
        let reply = wire::settle_reply(&reply)?;
        if reply.end == SettleEnd::Settled {
            tracing::warn!(request_id = %request, reserved_tokens = reserved, observed_tokens = so_far, "charged an abandoned call: its gateway stopped renewing the lease");
            self.calls.remember(charge, reply.told);
        }
        Ok(())
    }

    async fn unlist(&self, partition: Partition, request: RequestId) -> Result<(), CountersError> {
        let (link, unlist) = (&self.link, &self.link.scripts.unlist);
        let keys = [partition.lease(request), partition.deadlines()];
        link.run(RedisOp::Renew, unlist, &keys, &[name(request)]).await?;
        Ok(())
    }
}

/// A lease whose deadline had passed `now`, in milliseconds since 1970.
struct Overdue {
    partition: Partition,
    request: RequestId,
    now: String,
}

fn name(request: RequestId) -> String {
    request.0.simple().to_string()
}
