//! `knockx migrate`: brings the store's tables up to date, and does nothing else.

use super::config_arg::ConfigArg;
use anyhow::Context;
use domain::day::Day;
use jiff::tz::TimeZone;
use std::process::ExitCode;
use system::clock;

/// Apply pending database migrations; `serve` also does this at start.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example: DATABASE_URL=postgres://... SECRET_KEY=... knockx migrate")]
pub struct Args {
    #[command(flatten)]
    pub(super) config: ConfigArg,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    // Opening is what migrates: no command ever works on tables of another version.
    let store = store::open(&config.database).await.context("cannot open the database")?;
    let today = Day::at(clock::now(), &TimeZone::UTC);
    store.create_partitions(today).await.context("cannot prepare the ledger")?;
    store.close().await;
    println!("the database schema is up to date");
    Ok(ExitCode::SUCCESS)
}
