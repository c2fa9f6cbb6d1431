//! Reads the usage of all accounts on a day, for comparison with the ledger and for reports.
//!
//! Reads in batches through the connection for bulk work: Redis executes one command at a time, so a command over
//! all accounts of a partition would delay every take.

use super::RedisQuota;
use super::codec;
use super::keys::{self, Partition};
use crate::backend::QuotaUnavailable;
use domain::day::Day;
use std::collections::HashSet;
use store::Used;

/// Names of accounts requested at once; Redis may return a few more.
const NAMES_BATCH: usize = 200;
/// Accounts read by one command. Takes wait for it, and an account costs Redis a few microseconds.
const ACCOUNTS_BATCH: usize = 25;

impl RedisQuota {
    /// Returns the usage of the accounts of one partition on `day`.
    pub(super) async fn used_in(
        &self,
        partition: Partition,
        day: Day,
    ) -> Result<Vec<Used>, QuotaUnavailable> {
        let accounts = self.accounts(partition, day).await?;
        let mut rows = Vec::with_capacity(accounts.len());
        for some in accounts.chunks(ACCOUNTS_BATCH) {
            let arguments = [codec::day(day)];
            let script = &self.client.scripts.day_usage;
            let reply = self.client.run_bulk(script, some, &arguments).await?;
            let used = codec::day_usage(&reply)?.into_iter().zip(some);
            rows.extend(used.filter_map(|(used, account)| row(account, day, used?)));
        }
        Ok(rows)
    }

    /// Returns the names of the accounts with usage on `day`, each once.
    async fn accounts(
        &self,
        partition: Partition,
        day: Day,
    ) -> Result<Vec<String>, QuotaUnavailable> {
        let (mut names, mut cursor) = (HashSet::new(), 0_u64);
        loop {
            let mut command = redis::cmd("SSCAN");
            command.arg(partition.accounts(day)).arg(cursor).arg("COUNT").arg(NAMES_BATCH);
            let (next, some): (u64, Vec<String>) = self.client.query_bulk(&command).await?;
            names.extend(some);
            cursor = next;
            if cursor == 0 {
                return Ok(names.into_iter().collect());
            }
        }
    }
}

/// The usage of the account with this name.
fn row(account: &str, day: Day, (tokens, requests): (u64, u64)) -> Option<Used> {
    let (user, key) = keys::owner(account)?;
    Some(Used { user, key, day, tokens, requests })
}
