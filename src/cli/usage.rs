//! `knockx usage verify` compares counters, ledger and rollups; `knockx usage prune` deletes ledger rows of old days.
//!
//! Ledger and rollups change together, so any difference is a fault. Counters of a running gateway
//! are ahead of the ledger by what is being written: a reading takes them before and after the
//! ledger, with time to write in between, and counts only what lies outside of both. What three
//! readings in a row find is a fault.

use super::session::{CliSession, CommonArgs, print_json};
use anyhow::{Context, bail};
use clap::Subcommand;
use domain::actor::AuditContext;
use domain::day::Day;
use domain::id::{KeyId, UserId};
use jiff::ToSpan;
use jiff::tz::TimeZone;
use quota::backend::QuotaBackend;
use quota::redis::RedisQuota;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use store::audit::Change;
use store::{Drift, Used};
use system::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const READINGS: usize = 3;
/// Days before today, in UTC, from which a gateway may rebuild counters.
const COUNTED_DAYS: i32 = 2;
/// A gateway writes a settled call within this time unless its store is away.
const LEDGER_WRITE_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Verify usage records and prune old ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: knockx usage verify --day 2026-11-22")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Compare counters, ledger and rollups of a day. Exit code 1 if they differ, or if there
    /// are dead-lettered entries that never reached the ledger.
    #[command(after_help = "Example: knockx usage verify --day 2026-11-22 --json")]
    Verify {
        /// Day as YYYY-MM-DD; defaults to today (UTC).
        #[arg(long)]
        day: Option<Day>,
    },
    /// Delete ledger rows of old days; daily and hourly rollups are kept.
    #[command(after_help = "Example: knockx usage prune --before 2026-01-01\n\n\
        Gateways may keep running. Recent days are refused, because counters may still need them.")]
    Prune {
        /// First day to keep, as YYYY-MM-DD.
        #[arg(long, value_name = "DAY")]
        before: Day,
    },
}

/// Number of rows that a prune deleted.
#[derive(Debug, Serialize)]
struct Pruned {
    before: Day,
    rows: u64,
}

/// Result of a verification.
#[derive(Debug, Serialize)]
struct Findings {
    day: Day,
    rollups: Vec<Drift>,
    /// True if the day's ledger rows were pruned, so that there is nothing to compare.
    pruned: bool,
    /// Entries of any day that never reached the ledger: charges may be missing from it.
    buried: u64,
    /// `None` when counters were not compared; `note` says why.
    counters: Option<Vec<Difference>>,
    note: Option<String>,
    /// There were counters to compare, and they could not be read.
    unreadable: bool,
}

/// A user or key whose counter and ledger disagree; tokens and requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Difference {
    user: UserId,
    key: Option<KeyId>,
    counter: (u64, u64),
    ledger: (u64, u64),
}

/// Tokens and requests by user and key.
type Totals = BTreeMap<(UserId, Option<KeyId>), (u64, u64)>;

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Verify { day } => run_verify(&args.common, day).await,
        Action::Prune { before } => run_prune(&args.common, before).await,
    }
}

async fn run_prune(common: &CommonArgs, before: Day) -> anyhow::Result<ExitCode> {
    let by = AuditContext::operator(clock::now());
    let newest = Day(Day::at(by.at, &TimeZone::UTC).0.saturating_sub(COUNTED_DAYS.days()));
    if before > newest {
        bail!(
            "cannot prune up to {before}: counters may still need the days from {newest} on; pass {newest} or an earlier day"
        );
    }
    let session = CliSession::open(common).await?;
    let rows =
        session.store.prune_ledger(before, by.at).await.context("cannot prune the ledger")?;
    let noted = session.store.append_audit(&Change::of_prune(before, rows), &by).await;
    noted.context("pruned, but the audit entry could not be written")?;
    session.store.close().await;
    if common.json {
        print_json(&Pruned { before, rows })?;
    } else {
        println!("deleted {rows} ledger rows before {before}; rollups are kept");
    }
    Ok(ExitCode::SUCCESS)
}

async fn run_verify(common: &CommonArgs, day: Option<Day>) -> anyhow::Result<ExitCode> {
    let session = CliSession::open(common).await?;
    let day = day.unwrap_or_else(|| Day::at(clock::now(), &TimeZone::UTC));
    let findings = verify(&session, day).await?;
    if common.json {
        print_json(&findings)?;
    } else {
        findings.print();
    }
    session.store.close().await;
    Ok(if findings.agree() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(session: &CliSession, day: Day) -> anyhow::Result<Findings> {
    let rollups = session.store.rollup_drift(day).await?;
    // Queried only if they differ: a day without calls has nothing to prune.
    let pruned = !rollups.is_empty() && session.store.is_ledger_pruned(day).await?;
    let rollups = if pruned { Vec::new() } else { rollups };
    let buried = session.store.count_dead_letters().await?;
    let (counters, note, unreadable) = match source(session, day).await? {
        Ok(source) => match compare_counters(session, &source, day).await {
            Ok(counters) => (Some(counters), None, false),
            Err(e) => (None, Some(format!("{e:#}")), true),
        },
        Err(why) => (None, Some(why), false),
    };
    Ok(Findings { day, rollups, pruned, buried, counters, note, unreadable })
}

/// Source of the counters to compare with.
enum Source<'a> {
    /// The admin port of the one gateway.
    Gateway(SocketAddr),
    Redis(&'a RedisQuota),
}

/// The source of the counters of `day`, or the reason why there is none.
async fn source(session: &CliSession, day: Day) -> anyhow::Result<Result<Source<'_>, String>> {
    let yesterday = Day::at(clock::now(), &TimeZone::UTC).0.saturating_sub(1.days());
    if day < Day(yesterday) {
        return Ok(Err("gateways only keep the counters of today and yesterday".to_owned()));
    }
    if let Some(shared) = &session.counters {
        return Ok(Ok(Source::Redis(shared)));
    }
    let addr = match session.folder()? {
        Some(folder) => match folder.running_instance() {
            Some(instance) => instance.admin_addr,
            None => return Ok(Err("no gateway is running on this store".to_owned())),
        },
        // With a database server no address is announced: the configured one is used, if it accepts connections.
        None => match session.config.admin_addr {
            Some(addr) if TcpStream::connect(addr).await.is_err() => {
                return Ok(Err(format!("no gateway responds on the admin address {addr}")));
            }
            addr => addr,
        },
    };
    let no_port = || "the running gateway has no admin port; set ADMIN_PORT".to_owned();
    Ok(addr.map(Source::Gateway).ok_or_else(no_port))
}

/// The differences that every reading finds.
async fn compare_counters(
    session: &CliSession,
    source: &Source<'_>,
    day: Day,
) -> anyhow::Result<Vec<Difference>> {
    let mut lasting: Option<Vec<Difference>> = None;
    for _ in 0..READINGS {
        let before = source.counters(day).await?;
        tokio::time::sleep(LEDGER_WRITE_TIMEOUT).await;
        let ledger = totals(session.store.ledger_totals(day).await?);
        let after = source.counters(day).await?;
        let mut found = differences(&before, &ledger, &after);
        if let Some(earlier) = lasting {
            let known =
                |d: &Difference| earlier.iter().any(|e| (e.user, &e.key) == (d.user, &d.key));
            found.retain(known);
        }
        if found.is_empty() {
            return Ok(found);
        }
        lasting = Some(found);
    }
    Ok(lasting.unwrap_or_default())
}

/// Counters only rise, and the ledger follows them: whoever is below `before` lost a charge,
/// whoever is above `after` was charged without being counted. An admin's reset in between looks like
/// both, and is gone from the next reading.
fn differences(before: &Totals, ledger: &Totals, after: &Totals) -> Vec<Difference> {
    let mut owners: Vec<_> = before.keys().chain(ledger.keys()).chain(after.keys()).collect();
    owners.sort();
    owners.dedup();
    let of = |totals: &Totals, owner| totals.get(owner).copied().unwrap_or_default();
    let outside = |value, low, high| value < low || value > high;
    owners
        .into_iter()
        .filter_map(|owner| {
            let (low, written, high) = (of(before, owner), of(ledger, owner), of(after, owner));
            let differs = outside(written.0, low.0, high.0) || outside(written.1, low.1, high.1);
            let (user, key) = owner.clone();
            differs.then_some(Difference { user, key, counter: high, ledger: written })
        })
        .collect()
}

impl Source<'_> {
    async fn counters(&self, day: Day) -> anyhow::Result<Totals> {
        match self {
            Self::Gateway(addr) => of_gateway(*addr, day).await,
            Self::Redis(counters) => {
                Ok(totals(counters.used_on(day).await.context("cannot read the counters")?))
            }
        }
    }
}

async fn of_gateway(addr: SocketAddr, day: Day) -> anyhow::Result<Totals> {
    let answer =
        tokio::time::timeout(RESPONSE_TIMEOUT, get(addr, &format!("/debug/quota?day={day}")))
            .await
            .map_err(|_| anyhow::anyhow!("no response in 10 s"))
            .flatten()
            .with_context(|| format!("cannot read the counters of the gateway at {addr}"))?;
    let used: Vec<Used> =
        serde_json::from_slice(&answer).context("the response is not valid JSON")?;
    Ok(totals(used))
}

/// Users and keys without any use are left out: a counter may remember them, a ledger does not.
fn totals(used: Vec<Used>) -> Totals {
    let total = |used: Used| ((used.user, used.key), (used.tokens, used.requests));
    used.into_iter().map(total).filter(|(_, sums)| *sums != (0, 0)).collect()
}

/// Sends one request to the gateway's admin port. HTTP/1.0, so the body ends with the connection.
async fn get(addr: SocketAddr, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await?;
    let request =
        format!("GET {path} HTTP/1.0\r\nhost: {addr}\r\naccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("the response is not HTTP")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "it responded with status {status}");
    Ok(answer.split_off(end + 4))
}

impl Findings {
    fn agree(&self) -> bool {
        !self.unreadable
            && self.rollups.is_empty()
            && self.buried == 0
            && self.counters.as_ref().is_none_or(Vec::is_empty)
    }

    fn print(&self) {
        for Drift { user, ledger, rollup, .. } in &self.rollups {
            println!("user {user}: ledger {} and rollup {}", sums(*ledger), sums(*rollup));
        }
        for Difference { user, key, counter, ledger } in self.counters.iter().flatten() {
            let key = key.as_ref().map_or(String::new(), |key| format!(" key {key}"));
            println!("user {user}{key}: ledger {} and counter {}", sums(*ledger), sums(*counter));
        }
        if self.buried > 0 {
            let entries = if self.buried == 1 { "entry" } else { "entries" };
            let count = self.buried;
            println!(
                "{count} {entries} could not be written to the ledger; see the table usage_dead"
            );
        }
        if let Some(why) = &self.note {
            println!("counters were not compared: {why}");
        }
        if self.pruned {
            println!(
                "{}: ledger rows were pruned (`knockx usage prune`); rollups are kept",
                self.day
            );
            return;
        }
        let what = if self.counters.is_some() { "counters, ledger" } else { "ledger" };
        if self.agree() {
            println!("{}: {what} and rollups agree", self.day);
        }
    }
}

fn sums((tokens, requests): (u64, u64)) -> String {
    format!("{tokens} tokens in {requests} requests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals_of(user: UserId, tokens: u64) -> Totals {
        let day = Day(jiff::civil::date(2026, 1, 2));
        totals(vec![Used { user, key: None, day, tokens, requests: 1 }])
    }

    #[test]
    fn what_is_being_written_is_no_difference() {
        let user = UserId::new();
        let (before, ledger, after) =
            (totals_of(user, 10), totals_of(user, 15), totals_of(user, 20));
        assert_eq!(differences(&before, &ledger, &after), []);
    }

    #[test]
    fn lost_and_uncounted_charges_are_differences() {
        let user = UserId::new();
        let counter = totals_of(user, 10);
        for ledger in [totals_of(user, 9), totals_of(user, 11), Totals::new()] {
            assert_eq!(differences(&counter, &ledger, &counter).len(), 1);
        }
        assert_eq!(differences(&Totals::new(), &counter, &Totals::new()).len(), 1);
    }
}
