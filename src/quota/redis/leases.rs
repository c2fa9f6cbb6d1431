//! Leases in Redis: put off while their calls run, brought back when Redis lost them, ended when
//! their gateway died.

use super::calls::Call;
use super::keys::Partition;
use super::wire::{self, SettleEnd};
use super::{RedisCounters, abandoned, milliseconds, written};
use crate::account::charge::{Charge, TokenCount};
use crate::account::id::RequestId;
use crate::quota::counters::CountersError;
use crate::telemetry::labels::RedisOp;
use futures_util::future::try_join_all;

/// Leases taken together.
const AT_ONCE: usize = 500;

impl RedisCounters {
    /// Puts off the deadlines of this gateway's calls.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn renew(&self) -> Result<(), CountersError> {
        for partition in Partition::all() {
            let calls = self.calls.of(partition);
            for some in calls.chunks(AT_ONCE) {
                self.renew_some(partition, some).await?;
            }
        }
        Ok(())
    }

    async fn renew_some(&self, partition: Partition, calls: &[Call]) -> Result<(), CountersError> {
        let lease = milliseconds(self.settings.lease);
        let names = calls.iter().map(|call| name(call.lease.request));
        let arguments: Vec<String> = [String::new(), lease].into_iter().chain(names).collect();
        let link = &self.link;
        let keys = [partition.deadlines()];
        let gone = link.run(RedisOp::Renew, &link.scripts.renew, &keys, &arguments).await?;
        let gone: Vec<String> =
            gone.into_iter().filter_map(|value| redis::from_redis_value(value).ok()).collect();
        for call in calls.iter().filter(|call| gone.contains(&name(call.lease.request))) {
            self.restore(call).await?;
        }
        Ok(())
    }

    /// Brings back the leases of this gateway's calls in a partition.
    pub(super) async fn restore_all(&self, partition: Partition) -> Result<(), CountersError> {
        for call in self.calls.of(partition) {
            self.restore(&call).await?;
        }
        Ok(())
    }

    /// Brings back the lease of a running call, unless it is there or has ended meanwhile.
    async fn restore(&self, call: &Call) -> Result<(), CountersError> {
        let lease = &call.lease;
        if self.calls.call(lease.request).is_none() {
            return Ok(());
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
        if wire::word(&reply)? == "restored" {
            tracing::warn!(request = %lease.request, "brought back a lease that redis had lost");
        }
        Ok(())
    }

    /// Ends leases whose gateway has not renewed them; each is charged with all it holds. `now` as
    /// milliseconds since 1970, `None` = by Redis' own clock.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn reap(&self, now: Option<i64>) -> Result<(), CountersError> {
        let overdue = Partition::all().map(|partition| self.overdue(partition, now));
        for (partition, (now, requests)) in Partition::all().zip(try_join_all(overdue).await?) {
            for request in requests {
                self.reap_one(partition, &request, now).await?;
            }
        }
        Ok(())
    }

    /// The time it was, and the requests whose deadline had passed.
    async fn overdue(
        &self,
        partition: Partition,
        now: Option<i64>,
    ) -> Result<(i64, Vec<String>), CountersError> {
        let now = now.map(|ms| ms.to_string()).unwrap_or_default();
        let arguments = [now, AT_ONCE.to_string()];
        let (keys, overdue) = ([partition.deadlines()], &self.link.scripts.overdue);
        let reply = self.link.run(RedisOp::Renew, overdue, &keys, &arguments).await?;
        let mut texts =
            reply.into_iter().filter_map(|value| redis::from_redis_value::<String>(value).ok());
        let now = texts.next().and_then(|now| now.parse().ok()).ok_or(CountersError)?;
        Ok((now, texts.collect()))
    }

    async fn reap_one(
        &self,
        partition: Partition,
        request: &str,
        now: i64,
    ) -> Result<(), CountersError> {
        let Ok(request) = request.parse().map(RequestId) else { return Ok(()) };
        let link = &self.link;
        let mut ask = redis::cmd("HMGET");
        ask.arg(partition.lease(request)).arg("reserved").arg("charge");
        let (reserved, charge): (Option<u64>, Option<String>) = link.ask(&ask).await?;
        let charge = charge.and_then(|text| serde_json::from_str::<Charge>(&text).ok());
        let (Some(reserved), Some(charge)) = (reserved, charge) else {
            let mut forget = redis::cmd("ZREM");
            forget.arg(partition.deadlines()).arg(name(request));
            return Ok(link.ask(&forget).await?);
        };
        let tokens = TokenCount { completion: reserved, ..TokenCount::default() };
        let charge = Charge { tokens, ..charge };
        let (keys, arguments) = Self::settlement(&charge, Some(now));
        let reply = link.run(RedisOp::Settle, &link.scripts.settle, &keys, &arguments).await?;
        if wire::settle_reply(&reply)?.end == SettleEnd::Settled {
            tracing::warn!(%request, reserved, "charged a call whose gateway is gone");
        }
        Ok(())
    }
}

fn name(request: RequestId) -> String {
    request.0.simple().to_string()
}
