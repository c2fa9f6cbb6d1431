//! Reads the usage of all accounts on a day, for comparison with the ledger and for reports.
//!
//! Reads in batches through the connection for bulk work: Redis executes one command at a time, so a command over
//! all accounts of a partition would delay every take.

use super::RedisQuota;
use super::keys::{self, Partition};
use crate::backend::QuotaUnavailable;
use domain::day::Day;
use futures_util::future::try_join_all;
use std::collections::HashSet;
use store::Used;

/// Names of accounts requested at once; Redis may return a few more.
const NAMES_BATCH: usize = 200;
/// Accounts that are read concurrently.
const ACCOUNTS_BATCH: usize = 50;

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
            let reports = some.iter().map(|account| self.report(account, day));
            rows.extend(try_join_all(reports).await?.into_iter().flatten());
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

    async fn report(&self, account: &str, day: Day) -> Result<Option<Used>, QuotaUnavailable> {
        let Some((user, key)) = keys::owner(account) else { return Ok(None) };
        let mut command = redis::cmd("HMGET");
        command.arg(account).arg(&[format!("{day}:u"), format!("{day}:q"), format!("{day}:o")]);
        let numbers: (Option<u64>, Option<u64>, Option<u64>) =
            self.client.query_bulk(&command).await?;
        let (tokens, Some(requests), open) = numbers else { return Ok(None) };
        let requests = requests.saturating_sub(open.unwrap_or(0));
        Ok(Some(Used { user, key, day, tokens: tokens.unwrap_or(0), requests }))
    }
}
